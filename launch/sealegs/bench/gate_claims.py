"""What the rows of bench `gate` say: claims, tables and the picture of the sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Row, Summary, Table
from sealegs.bench.gate_bundles import KINDS, NOMINAL
from sealegs.bench.options import BenchOptions
from sealegs_learning.results import Claim
from sealegs_learning.statistics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWEEP = "sweep"
HELD_OUT = "push"
Entry = dict[str, Any]


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Shares with Wilson's intervals, by badness and by task, what noticed it, and where noticing begins."""
    policies = [row for row in rows if "sound" in row]
    sweeps = [row for row in rows if row["arm"] == SWEEP]
    bad = [{**entry, "of": row} for row in policies for entry in row["bad"]]
    sound = [{**entry, "of": row} for row in policies for entry in row["sound"]]
    tables = [_by_kind(bad), _by_task(policies), _by_threshold(bad, sound), _by_size(sweeps)]
    return Summary(_claims(bad, sound), {"sweep": _picture(sweeps)}, tables, _notes(bad, sound, policies))


def _claims(bad: Sequence[Entry], sound: Sequence[Entry]) -> list[Claim]:
    refused, passed = sum(bool(b["failed"]) for b in bad), sum(not s["failed"] for s in sound)
    accepted = len(bad) - refused
    claims = [
        Claim("seeded bad bundles refused", refused / len(bad), "== 1", wilson_interval(refused, len(bad))),
        Claim("seeded bad bundles accepted", float(accepted), "== 0"),
        Claim("sound bundles that pass", passed / len(sound), "== 1", wilson_interval(passed, len(sound))),
    ]
    if away := [b for b in bad if b["of"]["task"] == HELD_OUT]:
        held = sum(bool(b["failed"]) for b in away)
        about = f"bad bundles refused on {HELD_OUT}, which no threshold was set on"
        claims.append(Claim(about, held / len(away), "== 1", wilson_interval(held, len(away))))
        fine = [s for s in sound if s["of"]["task"] == HELD_OUT]
        kept = sum(not s["failed"] for s in fine)
        claims.append(Claim(f"sound bundles that pass on {HELD_OUT}", kept / len(fine), "== 1",
                            wilson_interval(kept, len(fine))))  # fmt: skip
    return claims


def _by_kind(bad: Sequence[Entry]) -> Table:
    lines: list[Sequence[str | float | int]] = []
    for kind, size in NOMINAL.items():
        found = [b for b in bad if b["kind"] == kind]
        refused = sum(bool(b["failed"]) for b in found)
        low, high = wilson_interval(refused, len(found))
        worth = float(np.mean([b["return"] for b in found]) / np.mean([b["of"]["return"] for b in found]))
        fewest = min(len(b["failed"]) for b in found)
        lines.append([kind, size, len(found), refused, f"[{low:.3g}, {high:.3g}]", fewest, worth])
    columns = ("badness", "size", "bundles", "refused", "95% interval", "fewest failed lines", "return over sound")
    return Table("Bad bundles by kind, at their nominal size", columns, lines)


def _by_task(policies: Sequence[Row]) -> Table:
    lines: list[Sequence[str | float | int]] = []
    for task, arm in dict.fromkeys((row["task"], row["arm"]) for row in policies):
        found = [row for row in policies if (row["task"], row["arm"]) == (task, arm)]
        sound, bad = [s for row in found for s in row["sound"]], [b for row in found for b in row["bad"]]
        passed, refused = sum(not s["failed"] for s in sound), sum(bool(b["failed"]) for b in bad)
        success = float(np.mean([row["success"] for row in found]))
        lines.append([task, arm, len(found), f"{passed}/{len(sound)}", f"{refused}/{len(bad)}", success])
    columns = ("task", "learner", "policies", "sound passed", "bad refused", "success of the sound")
    return Table("By task and learner", columns, lines)


def _by_threshold(bad: Sequence[Entry], sound: Sequence[Entry]) -> Table:
    """How much each threshold notices alone, and which bundles nothing else notices."""
    alone = Counter(name for b in bad for name in b["failed"])
    only = Counter(b["failed"][0] for b in bad if len(b["failed"]) == 1)
    false = Counter(name for s in sound for name in s["failed"])
    names = sorted({*alone, *false}, key=lambda name: -alone[name])
    lines = [[name, alone[name] / len(bad), only[name], false[name]] for name in names]
    columns = ("threshold", "share of the bad that it fails", "failed by it alone", "sound ones that it fails")
    return Table("What each threshold notices", columns, lines)


def _by_size(sweeps: Sequence[Row]) -> Table:
    lines: list[Sequence[str | float | int]] = []
    entries = [{**b, "of": row} for row in sweeps for b in row["bad"]]
    for kind, size in dict.fromkeys((b["kind"], b["size"]) for b in entries):
        found = [b for b in entries if (b["kind"], b["size"]) == (kind, size)]
        refused = sum(bool(b["failed"]) for b in found)
        worth = float(np.mean([b["return"] for b in found]) / np.mean([b["of"]["return"] for b in found]))
        lines.append([kind, size, f"{refused}/{len(found)}", worth])
    return Table("Where noticing begins: badness by size", ("badness", "size", "refused", "return over sound"), lines)


def _picture(sweeps: Sequence[Row]) -> Figure:
    """Of each bad bundle of the sweep: what it is worth, and whether it was refused."""
    figure, (panel,) = plots.panels(1, width=6.4, height=5.0)
    entries = [{**b, "of": row} for row in sweeps for b in row["bad"]]
    for refused, colour, label in ((True, plots.COLOURS[4], "refused"), (False, plots.COLOURS[2], "passed")):
        chosen = [b for b in entries if bool(b["failed"]) is refused]
        worth = [b["return"] / max(b["of"]["return"], 1e-9) for b in chosen]
        panel.scatter(worth, [list(KINDS).index(b["kind"]) for b in chosen], s=26, color=colour, label=label, alpha=0.8)
    panel.set_yticks(range(len(KINDS)), list(KINDS))
    panel.invert_yaxis()
    panel.set_xlabel("return in simulation, over the sound bundle's")
    panel.set_title("Every size of every badness")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure


def _notes(bad: Sequence[Entry], sound: Sequence[Entry], policies: Sequence[Row]) -> list[str]:
    accepted = sum(not b["failed"] for b in bad)
    bound = f"none of {len(bad)} accepted bounds the rate at 3/n = {3 / len(bad):.2g} (95%)" if not accepted else ""
    weak = sum(row["success"] < 0.2 for row in policies)
    return [
        *([bound[0].upper() + bound[1:] + "."] if bound else []),
        f"{len(sound)} examinations of {len(policies)} sound bundles, IQL and BC, on bags that they were not trained "
        f"on. Sound means trained and exported as it should be, not good: {weak} of them succeed in less than a fifth "
        "of their episodes, as the operators whom they learned from.",
        "Control: every bad bundle passed the signature, manifest and graph checks before the gate saw it, and was "
        "written, signed and loaded like any other.",
        "The off-policy value is left out here, because it takes the longest.",
        "A small badness passes: what the policy still does well cannot be told from a sound one on these bags.",
    ]
