"""Stages around the robot: bags, the dataset, the bundle, and closed-loop episodes over ROS 2."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sealegs.demo.context import Advance, Context
from sealegs.demo.settings import EVALUATION_SEED, JUDGE_REWARD
from sealegs.demo.stages import Details
from sealegs_contract.errors import BackendError
from sealegs_contract.robot import load_robot

BEHAVIOUR = "mixed"
LIVE_SEED_OFFSET = 500_000
FILM_RATE_HZ = 10.0


def collect(context: Context) -> Details:
    """Simulated bags of unequal quality, without DDS and faster than real time."""
    from sealegs.collect import CollectConfig
    from sealegs.collect import collect as collect_bags

    settings = context.settings
    config = CollectConfig(
        task=settings.task,
        policy=BEHAVIOUR,
        episodes=settings.episodes,
        out=context.bags,
        seed=settings.seed,
        jobs=settings.jobs,
    )
    with context.bar("collecting bags") as advance:
        report = collect_bags(config, advance)
    return {"bags": len(report.episodes), "successes": report.successes}


def record(context: Context) -> Details:
    """More bags, recorded by the recorder node from a live robot node, in real time."""
    settings = context.settings
    shutil.rmtree(context.live_bags, ignore_errors=True)
    out = context.run / "record.json"
    command = ["--record", str(context.live_bags), "--behaviour", BEHAVIOUR, "--task", settings.task]
    command += ["--episodes", str(settings.live_episodes), "--seed", str(settings.seed + LIVE_SEED_OFFSET)]
    with context.bar("recording over ROS 2") as advance:
        drive_process(command, out, context.run / "record_logs", settings.live_episodes, advance)
    episodes = json.loads(out.read_text(encoding="utf-8"))["episodes"]
    return {"bags": len(episodes), "successes": sum(episode["success"] for episode in episodes)}


def import_bags(context: Context) -> Details:
    """All bags into one dataset."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.data.importer import ImportOptions
    from sealegs_learning.data.importer import import_bags as import_all

    bags = [context.bags, context.live_bags]
    with context.bar("importing bags") as advance:
        report = import_all(
            bags, context.dataset, ImportOptions(overwrite=True), lambda done, total, _name: advance(done, total)
        )
    episodes = Dataset.open(context.dataset).episodes
    outcomes = Counter(str(episode.outcome) for episode in episodes)
    live_names = {path.name for path in context.live_bags.iterdir()}
    live = sum(episode.source in live_names for episode in episodes)
    return {
        "data": {
            "bags": len(report.bags),
            "episodes": len(episodes),
            "rows": report.rows,
            "recorded_live": live,
            "success_rate": outcomes["success"] / len(episodes),
            "outcomes": dict(outcomes),
            "operators": dict(Counter(e.operator or e.policy or "unknown" for e in episodes)),
        },
        "dropped_rows": dict(report.dropped),
        "fingerprint": report.fingerprint,
    }


def export(context: Context) -> Details:
    """The judge-labelled policy as a signed bundle, verified as a robot would."""
    from sealegs.exporting import export_checkpoint
    from sealegs_deploy.bundle import load_bundle

    with context.bar("exporting") as advance:
        advance(0, 2)
        manifest = export_checkpoint(context.arm("judge") / "checkpoint", context.bundle, overwrite=True)
        advance(1, 2)
        verified = load_bundle(context.bundle)
        advance(2, 2)
    return {
        "bundle": {
            "path": str(context.bundle.relative_to(context.run)),
            "digest": hashlib.sha256(verified.policy).hexdigest(),
            "key_id": verified.key_id,
            "size_bytes": sum(len(data) for data in verified.files.values()),
            "export_difference": manifest.parity.max_abs_difference_rad,
            "export_inputs": manifest.parity.inputs,
        }
    }


def drive(context: Context) -> Details:
    """The bundle drives the robot node: launch files, real nodes, messages."""
    from sealegs_learning.statistics import wilson_interval

    settings, out = context.settings, context.run / "ros.json"
    film = context.run / "film"
    shutil.rmtree(film, ignore_errors=True)
    command = ["--bundle", str(context.bundle), "--task", settings.task, "--film", str(film)]
    command += ["--episodes", str(settings.ros_episodes), "--seed", str(EVALUATION_SEED)]
    with context.bar("driving over ROS 2") as advance:
        drive_process(command, out, context.run / "drive_logs", settings.ros_episodes, advance)
    result = json.loads(out.read_text(encoding="utf-8"))
    total, successes = len(result["episodes"]), int(result["successes"])
    frames = [str(path.relative_to(context.run)) for path in sorted(film.glob("*.jpg"))]
    shown = result["episodes"][result["filmed"]]
    caption = f"closed loop over ROS 2, seed {shown['seed']}: {'success' if shown['success'] else 'failure'}"
    return {
        "ros": {
            "episodes": total,
            "successes": successes,
            "rate": successes / total,
            "interval": list(wilson_interval(successes, total)),
            **_in_process(context, [bool(episode["success"]) for episode in result["episodes"]]),
            "control_rate_hz": load_robot(context.robot).control_rate_hz,
            "command_latency": timing_of(result["robot_timing"], "round_trip"),
            "observation_age": timing_of(result["timing"], "observation_age"),
            "inference": timing_of(result["timing"], "inference"),
            "films": [{"frames": frames, "rate_hz": FILM_RATE_HZ, "caption": caption}] if frames else [],
        },
        "episodes": result["episodes"],
        "policy_node_timing": result["timing"],
    }


def _in_process(context: Context, over_ros: list[bool]) -> Details:
    """How the same policy did from the same starts in process: the first episodes of the arm's evaluation."""
    from sealegs_learning.training.checkpoint import load_policy

    evaluation = load_policy(context.arm(JUDGE_REWARD) / "checkpoint").metrics["evaluation"]
    outcomes = [bool(success) for success in evaluation["per_episode"]["success"][: len(over_ros)]]
    if len(outcomes) < len(over_ros):
        return {}
    return {"in_process": sum(outcomes), "agreeing": sum(a == b for a, b in zip(outcomes, over_ros, strict=True))}


def timing_of(timing: dict[str, Any], name: str) -> dict[str, Any] | None:
    """One measured delay in the summary's form; None if nothing was counted."""
    figures = timing.get(name) or {}
    if not figures.get("count"):
        return None
    histogram = timing.get("histograms", {}).get(name) or {}
    kept = {key: figures[key] for key in ("count", "p50_ms", "p99_ms", "max_ms")}
    return kept | ({"histogram": histogram} if histogram.get("counts") else {})


def drive_process(arguments: list[str], out: Path, logs: Path, total: int, advance: Advance) -> None:
    """`sealegs drive` in a process of its own, so that ROS ends with it; its lines `N/M` move the bar."""
    command = [sys.executable, "-m", "sealegs", "drive", "--out", str(out), "--logs", str(logs), *arguments]
    logs.mkdir(parents=True, exist_ok=True)
    advance(0, total)
    with (logs / "drive.stderr").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            for line in process.stdout or ():
                done, _, rest = line.strip().partition("/")
                if done.isdigit() and rest.split(" ")[0].isdigit():
                    advance(int(done), total)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if code:
            errors.seek(0)
            lines = [line for line in errors.read().splitlines() if line.strip()]
            raise BackendError(f"driving ended with code {code}: {lines[-1] if lines else 'no output'}; logs in {logs}")
