"""The embedded judge's model: format, recognition of tasks, scores; losses and geometry against hand arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sealegs_contract.errors import JudgeError
from sealegs_contract.pixels import decode_rgb
from sealegs_learning.judge.base import Frame, compare_all
from sealegs_learning.judge.embedded.processing import build_tokenizer, normalise, resize
from sealegs_learning.judge.embedded_judge import EmbeddedJudge, probability_b_better, shipped_model
from sealegs_learning.judge.training import losses
from sealegs_learning.judge.training.card import card
from sealegs_learning.judge.training.sentences import HELD_OUT, HELD_OUT_NOT_OURS, training_sentences, tuning_sentences
from sealegs_learning.judge.training.sentences import other_sentences as others
from sealegs_learning.judge.training.views import aim, look_at, new_colour, orbit


@pytest.fixture(scope="module")
def judge() -> EmbeddedJudge:
    return EmbeddedJudge()


def test_the_shipped_model_is_small_and_in_hugging_face_format():
    folder = shipped_model()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= {
        path.name for path in folder.iterdir()
    }


def test_the_model_card_states_what_was_measured():
    """The card is made from training.json and docs/results: nothing in it is typed, and it is up to date."""
    folder = shipped_model()
    results = json.loads((Path(__file__).parents[3] / "docs" / "results" / "embedded_judge.json").read_text())
    training, config = (json.loads((folder / name).read_text()) for name in ("training.json", "config.json"))
    assert (folder / "README.md").read_text() == card(training, config, results, folder)
    assert results["judges"]["shipped"] == EmbeddedJudge().identity, "measured on another model than the shipped one"
    assert all(claim["holds"] for claim in results["claims"])


def test_it_loads_through_the_auto_classes_with_equal_scores(judge, frames):
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained(shipped_model()).eval()
    processor = AutoProcessor.from_pretrained(shipped_model())
    images = [decode_rgb(frame.jpeg) for frame in frames]
    with torch.inference_mode():
        scores = model(**processor(text=["open the drawer"], images=images)).scores[:, 0]
    assert judge.scores("open the drawer", frames) == pytest.approx(scores.numpy(), abs=1e-5)


def test_a_saved_copy_gives_the_same_answers(judge, frames, tmp_path):
    judge._model.save_pretrained(tmp_path)
    judge._processor.save_pretrained(tmp_path)
    copy = EmbeddedJudge(tmp_path)
    assert (copy.scores("open the drawer", frames) == judge.scores("open the drawer", frames)).all()


def test_it_recognises_its_tasks_and_refuses_others(judge):
    tuning = tuning_sentences()
    for k, name in enumerate(judge._model.config.task_names):
        assert judge.recognise(judge.supported_tasks[k])[0] == k
        for sentence in training_sentences()[name][:12]:
            assert judge.recognise(sentence)[0] == k, sentence
    for sentence in [*tuning[""], "close the drawer", "wash the dishes", ""]:
        if sentence:
            assert not judge.supports(sentence), sentence
    with pytest.raises(JudgeError, match="does not know the task 'close the drawer'"):
        judge.scores("close the drawer", [])


def test_every_frame_is_encoded_once(frames):
    judge = EmbeddedJudge()
    encoded = []
    original = judge._model.get_image_features
    judge._model.get_image_features = lambda pixels: (encoded.append(len(pixels)), original(pixels))[1]
    pairs = [(a, b) for a in frames for b in frames if a is not b]
    compare_all(judge, "open the drawer", pairs)
    compare_all(judge, "push the red cube onto the green zone", pairs)
    assert sum(encoded) == len(frames)


def test_small_differences_abstain(frames):
    pairs = [(a, b) for a in frames for b in frames if a is not b]
    sure, forced = EmbeddedJudge(minimum_confidence=0.9), EmbeddedJudge(minimum_confidence=0.5)
    decided = compare_all(forced, "open the drawer", pairs)
    for one, other in zip(compare_all(sure, "open the drawer", pairs), decided, strict=True):
        p = other.probability_b_better
        assert one.abstain == (max(p, 1 - p) < 0.9)
        assert not other.abstain
        a, b = map(float, other.raw.split())
        assert p == pytest.approx(1 / (1 + math.exp(-(b - a) / forced._model.config.score_temperature)), abs=0.02)
    assert sure.identity != forced.identity
    with pytest.raises(JudgeError, match=r"\[0.5, 1\)"):
        EmbeddedJudge(minimum_confidence=1.0)


def test_probability_by_hand_without_overflow():
    assert probability_b_better(0.1, 0.2, 0.1) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert probability_b_better(0.0, 1e6, 1e-3) == 1.0
    assert probability_b_better(1e6, 0.0, 1e-3) == 0.0


def test_bad_folders_and_frames(judge, tmp_path):
    with pytest.raises(JudgeError, match="holds no embedded judge"):
        EmbeddedJudge(tmp_path)
    with pytest.raises(JudgeError, match="not a readable image"):
        judge.scores("open the drawer", [Frame(b"no jpeg", 3)])


def test_pixels_by_hand():
    image = Image.fromarray(np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3))
    assert (resize(image, 4, 8) == np.asarray(image)).all()
    values = normalise(np.array([[[[0, 127, 255]]]], dtype=np.uint8))
    assert values.shape == (1, 3, 1, 1)
    assert values[0, :, 0, 0] == pytest.approx([-2.0, (127 / 255 - 0.5) / 0.25, 2.0])


def test_the_tokenizer_knows_its_words():
    tokenizer = build_tokenizer(["open the drawer", "Push the Cube!"], 8)
    assert len(tokenizer) == 2 + 6
    assert tokenizer("OPEN the cube").input_ids == tokenizer("open the cube").input_ids
    assert tokenizer("open sesame").input_ids[1] == tokenizer.unk_token_id
    assert len(tokenizer(" ".join(["open"] * 20), truncation=True).input_ids) == 8


def test_sentences_do_not_leak():
    trained = {s for ours in training_sentences().values() for s in ours} | set(others())
    tuned = {s for ours in tuning_sentences().values() for s in ours}
    held = {s for ours in HELD_OUT.values() for s in ours} | set(HELD_OUT_NOT_OURS)
    assert not trained & held
    assert not tuned & held
    assert not trained & tuned
    assert not {s for ours in training_sentences().values() for s in ours} & set(others())


def test_bradley_terry_by_hand():
    scores = torch.tensor([[0.1], [0.3], [0.2]])
    progress = torch.tensor([0.0, 1.0, 0.05])
    # Pairs further than 0.1 apart: (1, 0) and (1, 2).
    expected = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0))) / 2
    assert float(losses.bradley_terry(scores, progress, 0.1, 0.1)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.bradley_terry(scores, torch.zeros(3), 0.1, 0.1)) == 0.0


def test_regressions_by_hand():
    # Smooth L1 below beta: d^2 / (2 beta); above: d - beta / 2.
    scores, progress = torch.tensor([[0.55, 0.9]]), torch.tensor([0.5])
    expected = (0.05**2 / 0.2 + (0.4 - 0.05)) / 2
    assert float(losses.progress_regression(scores, progress)) == pytest.approx(expected, rel=1e-5)
    predicted, target = torch.tensor([[0.0, 5.0]]), torch.tensor([[1.0, math.nan]])
    assert float(losses.position_regression(predicted, target)) == pytest.approx(1.0 - 0.25)


def test_cameras_look_where_they_should():
    centre, position = np.array([0.2, 0.0, 0.05]), np.array([0.6, -0.5, 0.4])
    rotation = look_at(position, centre, 0.0)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert aim(position, rotation) == pytest.approx(centre)
    assert rotation[2, 0] == pytest.approx(0.0), "without roll, the image's x axis is level"
    same = orbit(position, centre, 0.0, 0.0, 1.0)
    assert same == pytest.approx(position)
    turned = orbit(position, centre, math.pi / 2, 0.0, 2.0)
    offset = position - centre
    assert turned - centre == pytest.approx(2.0 * np.array([-offset[1], offset[0], offset[2]]))


def test_named_colours_keep_their_hue():
    import colorsys

    rng = np.random.default_rng(0)
    green = np.array([0.1, 0.72, 0.25])
    hue = colorsys.rgb_to_hsv(*green)[0]
    for _ in range(50):
        changed = new_colour(green, True, rng)
        assert abs(colorsys.rgb_to_hsv(*changed)[0] - hue) <= 0.0401
        assert (changed >= 0).all()
        assert (changed <= 1).all()
