"""Row about exports: a policy that computes something else once it is a graph must not become a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile.signed import MOVED, OBSERVED, ROBOT, Signer, accepted

if TYPE_CHECKING:
    import torch

DEFECTS = (
    "actions scaled by 0.999",
    "two joints swapped",
    "stale normalisation",
    "a hidden unit lost",
    "observations clipped at 3 sigma",
    "weights rounded to 8 bits of mantissa",
    "one joint offset by a thousandth of its scale",
    "NaN on large inputs",
)
HIDDEN = 64


def mismatched_exports(trials: Trials) -> Outcome:
    """A random policy each: exported as it is, then with one of DEFECTS that exists only in the exported graph."""
    from sealegs_deploy.export import ExportRequest, export_bundle

    signer, seen = Signer.new(), []
    request = ExportRequest(name="fault", robot=ROBOT, observation=OBSERVED, action=MOVED)
    for trial in range(trials.count):
        out = trials.folder / f"export{trial}"
        good = export_bundle(policy(trial, None), request, out / "good", signer.key)
        signer.run(out / "good")
        defect = trial % len(DEFECTS)
        bad = policy(trial, defect)
        failure = accepted(lambda out=out, bad=bad: export_bundle(bad, request, out / "bad", signer.key))  # type: ignore[misc]
        failure = failure or _left_behind(out)
        seen.append(Seen(f"{DEFECTS[defect]}: {failure}" if failure else "", good.parity.max_abs_difference_rad))
        trials.progress(trial + 1, trials.count)
    inputs = good.parity.inputs
    return outcome(seen, [f"{inputs:,} inputs each, in batches and one by one; defects: {', '.join(DEFECTS)}"])


def _left_behind(out: Path) -> str:
    names = sorted(path.name for path in out.iterdir())
    return "" if names == ["good"] else f"the refused export left {names}"


def policy(seed: int, defect: int | None) -> torch.nn.Module:
    """tanh(relu((x - mean) / std W1) W2) of trial `seed`; with DEFECTS[defect] while it is exported, and only then."""
    import torch

    random = torch.Generator().manual_seed(seed)
    mean, std = torch.randn(OBSERVED.size, generator=random), torch.rand(OBSERVED.size, generator=random) + 0.2
    first = torch.randn(OBSERVED.size, HIDDEN, generator=random) / OBSERVED.size**0.5
    second = torch.randn(HIDDEN, MOVED.size, generator=random) / HIDDEN**0.5

    def act(
        seen: torch.Tensor, mean: torch.Tensor = mean, first: torch.Tensor = first, second: torch.Tensor = second
    ) -> torch.Tensor:
        return torch.tanh(torch.relu((seen - mean) / std @ first) @ second)

    def defective(seen: torch.Tensor) -> torch.Tensor:
        match defect:
            case 0:
                return 0.999 * act(seen)
            case 1:
                return act(seen, second=second[:, [1, 0, *range(2, MOVED.size)]])
            case 2:
                return act(seen, mean=0.99 * mean)
            case 3:
                return act(seen, second=torch.cat([second[:-1], 0.0 * second[-1:]]))
            case 4:
                return act(torch.minimum(torch.maximum(seen, mean - 3.0 * std), mean + 3.0 * std))
            case 5:
                return act(seen, first=first.to(torch.bfloat16).to(torch.float32))
            case 6:
                return act(seen) - 1e-3 * torch.eye(MOVED.size)[seed % MOVED.size]
        return torch.where(seen.abs().amax(1, keepdim=True) > 4.0, torch.nan * act(seen), act(seen))

    class Policy(torch.nn.Module):
        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            spoiled = defect is not None and torch.compiler.is_exporting()
            return defective(observation) if spoiled else act(observation)

    return Policy()


FAULTS: tuple[Fault, ...] = (
    Fault(
        26,
        "export mismatch, 1e4 inputs",
        "fail the export",
        2 * len(DEFECTS),
        2,
        mismatched_exports,
        "rad between torch and the graph of good exports",
        "<= 1e-5",
    ),
)
