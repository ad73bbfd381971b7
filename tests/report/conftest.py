"""A small run folder and its summary, with numbers that are easy to find again in the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sealegs.report.summary import (
    Arm,
    BundleSummary,
    DataSummary,
    Film,
    LabelBin,
    LabelSummary,
    RewardSummary,
    RosSummary,
    Stage,
    Strip,
    Summary,
    Timing,
)
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "frames").mkdir(parents=True)
    for k in range(12):
        Image.new("RGB", (16, 12), (20 * k, 80, 120)).save(folder / "frames" / f"{k}.jpg")
    return folder


@pytest.fixture
def summary(run_dir: Path) -> Summary:
    frames = tuple(f"frames/{k}.jpg" for k in range(12))
    curve = ({"update": 0, "success": 0.0, "value_loss": 2.0}, {"update": 500, "success": 0.875, "value_loss": 0.25})
    return Summary(
        name="demo",
        version="9.8.7",
        started="2026-11-21 00:10 UTC",
        command="./sealegs demo",
        seconds=753.0,
        robot="so101",
        task="drawer",
        task_text="open the <drawer> & wait",
        arguments={"task": "drawer", "quick": False},
        machine={"cpu": "two cores"},
        versions={"torch": "2.13.0"},
        stages=(Stage(name="collect", seconds=61.25, details={"episodes": 207}),),
        data=DataSummary(
            bags=211,
            episodes=212,
            rows=41234,
            recorded_live=5,
            success_rate=0.171,
            outcomes={"success": 36, "failure": 176},
            operators={"scripted": 43},
        ),
        labels=LabelSummary(
            judge="embedded",
            pairs=4003,
            abstained=617,
            accuracy=0.921,
            interval=(0.911, 0.93),
            bins=(
                LabelBin(low=0.0, high=0.5, pairs=3001, abstained=600, accuracy=0.8125, interval=(0.79, 0.84)),
                LabelBin(low=0.5, high=1.0, pairs=1002, abstained=17, accuracy=None),
            ),
        ),
        reward=RewardSummary(
            name="judge",
            members=3,
            held_out_accuracy=0.942,
            spearman=0.913,
            pearson=0.871,
            strips=(
                Strip(
                    episode=12,
                    outcome="success",
                    times_s=(0.0, 1.0, 2.0),
                    reward=(-1.0, 0.0, 1.0),
                    spread=(0.1, 0.2, 0.3),
                    progress=(0.0, 0.5, 1.0),
                    frames=frames,
                ),
            ),
        ),
        arms=(
            Arm(
                name="IQL judge",
                learner="iql",
                reward="judge",
                updates=500,
                seconds=83.5,
                curve=curve,
                successes=91,
                episodes=100,
                rate=0.91,
                interval=(0.838, 0.952),
            ),
            Arm(name="BC", learner="bc", successes=25, episodes=100, rate=0.25, interval=(0.176, 0.343)),
        ),
        bundle=BundleSummary(
            path="policy.bundle", digest="ab" * 32, key_id="1234abcd", export_difference=3.1e-7, export_inputs=10000
        ),
        ros=RosSummary(
            episodes=20,
            successes=18,
            rate=0.9,
            interval=(0.699, 0.972),
            control_rate_hz=50.0,
            command_latency=Timing.of([1.0, 2.0, 3.0, 4.0, 9.5]),
            films=(Film(frames=frames, caption="episode three"),),
        ),
        claims=(
            Claim("judge over true", 0.968, ">= 0.9", Interval(0.94, 0.99)),
            Claim("p99 latency, ms", 12.5, "<= 10"),
        ),
    )
