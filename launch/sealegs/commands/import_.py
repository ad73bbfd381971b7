"""Turn bags into a dataset (LeRobot v3.0 layout), and report what was dropped and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from sealegs_learning.data.importer import ImportOptions


@dataclass(frozen=True)
class Config:
    """Options of `sealegs import`."""

    bags: tyro.conf.Positional[tuple[Path, ...]]
    """Bag folders, .mcap files, or folders of bags."""
    out: Path
    """Folder of the dataset to write."""
    robot: str | None = None
    """Robot (a shipped profile's name, or a file) of bags that do not say."""
    task: str | None = None
    """Task name, where the bags do not say or say it wrong."""
    task_text: str | None = None
    """Task sentence, likewise."""
    objects: tuple[str, ...] | None = None
    """Objects in the observation; by default those of the task, or those that every bag carries."""
    cameras: tuple[str, ...] | None = None
    """Cameras to import; by default those that every bag carries."""
    images: bool = True
    """--no-images leaves the cameras out."""
    rate: float | None = None
    """Rows per second; by default the robot's control rate."""
    align: tuple[str, ...] = ()
    """STREAM=POLICY. asof: newest sample within its age limit, else drop the row (default). hold: newest, however old.
    drop: only a sample within half a period. Streams: objects/NAME/pose, camera/NAME."""
    before_first_command: Literal["drop", "measured"] = "drop"
    """Rows before the first command: drop them, or take the measured position as their action."""
    outcomes: tuple[Literal["success", "failure", "aborted", "unknown"], ...] = ()
    """Import only episodes with these outcomes."""
    min_rows: int = 2
    """Shorter stretches are dropped."""
    split_gap: float = 2.5
    """A gap of more than this many control periods splits an episode."""
    namespace: str | None = None
    """Robot's namespace, where several share a bag."""
    remap: tuple[str, ...] = ()
    """TOPIC=STREAM for bags with other topic names, for example /arm/joint_states=joint_states."""
    overwrite: bool = False
    """Replace an existing dataset."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the report there (it is in the dataset's meta/sealegs.json in any case)."""


def run(config: Config) -> int:
    """Import, with a progress bar, and print the report."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sealegs.os_errors import require_file
    from sealegs_contract.errors import BagError
    from sealegs_learning.data.importer import import_bags

    if config.json is not None:
        require_file(config.json)
    if not config.bags:
        raise BagError("no bags given: name bag folders, .mcap files, or folders of bags")
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("importing", total=None)

        def advance(done: int, total: int, name: str) -> None:
            bar.update(line, completed=done, total=total, description=f"importing {name}")

        report = import_bags(config.bags, config.out, options_of(config), advance)
    console.print(report.table())
    console.print(f"wrote {config.out} in {report.seconds:.1f} s", soft_wrap=True)
    if config.json is not None:
        config.json.write_text(json.dumps(report.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    return 0


def options_of(config: Config) -> ImportOptions:
    """ImportOptions of a command line; SpecError for malformed pairs."""
    from sealegs_contract.errors import SpecError, available
    from sealegs_learning.data.align import Policy
    from sealegs_learning.data.importer import ImportOptions

    align = pairs(config.align, "--align", "STREAM=POLICY")
    wrong = sorted(set(align.values()) - {str(policy) for policy in Policy})
    if wrong:
        raise SpecError(f"--align: unknown policy {', '.join(wrong)}; {available(Policy)}")
    return ImportOptions(
        robot=config.robot, task=config.task, task_text=config.task_text, objects=config.objects,
        cameras=config.cameras if config.images else (), rate_hz=config.rate,
        align={stream: Policy(policy) for stream, policy in align.items()},
        before_first_command=config.before_first_command, outcomes=config.outcomes, minimum_rows=config.min_rows,
        split_gap_periods=config.split_gap, namespace=config.namespace,
        remap=pairs(config.remap, "--remap", "TOPIC=STREAM"), overwrite=config.overwrite,
    )  # fmt: skip


def pairs(texts: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    """`a=b` texts as a mapping; SpecError for anything else."""
    from sealegs_contract.errors import SpecError

    result = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise SpecError(f"{option} {text!r}: expected {form}")
        result[key] = value
    return result
