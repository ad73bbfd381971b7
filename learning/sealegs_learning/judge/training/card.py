"""The model card of an embedded judge, with figures taken from its training and its evaluation, never typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sealegs_contract.errors import JudgeError
from sealegs_learning.files import replaced_file


def write_card(folder: Path, results: Path) -> Path:
    """Write FOLDER/README.md from FOLDER/training.json, FOLDER/config.json and a results file of `judge evaluate`."""
    path = folder / "README.md"
    with replaced_file(path) as temporary:
        temporary.write_text(
            card(_read(folder / "training.json"), _read(folder / "config.json"), _read(results), folder)
        )
    return path


def card(training: Mapping[str, Any], config: Mapping[str, Any], results: Mapping[str, Any], folder: Path) -> str:
    """The card's text."""
    from sealegs_learning.judge.training.frames import POLICIES

    apart = [row for row in results["rows"] if row["range"] == "clearly_apart"]
    shipped = [row for row in apart if row["mode"] == "shipped" and row["suite"] == "episodes"]
    labelled, all_pairs = sum(row["labelled"] for row in shipped), sum(row["pairs"] for row in shipped)
    settings, seconds = training["config"], training["seconds"]
    resumed, cached = training["resumed_from_step"], training.get("frame_blocks_from_cache", 0)
    notes = [f"the run was resumed at step {resumed}, and counts only what came after"] if resumed else []
    notes += [f"{cached} blocks of frames came from an earlier run's cache"] if cached else []
    template = Path(__file__).with_name("card_template.md").read_text(encoding="utf-8")
    return template.format(
        width=config["image_width"],
        height=config["image_height"],
        parameters=training["parameters"] / 1e6,
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        tasks="\n".join(f"- {task}" for task in config["tasks"]),
        temperature=config["score_temperature"],
        confidence=config["minimum_confidence"],
        frames=f"{sum(training['frames'].values()):,}",
        episodes=settings["episodes"],
        policies=", ".join(POLICIES),
        steps=f"{settings['steps']:,}",
        cpu=seconds["all_cpu"],
        frames_cpu=seconds["frames_cpu"],
        resumed=f" ({'; '.join(notes)})" if notes else "",
        held_episodes=results["episodes_per_task"],
        pairs=f"{results['pairs_per_task_and_suite']:,}",
        table=_table(apart, config["task_names"]),
        shipped_labelled=labelled / max(1, all_pairs),
        shipped_right=sum(row["correct"] for row in shipped) / max(1, labelled),
        sentences=len(results["sentences"]),
        sentences_right=results["sentences_right"],
        name=results["name"],
    )


def _table(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> str:
    titles = {
        "episodes": "held-out episodes",
        "looks": "and other light and colours",
        "cameras": "and held-out cameras",
        "paraphrases": "held-out sentences (refused ones count as wrong)",
    }
    lines = [f"| | {' | '.join(tasks)} |", f"|---|{'---|' * len(tasks)}"]
    for suite, title in titles.items():
        cells = []
        for task in tasks:
            found = [r for r in rows if (r["mode"], r["suite"], r["task"]) == ("forced", suite, task)]
            cells.append(_cell(found[0]) if found else "-")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    if not row["pairs"]:
        return "-"
    low, high = row["right_interval"]
    return f"{row['right']:.3f} [{low:.3f}, {high:.3f}]"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise JudgeError(f"the model card needs {path}, which is not readable: {error}") from error
