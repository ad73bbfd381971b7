"""The transformers judge on tiny models from local folders, through AutoProcessor and AutoModelForImageTextToText."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.base import compare_all
from sealegs_learning.judge.label import LabelOptions, label_dataset
from sealegs_learning.judge.prompts import stage_one, stage_two
from sealegs_learning.judge.transformers_judge import TransformersConfig, TransformersJudge

from .conftest import TEMPLATE, WORDS, word_tokenizer

TASK = "make it bright"


def judge_of(folder: Path) -> TransformersJudge:
    return TransformersJudge(TransformersConfig(str(folder), prose_tokens=6, answer_tokens=3))


def prefer(judge: TransformersJudge, word: str) -> None:
    """Make the model say `word`, whatever it sees: only that row of the output layer is not zero."""
    hidden = []
    head = judge._model.lm_head
    handle = head.register_forward_hook(lambda _, inputs, __: hidden.append(inputs[0][0, -1].detach()))
    with torch.inference_mode():
        judge._model(**judge._inputs(stage_two(TASK, ""), ()))
    handle.remove()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[WORDS.index(word)] = 2.0 * hidden[0] / hidden[0].norm() ** 2 * 10.0


def test_probabilities_are_those_of_the_model(tiny_llava, frames):
    """The soft label equals P(1) / (P(0) + P(1)) computed from the model by hand."""
    judge = judge_of(tiny_llava)
    pair = (frames[1], frames[8])
    with torch.inference_mode():
        first = judge._inputs(stage_one(TASK), pair)
        prose = judge._model.generate(**first, max_new_tokens=6, do_sample=False)[0, first["input_ids"].shape[1] :]
        text = judge._processor.tokenizer.decode(prose, skip_special_tokens=True).strip()
        logits = judge._model(**judge._inputs(stage_two(TASK, text), ())).logits[0, -1]
    p = torch.softmax(logits.float(), -1)
    zero, one, minus = p[7], p[8], p[9] + p[10]
    (answer,) = compare_all(judge, TASK, [pair])
    assert answer.provenance.detail == text
    assert answer.provenance.queries == 2
    if zero + one + minus >= 0.5 and minus < max(zero, one):
        assert answer.probability_b_better == pytest.approx(float(one / (zero + one)), abs=1e-5)
    else:
        assert answer.abstain


@pytest.mark.parametrize(("word", "p"), [("1", 1.0), ("0", 0.0)])
def test_a_model_that_is_sure(tiny_llava, frames, word, p):
    judge = judge_of(tiny_llava)
    prefer(judge, word)
    (answer,) = compare_all(judge, TASK, [(frames[1], frames[8])])
    assert answer.status == "ok"
    assert answer.probability_b_better == pytest.approx(p, abs=0.01)


def test_a_tie_and_an_answer_that_cannot_be_read(tiny_llava, frames):
    judge = judge_of(tiny_llava)
    prefer(judge, "-1")
    assert compare_all(judge, TASK, [(frames[1], frames[8])])[0].status == "tie"
    prefer(judge, "better")
    (answer,) = compare_all(judge, TASK, [(frames[1], frames[8])])
    assert answer.status == "malformed"
    assert "better" in answer.raw


def test_position_bias_ends_in_an_error_not_in_labels(tiny_llava, bright_dataset):
    """A model that always names the second image contradicts itself when the order is swapped."""
    judge = judge_of(tiny_llava)
    prefer(judge, "1")
    with pytest.raises(JudgeError, match="disagreement 4"):
        label_dataset(bright_dataset, judge, LabelOptions("biased", pairs=4))
    assert not (bright_dataset.path / "labels" / "biased.parquet").exists()


def test_the_identity_follows_the_weights(tiny_llava, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_llava, copy)
    assert judge_of(copy).identity == judge_of(tiny_llava).identity
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-4] + b"\x00\x00\x00\x40")
    assert judge_of(copy).identity != judge_of(tiny_llava).identity


def test_idefics3(tmp_path, frames):
    """A second architecture, with image splitting and its own placeholder tokens."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]}
    )
    torch.manual_seed(0)
    config = Idefics3Config(
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        text_config={
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "pad_token_id": 0,
            "max_position_embeddings": 4096,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )  # fmt: skip
    Idefics3ForConditionalGeneration(config).save_pretrained(tmp_path)
    images = Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE).save_pretrained(tmp_path)
    answers = compare_all(judge_of(tmp_path), TASK, [(frames[0], frames[9]), (frames[9], frames[0])])
    assert len(answers) == 2
    assert all(a.provenance.queries == 2 and a.provenance.prompt_tokens > 50 for a in answers)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, tiny_llava):
    with pytest.raises(JudgeError, match="does not load as an image-text-to-text model"):
        judge_of(tmp_path)
    if torch.cuda.is_available():
        return
    with pytest.raises(JudgeError, match="no CUDA device"):
        TransformersJudge(TransformersConfig(str(tiny_llava), device="cuda:0"))


def test_a_model_that_needs_torchvision_says_so(monkeypatch, tiny_llava):
    """Smaller video models import torchvision in their processors; the message must name the fix."""
    import transformers

    def refuse(*_: object, **__: object) -> None:
        raise ImportError("SmolVLMVideoProcessor requires the Torchvision library but it was not found")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", refuse)
    with pytest.raises(JudgeError, match="pip install torchvision"):
        judge_of(tiny_llava)


def test_a_frame_that_is_no_image(tiny_llava, frames):
    from sealegs_learning.judge.base import Frame

    with pytest.raises(JudgeError, match="frame 5: not an image"):
        compare_all(judge_of(tiny_llava), TASK, [(frames[0], Frame(b"no jpeg", 5))])
