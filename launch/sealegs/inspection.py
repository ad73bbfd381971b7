"""What `sealegs info` shows: a path's kind is found by its files, its content read without running anything in it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs_contract.errors import BundleError, LearningError, SealegsError

if TYPE_CHECKING:
    from rich.console import RenderableType

MAXIMUM_JSON_BYTES = 64 << 20


@dataclass(frozen=True)
class Description:
    """`content` is plain JSON: facts of one line each, and lists of rows that become tables."""

    kind: str
    path: Path
    content: dict[str, Any]

    def render(self) -> list[RenderableType]:
        """Rich renderables: a table of facts, then one table per list of rows."""
        from rich import box
        from rich.table import Table

        facts = Table(box=None, show_header=False, title=f"{self.kind} {self.path}", title_justify="left")
        parts: list[RenderableType] = [facts]
        for key, value in self.content.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                table = Table(box=box.SIMPLE, title=key.replace("_", " "), title_justify="left")
                for column in value[0]:
                    table.add_column(column, overflow="fold")
                for row in value:
                    table.add_row(*(_text(row.get(column, "")) for column in value[0]))
                parts.append(table)
            else:
                facts.add_row(key.replace("_", " "), _text(value))
        return parts


def describe(path: Path) -> Description:
    """Facts about a bag, dataset, bundle or checkpoint. Raises a SealegsError for anything else."""
    if not path.exists():
        raise SealegsError(f"nothing at {path}")
    if path.is_file():
        if path.suffix in {".mcap", ".db3"}:
            return Description("bag", path, bag_facts(path))
        raise SealegsError(f"{path}: expected a bag (.mcap or folder), a dataset, a bundle or a checkpoint")
    if (path / "meta/info.json").is_file():
        return Description("dataset", path, dataset_facts(path))
    if (path / "manifest.json").is_file():
        return Description("bundle", path, bundle_facts(path))
    if (path / "checkpoint.json").is_file():
        return Description("checkpoint", path, checkpoint_facts(path))
    if any(path.glob("*.mcap")) or any(path.glob("*.db3")):
        return Description("bag", path, bag_facts(path))
    if any(path.glob("*/*.mcap")):
        return Description("bags", path, bags_facts(path))
    raise SealegsError(
        f"{path} is no bag (*.mcap), dataset (meta/info.json), bundle (manifest.json) or checkpoint (checkpoint.json)"
    )


def bag_facts(path: Path) -> dict[str, Any]:
    """Episode, robot, duration, and a row per topic. A damaged bag is described up to the damage."""
    from sealegs_learning.data.bag import Bag

    bag = Bag(path)
    info, profile = bag.metadata()
    topics: dict[str, dict[str, Any]] = {}
    first, last, count = None, 0, 0
    for raw in bag.raw_messages():
        entry = topics.setdefault(
            raw.topic,
            {"type": raw.schema.name if raw.schema else "?", "messages": 0, "first": raw.log_time_ns, "last": 0},
        )
        entry["messages"] += 1
        entry["first"], entry["last"] = min(entry["first"], raw.log_time_ns), max(entry["last"], raw.log_time_ns)
        first = raw.log_time_ns if first is None else min(first, raw.log_time_ns)
        last, count = max(last, raw.log_time_ns), count + 1
    rows = []
    for topic, entry in sorted(topics.items()):
        span = (entry["last"] - entry["first"]) / 1e9
        rate = f"{(entry['messages'] - 1) / span:.1f}" if span > 0 else "-"
        rows.append({"topic": topic, "type": entry["type"], "messages": entry["messages"], "rate_hz": rate})
    facts: dict[str, Any] = (
        info.model_dump(mode="json", exclude_none=True) if info else {"episode": "not said by the bag"}
    )
    facts = {key: value for key, value in facts.items() if value != ""}
    if profile is not None:
        facts["robot"] = f"{profile.name}, {len(profile.joints)} joints, {profile.control_rate_hz:g} Hz"
    size = sum(file.stat().st_size for file in bag.files)
    facts |= {"duration_s": round((last - (first or 0)) / 1e9, 3), "messages": count, "size": _size(size)}
    facts["state"] = "; ".join(bag.problems.damage) or "complete"
    return facts | {"topics": rows}


def bags_facts(path: Path) -> dict[str, Any]:
    """Outcomes, tasks and policies over a folder of bags."""
    from sealegs_learning.data.bag import Bag, find_bags

    outcomes: Counter[str] = Counter()
    rows: Counter[tuple[str, str, str, str]] = Counter()
    size, unfinished, bags = 0, 0, find_bags([path])
    for folder in bags:
        bag = Bag(folder)
        info, profile = bag.metadata()
        size += sum(file.stat().st_size for file in bag.files)
        unfinished += folder.is_dir() and not (folder / "metadata.yaml").exists()
        outcome = str(info.outcome) if info else "unknown"
        outcomes[outcome] += 1
        rows[info.task if info else "?", profile.name if profile else "?", info.policy if info else "", outcome] += 1
    table = [
        {"task": task, "robot": robot, "policy": policy, "outcome": outcome, "bags": count}
        for (task, robot, policy, outcome), count in sorted(rows.items())
    ]
    return {
        "bags": len(bags),
        "unfinished": unfinished,
        "outcomes": dict(outcomes),
        "size": _size(size),
        "content": table,
    }


def dataset_facts(path: Path) -> dict[str, Any]:
    """Episodes, outcomes, features, drops, labels and rewards of a dataset."""
    from sealegs_learning.data.dataset import Dataset

    dataset = Dataset.open(path)
    meta = dataset.sealegs
    outcomes = Counter(row.outcome for row in dataset.episodes)
    tasks = Counter((row.task, row.task_text) for row in dataset.episodes)
    facts: dict[str, Any] = {
        "format": f"LeRobot {dataset.info['codebase_version']}" + ("" if meta else ", without Sealegs metadata"),
        "robot": f"{meta.robot.name} (profile {meta.profile_digest[:12]})" if meta else dataset.info.get("robot_type"),
        "rows": len(dataset),
        "episodes": len(dataset.episodes),
        "duration": f"{len(dataset) / dataset.fps:.1f} s at {dataset.fps:g} Hz",
        "outcomes": dict(outcomes),
        "fingerprint": dataset.fingerprint,
        "size": _size(sum(file.stat().st_size for file in path.rglob("*") if file.is_file())),
    }
    if meta is not None:
        facts["bags"] = len(meta.sources)
        facts["dropped"] = meta.report.dropped or "nothing"
        if meta.report.problems:
            facts["problems"] = "; ".join(meta.report.problems)
    facts["labels"] = _sidecars(path / "labels") or "none"
    facts["rewards"] = _sidecars(path / "rewards") or "none"
    facts["tasks"] = [{"task": t, "text": text, "episodes": n} for (t, text), n in sorted(tasks.items())]
    facts["features"] = [
        {"feature": name, "type": feature["dtype"], "shape": "x".join(map(str, feature["shape"]))}
        for name, feature in dataset.info["features"].items()
    ]
    return facts


def bundle_facts(path: Path) -> dict[str, Any]:
    """A bundle's manifest as it stands, unverified."""
    manifest = _read_json(path / "manifest.json", BundleError)
    files = [{"file": p.name, "size": _size(p.stat().st_size)} for p in sorted(path.iterdir()) if p.is_file()]
    return {**_flat(manifest), "verified": f"no: run `sealegs verify {path}`", "files_here": files}


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """A checkpoint's description."""
    content = _read_json(path / "checkpoint.json", LearningError)
    files = [{"file": p.name, "size": _size(p.stat().st_size)} for p in sorted(path.iterdir()) if p.is_file()]
    return {**_flat(content), "files_here": files}


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted facts; long values are named by their size only."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and len(json.dumps(value)) > 2000:
            result[f"{prefix}{key}"] = f"{len(value)} entries"
        elif isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
            result[f"{prefix}{key}"] = text if len(text) <= 160 else f"{len(value)} entries"
        else:
            result[f"{prefix}{key}"] = value
    return result


def _read_json(path: Path, kind: type[SealegsError]) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAXIMUM_JSON_BYTES:
            raise kind(f"{path} is larger than {_size(MAXIMUM_JSON_BYTES)}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path} is not readable as JSON: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(content, dict):
        raise kind(f"{path}: expected a JSON object")
    return content


def _sidecars(folder: Path) -> str:
    return ", ".join(sorted({path.stem for path in folder.glob("*.parquet")})) if folder.is_dir() else ""


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
