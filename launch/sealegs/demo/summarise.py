"""From the stages' records to the summary, its claims, and the results file."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from sealegs.demo.context import Context
from sealegs.demo.settings import EVALUATION_SEED
from sealegs.demo.stages import StageLog
from sealegs.report.summary import Summary, parse_summary
from sealegs_learning.results import Claim, Results, machine, versions
from sealegs_learning.statistics import Interval, wilson_interval

HALF_A_SUCCESS = 0.5
LATENCY_LIMIT_MS = 10.0
SECTIONS = {"data", "labels", "reward", "arms", "bundle", "ros"}


def build_summary(context: Context, log: StageLog, started: str, complete: bool) -> Summary:
    """The summary of what is on record so far."""
    from sealegs_sim.tasks import get_task

    settings = context.settings
    sections: dict[str, Any] = {}
    for entry in log.done.values():
        sections |= {k: v for k, v in entry["details"].items() if k in SECTIONS}
    content = {
        "name": f"sealegs demo: {settings.task}" + (" (quick)" if settings.quick else ""),
        "version": version("sealegs"),
        "started": started,
        "command": command_of(context),
        "status": "complete" if complete else "partial",
        "seconds": sum(log.seconds.values()),
        "robot": context.robot,
        "task": settings.task,
        "task_text": get_task(settings.task).text,
        "arguments": asdict(settings),
        "machine": machine(),
        "versions": versions(),
        "stages": [{"name": name, "seconds": seconds} for name, seconds in log.seconds.items()],
        **sections,
    }
    summary = parse_summary(content, "summary")
    return summary.model_copy(update={"claims": tuple(claims(context, summary))})


def command_of(context: Context) -> str:
    """The command line that repeats the run."""
    settings = context.settings
    return f"./sealegs demo --task {settings.task} --seed {settings.seed}" + (" --quick" if settings.quick else "")


def claims(context: Context, summary: Summary) -> list[Claim]:
    """The demo's figures against their targets, as far as they were measured.

    A quick run trains too little and counts too few episodes for claims about success; it makes none.
    """
    found: list[Claim] = []
    quick = context.settings.quick
    if summary.data:
        found.append(Claim("share of successful episodes in the data", summary.data.success_rate, "<= 0.2"))
        if not quick:
            found.append(Claim("episodes recorded through the live ROS graph", summary.data.recorded_live, ">= 5"))
    if not quick:
        found += _arm_claims(summary)
    if summary.bundle:
        found.append(Claim("torch against ONNX Runtime, rad", summary.bundle.export_difference, "<= 1e-05"))
    found += _ros_claims(summary, quick)
    if summary.status == "complete":
        limit = 180 if quick else 900
        found.append(Claim("seconds of the whole demo after installation", summary.seconds, f"<= {limit}"))
    return found


def _arm_claims(summary: Summary) -> list[Claim]:
    arms = {(arm.learner, arm.reward): arm for arm in summary.arms}
    judge, true, constant = arms.get(("iql", "judge")), arms.get(("iql", "true")), arms.get(("iql", "constant"))
    if not (judge and true and constant):
        return []

    def ratio(other: Any) -> float:
        """Of success rates; nothing to divide by counts as half a success."""
        return float(judge.successes / max(other.successes, HALF_A_SUCCESS))

    return [
        Claim("judge-labelled IQL against true-reward IQL, ratio of success rates", ratio(true), ">= 0.9"),
        Claim("judge-labelled IQL against constant-reward IQL, ratio of success rates", ratio(constant), ">= 2"),
        Claim(
            "intervals of judge-labelled and constant-reward IQL, gap", judge.interval[0] - constant.interval[1], "> 0"
        ),
    ]


def _ros_claims(summary: Summary, quick: bool) -> list[Claim]:
    ros, found = summary.ros, list[Claim]()
    if ros and ros.in_process is not None and not quick:
        # On the same starts: a rate over 20 episodes leaves the interval of 100 others by chance alone.
        low, high = wilson_interval(ros.in_process, ros.episodes)
        about = "closed-loop ROS success, in the in-process interval on the same starts"
        found.append(Claim(about, ros.rate, f"in [{low:.4g}, {high:.4g}]", Interval(*ros.interval)))
    if ros and ros.command_latency:
        p99 = ros.command_latency.p99_ms
        found.append(Claim("observation-to-command latency over ROS, p99, ms", p99, f"<= {LATENCY_LIMIT_MS:g}"))
    return found


def results(context: Context, summary: Summary) -> Results:
    """The run in the project's results format."""
    parts = ("data", "labels", "bundle", "ros", "reward")
    sections = {name: part for name in parts if (part := getattr(summary, name)) is not None}
    return Results(
        "demo" + ("" if context.settings.task == "drawer" else f"_{context.settings.task}"),
        summary.command,
        summary.seconds,
        [context.settings.seed],
        [arm.model_dump(mode="json", exclude={"curve"}) for arm in summary.arms],
        summary.claims,
        {
            "first_evaluation_seed": EVALUATION_SEED,
            "stages": {stage.name: stage.seconds for stage in summary.stages},
            **{name: part.model_dump(mode="json", exclude={"strips", "films"}) for name, part in sections.items()},
        },
    )


def now() -> str:
    """Local time with its offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
