"""What `sealegs info` shows: a path's kind is found by its files, its content read without running anything in it."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs_contract.errors import BundleError, LearningError, SealegsError

if TYPE_CHECKING:
    from rich.console import RenderableType

MAXIMUM_JSON_BYTES = 64 << 20
RUN_FILES = ("summary.json", "settings.json")
MARKS = ("meta/info.json", "manifest.json", "checkpoint.json", "checkpoint/checkpoint.json", *RUN_FILES)
MAXIMUM_NAMED = 5  # folders in one error


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
        facts.add_column(no_wrap=True)
        facts.add_column(overflow="fold")
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
    """Facts about a bag, dataset, bundle, checkpoint or demo run. Raises a SealegsError for anything else."""
    if not path.exists():
        raise SealegsError(f"nothing at {path}")
    if path.is_file():
        if path.suffix in {".mcap", ".db3"}:
            return Description("bag", path, bag_facts(path))
        if path.suffix == ".zip":
            return Description("bundle", path, bundle_facts(path))
        raise SealegsError(f"{path}: expected a bag (.mcap or folder), a dataset, a bundle or a checkpoint")
    if (path / "meta/info.json").is_file():
        return Description("dataset", path, dataset_facts(path))
    if (path / "manifest.json").is_file():
        return Description("bundle", path, bundle_facts(path))
    if (path / "checkpoint.json").is_file():
        return Description("checkpoint", path, checkpoint_facts(path))
    if (path / "checkpoint" / "checkpoint.json").is_file():
        return Description("checkpoint", path, checkpoint_facts(path / "checkpoint"))
    if any(path.glob("*.mcap")) or any(path.glob("*.db3")):
        return Description("bag", path, bag_facts(path))
    if any(path.glob("*/*.mcap")):
        return Description("bags", path, bags_facts(path))
    if any((path / name).is_file() for name in RUN_FILES):
        return Description("demo run", path, run_facts(path))
    raise SealegsError(
        f"{path} is no bag (*.mcap), dataset (meta/info.json), bundle (manifest.json), checkpoint (checkpoint.json) or "
        f"demo run (summary.json){_inside(path)}"
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
    """A bundle's manifest as it stands, unverified; of a folder or a .zip."""
    if path.is_dir():
        manifest = _parse_json(_read(path / "manifest.json", BundleError), str(path / "manifest.json"), BundleError)
        files = _files(path)
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                inside = archive.infolist()
                if archive.getinfo("manifest.json").file_size > MAXIMUM_JSON_BYTES:
                    raise BundleError(f"{path}: its manifest.json is larger than {_size(MAXIMUM_JSON_BYTES)}")
                manifest = _parse_json(archive.read("manifest.json"), f"manifest.json in {path}", BundleError)
        except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError) as error:
            raise BundleError(f"{path} is no bundle: {_line(error)}") from error
        files = [{"file": entry.filename, "size": _size(entry.file_size)} for entry in inside]
    gated = any(entry["file"] == "gate.json" for entry in files)
    gate = f"has a certificate: run `sealegs verify {path}`" if gated else "has no certificate"
    return {**_flat(manifest), "verified": f"no: run `sealegs verify {path}`", "gate": gate, "files": files}


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """A checkpoint's description."""
    file = path / "checkpoint.json"
    content = _parse_json(_read(file, LearningError), str(file), LearningError)
    facts = _flat(content)
    if facts.get("config.learner") == "bc" and "config.reward" in facts:
        facts["config.reward"] = "none"  # cloning reads no reward, whatever the setting says
    return {**facts, "files": _files(path)}


def run_facts(path: Path) -> dict[str, Any]:
    """What a demo run reached, and where its parts are. A run stopped before its first stage has only settings."""
    from sealegs.report.summary import read_summary

    facts: dict[str, Any] = {"state": "stopped before its first stage was done"}
    arms: list[dict[str, Any]] = []
    if (path / "summary.json").is_file():
        summary = read_summary(path / "summary.json")
        facts = {
            "task": f"{summary.task}: {summary.task_text}",
            "started": summary.started,
            "state": summary.status,
            "stages": ", ".join(f"{stage.name} {stage.seconds:.0f} s" for stage in summary.stages) or "none",
        }
        if summary.data is not None:
            facts["data"] = f"{summary.data.episodes} episodes, {summary.data.success_rate:.0%} of them successes"
        if summary.ros is not None:
            facts["over ROS 2"] = f"{summary.ros.successes} of {summary.ros.episodes} episodes succeeded"
        if summary.claims:
            facts["claims"] = f"{sum(c.holds for c in summary.claims)} of {len(summary.claims)} hold"
        arms = [{"policy": arm.name, "success": f"{arm.successes} of {arm.episodes}"} for arm in summary.arms]
    parts = [path / "report.html", *_known_folders(path), *_known_folders(path / "arms")]
    return facts | {"arms": arms or "none", "parts": [{"path": str(part)} for part in parts if part.exists()]}


def _known_folders(path: Path) -> list[Path]:
    """Folders in `path` that `describe` knows."""
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir()] if path.is_dir() else []
    return [
        folder
        for folder in folders
        if any((folder / mark).is_file() for mark in MARKS)
        or any(folder.glob("*.mcap"))
        or any(folder.glob("*/*.mcap"))
    ]


def _inside(path: Path) -> str:
    known = [str(folder) for folder in _known_folders(path)]
    more = ", ..." if len(known) > MAXIMUM_NAMED else ""
    return f"; `sealegs info` knows what is in it: {', '.join(known[:MAXIMUM_NAMED])}{more}" if known else ""


def _files(folder: Path) -> list[dict[str, Any]]:
    return [{"file": p.name, "size": _size(p.stat().st_size)} for p in sorted(folder.iterdir()) if p.is_file()]


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """One line per value, objects one level deep; what is deeper or longer is only summed up. Names first."""
    result: dict[str, Any] = {}
    for key in sorted(content, key=lambda name: (name not in {"name", "created", "learner", "task"}, name)):
        value = content[key]
        nested = {f"{key}.{inner}": item for inner, item in value.items()} if isinstance(value, dict) else {key: value}
        result |= {name: _short(item) for name, item in nested.items()}
    return result


def _short(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        value = ", ".join(map(str, value))
    elif isinstance(value, dict | list):
        return f"{len(value)} entries" if value else "none"
    return f"{value[:197]}..." if isinstance(value, str) and len(value) > 200 else value


def _read(path: Path, kind: type[SealegsError]) -> bytes:
    try:
        if path.stat().st_size > MAXIMUM_JSON_BYTES:
            raise kind(f"{path} is larger than {_size(MAXIMUM_JSON_BYTES)}")
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{path} is not readable: {_line(error)}") from error


def _parse_json(data: bytes, source: str, kind: type[SealegsError]) -> dict[str, Any]:
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise kind(f"{source} is not readable as JSON: {_line(error)}") from error
    if not isinstance(content, dict):
        raise kind(f"{source}: expected a JSON object")
    return content


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


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
