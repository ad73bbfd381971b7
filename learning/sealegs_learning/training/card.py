"""Policy cards: what is needed to repeat a run and to judge its policy, as card.json and, for people, CARD.md.

A card lies in the checkpoint's folder and travels in the bundle. Figures stand on it with their 95% intervals; those of
the evaluation that `sealegs evaluate --record` made, and those that were taken while training.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from sealegs_contract.errors import LearningError
from sealegs_learning.files import replaced_file
from sealegs_learning.results import machine, versions
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig, unused

SCHEMA_VERSION = 1
JSON_NAME, MARKDOWN_NAME = "card.json", "CARD.md"
CURVE_ROWS, SHOWN_ROWS = 200, 12
# An evaluation's figures on the card, with the names of their intervals.
FIGURES = {
    "success_rate": "success_interval",
    "mean_final_progress": "final_progress_interval",
    "mean_return": "return_interval",
}


def make_card(
    config: TrainConfig,
    description: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a checkpoint with this `description`; `curve` has a row per log line, `origin` is `origin_of`'s."""
    left_out = unused(config)
    settings = {name: value for name, value in asdict(config).items() if name not in left_out}
    arguments = arguments_of(config, {"resume", "overwrite"} | left_out)
    policy = description["policy"]
    known = {key: value for key, value in description.items() if key in {"dataset_fingerprint", "transitions"}}
    return {
        "schema_version": SCHEMA_VERSION,
        "task": policy["task"],
        "robot": policy.get("robot", {}).get("name", ""),
        "robot_profile": {
            "digest": policy.get("robot_digest", ""),
            "randomization": description.get("robot", {}).get("randomization", {}),
        },
        "learner": config.learner,
        "command": shlex.join(["sealegs", "train", *arguments]),
        "config": json.loads(json.dumps(settings, default=str)),
        "init": origin.get("init"),
        "source": origin.get("source", {}),
        "data": {**origin.get("data", {}), **known},
        "reward": description.get("reward", {}),
        "seeds": {"training": config.seed, "evaluation_while_training": config.evaluate_seed},
        "progress": {key: description[key] for key in ("unit", "update", "seconds", "stopped", "selected")},
        **_environment(),
        "policy": {key: policy[key] for key in ("observations", "actions", "hidden") if key in policy},
        "evaluation": None,
        "training_figures": description["metrics"]["training"],
        "evaluations_while_training": thinned([row for row in curve if "evaluation_return" in row], CURVE_ROWS),
        "curve": thinned(curve, CURVE_ROWS),
    }


@cache
def _environment() -> dict[str, Any]:
    """Versions and machine: they do not change while a run saves its checkpoints."""
    return {"versions": versions(), "machine": machine() | {"torch_threads": 1}}


def thinned(rows: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most` (2 or more) rows, evenly spaced from the first to the last."""
    count = min(len(rows), most)
    return [dict(rows[round(k * (len(rows) - 1) / max(count - 1, 1))]) for k in range(count)]


def card_files(card: Mapping[str, Any]) -> dict[str, bytes]:
    """Both files of a card by name."""
    text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    return {JSON_NAME: text.encode(), MARKDOWN_NAME: card_markdown(card).encode()}


def read_card_files(folder: Path) -> dict[str, bytes]:
    """The card's files of a checkpoint, for the bundle; empty where an older release wrote none."""
    return {name: (folder / name).read_bytes() for name in (JSON_NAME, MARKDOWN_NAME) if (folder / name).is_file()}


def add_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Put an evaluation's figures on the card in `folder`, if it has one. Outcomes by episode stay in its own file."""
    file = folder / JSON_NAME
    if not file.is_file():
        return
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        card["evaluation"] = {key: value for key, value in evaluation.items() if key != "per_episode"}
        files = card_files(card)
    except (ValueError, KeyError, TypeError) as error:
        raise LearningError(f"{file} is damaged: {type(error).__name__}: {error}; delete it or train again") from error
    for name, content in files.items():
        with replaced_file(folder / name) as temporary:
            temporary.write_bytes(content)


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    progress = card["progress"]
    robot = f" on {card['robot']}" if card["robot"] else ""
    ended = f"; stopped early: {progress['stopped']}" if progress["stopped"] else ""
    chosen = " The best of its evaluations while training: those figures flatter it." if progress["selected"] else ""
    parts = [
        f"# {card['learner'].upper()} policy: {card['task'] or 'several tasks'}{robot}\n",
        f"{progress['update']} {progress['unit']}s in {progress['seconds']:.0f} s{ended}.{chosen}\n",
        "\n".join(["## Repeat it\n", "```", *commands_of(card), "```\n"]),
        "With the versions below and one thread the weights come out the same to the last bit on one machine.\n",
        _table(("", ""), [(name, value) for name, value in _facts(card).items() if value != ""]),
        "## Measured\n",
        *_measured(card),
        f"## Learning curve\n\n{_curve_table(card['curve'])}",
        f"## Settings\n\n```json\n{json.dumps(card['config'], indent=1)}\n```\n",
        "## Limits\n\nMeasured in simulation, on starts drawn as in the task. It says nothing about a real robot "
        "before the bundle\nhas been replayed and watched there.\n",
    ]
    return "\n".join(parts)


def commands_of(card: Mapping[str, Any]) -> list[str]:
    """The command lines that make the policy, in their order: that of the policy it started from comes first."""
    earlier = commands_of(card["init"]) if card.get("init") else []
    return earlier + ([card["command"]] if "command" in card else [])


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a repetition needs beside the commands; "" where there is nothing to say."""
    seeds, data, profile = card["seeds"], card["data"], card.get("robot_profile", {})
    ranges = profile.get("randomization", {})
    return {
        "robot profile": profile.get("digest", ""),
        "randomised by": ", ".join(f"{knob} {low:g} to {high:g}" for knob, (low, high) in ranges.items()),
        "started from": _start_in_words(card.get("init")),
        "dataset": _data_in_words(data),
        "dataset fingerprint": data.get("dataset_fingerprint", "none: learned in simulation"),
        "transitions": data.get("transitions", ""),
        "reward": card["reward"].get("name", ""),
        "reward fingerprint": card["reward"].get("parquet_sha256", ""),
        "seed": seeds["training"],
        "first seed of evaluations while training": seeds["evaluation_while_training"],
        "source": _source_in_words(card.get("source", {})),
        "machine": f"{card['machine']['cpu']}, {card['machine']['cpus']} CPUs, one torch thread",
        "versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
    }


def _start_in_words(start: Mapping[str, Any] | None) -> str:
    if not start:
        return ""
    learned = f"{start['learner'].upper()} after {start['update']} {start['unit']}s"
    return f"{learned}, weights {start['weights_sha256']} ({start['checkpoint']})"


def _data_in_words(data: Mapping[str, Any]) -> str:
    if "dataset" not in data:
        return ""
    bags = data["bags"]
    named = bags[0] if len(bags) == 1 else f"{bags[0]} to {bags[-1]}" if bags else ""
    made_of = f", from {len(bags)} bags ({named})" if bags else ""
    return f"{data['dataset']}: {data['episodes']} episodes, {data['rows']} rows{made_of}"


def _source_in_words(source: Mapping[str, Any]) -> str:
    if "commit" not in source:
        return f"version {source['version']}" if source else ""
    return f"commit {source['commit']}{', with changes that are not in it' if source['dirty'] else ''}"


def _measured(card: Mapping[str, Any]) -> list[str]:
    evaluation = card["evaluation"]
    if evaluation is None:
        figures = {
            k: v for k, v in card["training_figures"].items() if k in {"success", "final_progress", "evaluation_return"}
        }
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        return [f"While training: {shown}.\n"] * bool(shown) + ["Not evaluated yet: `sealegs evaluate --record`.\n"]
    rows = [
        (name, f"{evaluation[name]:.4g}", "{:.4g} to {:.4g}".format(*evaluation[bounds]))
        for name, bounds in FIGURES.items()
        if bounds in evaluation
    ]
    return [
        ", ".join(f"{name} {evaluation[name]}" for name in ("task", "episodes", "seed") if name in evaluation) + ".\n",
        _table(("figure", "value", "95 % interval"), rows),
    ]


def _curve_table(curve: Sequence[Mapping[str, Any]]) -> str:
    rows = thinned(curve, SHOWN_ROWS)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _table(names, [[f"{row[name]:.5g}" if name in row else "" for name in names] for row in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:], ""])
