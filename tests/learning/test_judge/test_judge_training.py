"""Frames, training and evaluation of the embedded judge, small but whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from sealegs.cli import main
from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.embedded_judge import EmbeddedJudge
from sealegs_learning.judge.training.frames import SEED_BASE, FrameRequest, choose_frames, frames
from sealegs_learning.judge.training.train import JudgeTrainConfig, quick, schedule, train_judge
from sealegs_learning.statistics import wilson_interval

REQUEST = FrameRequest("drawer", "train", 2, 4, ("front", "training_camera"))
TINY = replace(
    quick(JudgeTrainConfig()), episodes=3, tune_episodes=3, frames_per_episode=4, steps=6, checkpoint_every=2
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("judge")


def test_frames_are_cached_and_belong_to_their_progress(work):
    first = frames(REQUEST, work / "frames")
    assert len(first) == 2 * 4 * 2
    assert list(np.unique(first.setup)) == [0, 1, 2, 3]
    assert (first.episode == first.setup // 2).all()
    assert first.progress[first.setup == 0] == pytest.approx(first.progress[first.setup == 1])
    files = {path: path.stat().st_mtime_ns for path in (work / "frames").iterdir()}
    again = frames(REQUEST, work / "frames")
    assert {path: path.stat().st_mtime_ns for path in (work / "frames").iterdir()} == files
    assert again.jpeg == first.jpeg
    assert (again.progress == first.progress).all()


def test_front_frames_are_those_of_the_robot_node():
    """The same start through the backend of the robot node gives the very same JPEG."""
    from sealegs_contract.robot import load_robot
    from sealegs_sim.backend import MujocoBackend
    from sealegs_sim.env import SealegsEnv
    from sealegs_sim.render import SceneRenderer, jpeg

    env = SealegsEnv("drawer")
    env.reset(seed=7)
    data = env.simulation.data
    with SceneRenderer(env.scene) as renderer:
        ours = jpeg(renderer.render_state(data.qpos, "front", data.mocap_pos, data.mocap_quat))
    backend = MujocoBackend(load_robot("so101"), "drawer", seed=7)
    backend.connect()
    backend.reset(7)
    (image,) = backend.images(["front"])
    backend.close()
    assert image.data == ours


def test_splits_never_share_a_seed():
    bases = sorted(SEED_BASE.values())
    assert min(np.diff(bases)) >= 1_000_000


def test_chosen_frames_are_different_and_spread():
    progress = np.concatenate([np.full(190, 0.1), np.linspace(0.1, 1.0, 11)])
    rng = np.random.default_rng(0)
    spread = choose_frames(progress, 10, rng, spread=True)
    plain = choose_frames(progress, 10, rng, spread=False)
    for chosen in (spread, plain):
        assert len(set(chosen.tolist())) == 10
    assert (progress[spread] > 0.2).sum() >= 4


def test_the_learning_rate_warms_up_and_ends_at_zero():
    assert schedule(0, 100) == pytest.approx(0.2)
    assert schedule(5, 100) == pytest.approx(1.0)
    assert schedule(52, 100) == pytest.approx(0.5 * (1 + np.cos(np.pi * 47 / 95)))
    assert schedule(99, 100) < 1e-3


class StopError(Exception):
    pass


def test_a_stopped_training_goes_on_bit_exact(work):
    whole = train_judge(work / "whole", work, TINY)
    assert whole["resumed_from_step"] == 0

    from sealegs_learning.judge.training import train as module

    steps = []
    original = module.Trainer.step

    def step(self, number):
        if number == 5 and not steps:
            steps.append(number)
            raise StopError
        return original(self, number)

    module.Trainer.step = step
    try:
        with pytest.raises(StopError):
            train_judge(work / "resumed", work, TINY)
        resumed = train_judge(work / "resumed", work, TINY)
    finally:
        module.Trainer.step = original
    assert resumed["resumed_from_step"] == 4
    one, other = load_file(work / "whole" / "model.safetensors"), load_file(work / "resumed" / "model.safetensors")
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert not (work / "training.pt").exists()
    assert EmbeddedJudge(work / "whole").supported_tasks


def test_a_checkpoint_that_is_none_is_refused(work):
    (work / "training.pt").write_bytes(b"junk")
    with pytest.raises(JudgeError, match="remove it to start over"):
        train_judge(work / "x", work, TINY)
    (work / "training.pt").unlink()


def test_evaluation_writes_claims_that_are_computed(work, capsys):
    arguments = ["--episodes", "3", "--pairs", "60", "--out", str(work / "results"), "--work", str(work)]
    assert main(["judge", "evaluate", *arguments, "--tasks", "drawer", "--suites", "episodes", "paraphrases"]) == 0
    out = capsys.readouterr().out
    results = json.loads((work / "results" / "embedded_judge.json").read_text())
    assert (work / "results" / "embedded_judge.png").stat().st_size > 5000
    (claim,) = results["claims"]
    assert claim["target"] == ">= 0.9"
    assert claim["holds"] == (claim["value"] >= 0.9)
    assert ("holds" if claim["holds"] else "FAILS") in out
    rows = [
        r for r in results["rows"] if (r["mode"], r["suite"], r["range"]) == ("forced", "episodes", "clearly_apart")
    ]
    assert rows[0]["correct"] / rows[0]["pairs"] == pytest.approx(claim["value"])
    assert claim["interval"] == rows[0]["right_interval"]
    pairs_alone = wilson_interval(rows[0]["correct"], rows[0]["pairs"])
    low, high = claim["interval"]
    assert low <= pairs_alone.low
    assert high >= pairs_alone.high
    bins = [r for r in results["rows"] if (r["mode"], r["suite"], r["range"]) == ("forced", "episodes", "bin")]
    assert len(bins) == 10
    assert sum(r["pairs"] for r in bins[1:]) == rows[0]["pairs"]
    assert len(results["sentences"]) == 40
    assert main(["judge", "evaluate", *arguments, "--suites", "mars"]) == 2
