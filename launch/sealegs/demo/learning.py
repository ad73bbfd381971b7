"""Stages that learn: labels, reward, policies and their evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sealegs.demo.context import Context
from sealegs.demo.settings import ARMS, EVALUATION_SEED, JUDGE_REWARD, TRAINING, Arm
from sealegs.demo.stages import Details
from sealegs_contract.errors import LearningError

LABELS = "embedded"
CAMERA = "front"
STRIP_FRAMES = 12
POLL_S = 0.25


def label(context: Context) -> Details:
    """Ask the embedded judge about pairs of frames."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.judge.label import LabelOptions, label_dataset
    from sealegs_learning.judge.make import make_judge

    dataset = Dataset.open(context.dataset)
    judge = make_judge("embedded")
    options = LabelOptions(name=LABELS, camera=CAMERA, pairs=context.settings.pairs, seed=context.settings.seed)
    with context.bar("asking the judge") as advance:
        report = label_dataset(dataset, judge, options, on_progress=advance).report
    accuracy = report["accuracy"]
    apart = accuracy["clearly_apart"]
    return {
        "labels": {
            "judge": judge.identity,
            "pairs": report["pairs"],
            "abstained": int(report["pairs"] - report["counts"]["ok"]),
            "accuracy": apart["accuracy"],
            "interval": apart["interval"],
            "bins": [_bin(row) for row in accuracy["bins"] if row["pairs"]],
        }
    }


def _bin(row: dict[str, Any]) -> dict[str, Any]:
    known = {"accuracy": row["accuracy"], "interval": row["interval"]} if row["labelled"] else {}
    return (
        {"low": row["low"], "high": row["high"], "pairs": row["pairs"]}
        | known
        | {"abstained": row["pairs"] - row["labelled"]}
    )


def reward(context: Context) -> Details:
    """Fit the reward ensemble to the labels and score every frame."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.reward.learn import learn_reward
    from sealegs_learning.training.config import RewardConfig

    config = RewardConfig(
        context.dataset, LABELS, JUDGE_REWARD, epochs=context.settings.reward_epochs, seed=context.settings.seed
    )
    with context.bar("fitting the reward") as advance:
        report = learn_reward(config, lambda _stage, done, total, _figures: advance(done, total))
    order = report.order or {}
    return {
        "reward": {
            "name": report.name,
            "members": config.members,
            "held_out_accuracy": report.fit.held_out_accuracy,
            "spearman": order.get("spearman"),
            "pearson": order.get("pearson"),
            "strips": strips(context, Dataset.open(context.dataset)),
        }
    }


def strips(context: Context, dataset: Any) -> list[dict[str, Any]]:
    """Reward beside true progress and camera frames: the best, the median and the worst episode by final progress."""
    from sealegs_learning.reward.builtin import true_progress
    from sealegs_learning.reward.sidecar import read_reward

    learned, truth = read_reward(dataset, JUDGE_REWARD), true_progress(dataset)
    final = np.array([truth[e.start + e.length - 1] for e in dataset.episodes])
    order = np.argsort(final, kind="stable")
    chosen = dict.fromkeys(int(order[k]) for k in (-1, len(order) // 2, 0))
    folder = context.run / "strips"
    folder.mkdir(exist_ok=True)
    found = []
    for number in chosen:
        episode = dataset.episodes[number]
        rows = np.arange(episode.start, episode.start + episode.length)
        shown = rows[np.linspace(0, len(rows) - 1, min(STRIP_FRAMES, len(rows))).astype(int)]
        files = []
        for row, image in zip(shown, dataset.images(CAMERA, shown.tolist()), strict=True):
            path = folder / f"episode{episode.index:04d}_{row - episode.start:04d}.jpg"
            path.write_bytes(image)
            files.append(str(path.relative_to(context.run)))
        times = dataset.timestamp[rows] - dataset.timestamp[rows[0]]
        found.append(
            {
                "episode": episode.index,
                "outcome": str(episode.outcome),
                "times_s": times.tolist(),
                "reward": learned.mean[rows].tolist(),
                "spread": learned.spread[rows].tolist(),
                "progress": truth[rows].tolist(),
                "frames": files,
                "frame_times_s": (dataset.timestamp[shown] - dataset.timestamp[rows[0]]).tolist(),
            }
        )
    return found


def train(context: Context) -> Details:
    """Train every arm, `jobs` at a time, each in a process of its own on one thread."""
    waiting, running = list(ARMS), dict[str, subprocess.Popen[bytes]]()
    seconds: dict[str, float] = {}
    with context.progress() as progress:
        bars = {arm.name: progress.add_task(arm.label, total=context.settings.policy_updates) for arm in ARMS}
        try:
            while waiting or running:
                while waiting and len(running) < context.settings.jobs:
                    arm = waiting.pop(0)
                    running[arm.name] = _start_training(context, arm)
                    seconds[arm.name] = time.monotonic()
                time.sleep(POLL_S)
                for name, process in list(running.items()):
                    progress.update(bars[name], completed=_updates_done(context.arm(name)))
                    if process.poll() is not None:
                        _check_training(context, name, process.returncode)
                        seconds[name] = round(time.monotonic() - seconds[name], 2)
                        del running[name]
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    return {"arm_seconds": seconds}


def _start_training(context: Context, arm: Arm) -> subprocess.Popen[bytes]:
    settings, out = context.settings, context.arm(arm.name)
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sealegs", "train", "--dataset", str(context.dataset), "--out", str(out)]
    command += ["--learner", arm.learner, "--reward", arm.reward, "--updates", str(settings.policy_updates), *TRAINING]
    command += ["--seed", str(settings.seed), "--log-every", str(max(50, settings.policy_updates // 60))]
    if settings.curve_points:
        command += ["--evaluate-every", str(settings.policy_updates // settings.curve_points)]
    if (out / "checkpoint").is_dir():
        command.append("--resume")
    # A file, not a pipe: nobody reads while it runs.
    with (out / "train.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _check_training(context: Context, name: str, code: int) -> None:
    if code:
        log = context.arm(name) / "train.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise LearningError(
            f"training arm {name!r} ended with code {code}: {lines[-1] if lines else 'no output'} ({log})"
        )


def curve(folder: Path) -> list[dict[str, float]]:
    """Rows of train.jsonl; a last line that is still being written is left out."""
    path = folder / "train.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _updates_done(folder: Path) -> int:
    rows = curve(folder)
    return int(rows[-1]["update"]) if rows else 0


def evaluate(context: Context) -> Details:
    """Success of every arm on the same starts, with Wilson intervals."""
    from sealegs_learning.evaluation.evaluate import evaluate as run_episodes
    from sealegs_learning.training.checkpoint import load_policy, record_evaluation

    settings, arms, seconds = context.settings, [], context_seconds(context)
    for arm in ARMS:
        folder = context.arm(arm.name) / "checkpoint"
        with context.bar(f"driving: {arm.label}") as advance:
            result = run_episodes(
                load_policy(folder), settings.task, settings.evaluation_episodes, EVALUATION_SEED, progress=advance
            )
        record_evaluation(folder, result.to_json())
        arms.append(
            {
                "name": arm.label,
                "learner": arm.learner,
                "reward": "" if arm.learner == "bc" else arm.reward,
                "updates": settings.policy_updates,
                "seconds": seconds.get(arm.name, 0.0),
                "curve": curve(context.arm(arm.name)),
                "successes": sum(result.successes),
                "episodes": result.episodes,
                "rate": result.success_rate,
                "interval": list(result.success_interval),
            }
        )
    return {"arms": arms}


def context_seconds(context: Context) -> dict[str, float]:
    """Wall seconds of each arm's training, from the last line of its learning curve."""
    rows = {arm.name: curve(context.arm(arm.name)) for arm in ARMS}
    return {name: float(found[-1].get("seconds", 0.0)) for name, found in rows.items() if found}
