"""Bench `inference`: one action, batch 1, by PolicyRuntime, by the bare onnxruntime call, and by torch eager.

All callers get the same observation as numpy arrays and give the action as a numpy array. They take turns, a block of
calls each, in an order that rotates: a slow moment of the machine hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, bootstrap_mean_interval

SEALEGS, BARE, BOUND, EAGER = "sealegs infer", "bare onnxruntime", "bound onnxruntime", "torch eager"
CALLERS = (SEALEGS, BARE, BOUND, EAGER)
PROVIDERS = ("cpu", "cuda", "tensorrt")
MODELS = {
    "mlp": "MLP of 2 x 256 ReLU",
    "ensemble": "five such MLPs, their mean action",
    "cnn": "three convolutions on 84 x 84 RGB, with the joint state",
}
OVERHEAD_US = 10.0
"""What our checks and copies may cost on top of the bare call: a twentieth of a percent of a 20 ms period."""

OVERHEAD_SHARE = 0.5
"""What they may cost as a share of the bare call: on a slow or loaded machine both grow together."""

Call = Callable[[], Any]


def cells(options: BenchOptions) -> list[Cell]:
    """Model x provider x seed; the seed draws weights and inputs."""
    rounds, calls = (8, 50) if options.quick else (60, 200)
    settings = {"rounds": rounds, "calls": calls, "warm_up": calls, "callers": list(CALLERS)}
    tasks, seeds = options.tasks_or(tuple(MODELS), tuple(MODELS)), options.seeds_or((0, 1, 2))
    return [Cell(arm, task, seed, settings) for seed in seeds for task in tasks for arm in PROVIDERS]


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Times in microseconds by caller, or why the provider does not run here."""
    from sealegs_deploy.providers import probe
    from sealegs_deploy.runtime import PolicyRuntime

    why = probe().get(cell.arm, "not in this onnxruntime")
    if why:
        return {"runs": False, "why": why}

    import torch

    from sealegs.bench.inference_models import make_policy

    torch.set_num_threads(1)
    on_gpu = cell.arm != "cpu"
    module, bundle = make_policy(cell.task, cell.seed, context.folder)
    runtime = PolicyRuntime(bundle, cell.arm, strict=True)
    rng = np.random.default_rng(cell.seed)
    spec = bundle.manifest.observation
    observation = rng.standard_normal(spec.size).astype(np.float32)
    images = {i.camera: rng.integers(0, 256, (i.height, i.width, 3), np.uint8) for i in spec.images}
    callers = {
        SEALEGS: lambda: runtime.infer(observation, images),
        BARE: bare_call(bundle, cell.arm, observation, images),
    }
    if not on_gpu:
        callers[BOUND] = bound_call(bundle, observation, images)
    if not on_gpu or torch.cuda.is_available():
        scale, offset = np.array(bundle.manifest.action.scale_rad), np.array(bundle.manifest.action.offset_rad)
        callers[EAGER] = eager_call(module, observation, images, scale, offset, "cuda" if on_gpu else "cpu")
    answers = {name: np.asarray(call()).reshape(-1) for name, call in callers.items()}
    difference = max(float(np.abs(answer - answers[SEALEGS]).max()) for answer in answers.values())
    settings = cell.settings
    times = interleaved(callers, context, settings["rounds"], settings["calls"], settings["warm_up"])
    return {
        "runs": True,
        "model": MODELS[cell.task],
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "max_difference_rad": difference,
        "callers": {name: figures(values) for name, values in times.items()},
    }


def bare_call(bundle: Any, provider: str, observation: Any, images: Mapping[str, Any]) -> Call:
    """`session.run` on arrays that are ready: what one would write without Sealegs."""
    from sealegs_deploy.providers import open_session

    session, feed = open_session(bundle.policy, provider), feed_of(observation, images)
    return lambda: session.run(["action"], feed)[0]


def bound_call(bundle: Any, observation: Any, images: Mapping[str, Any]) -> Call:
    """`run_with_iobinding`, values in place already: the least that onnxruntime costs on the CPU."""
    from sealegs_deploy.providers import open_session

    session, feed = open_session(bundle.policy, "cpu"), feed_of(observation, images)
    output = session.run(["action"], feed)[0]
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    binding.bind_output("action", "cpu", 0, np.float32, output.shape, output.ctypes.data)

    def call() -> Any:
        # `feed` must outlive the binding, which knows only addresses.
        session.run_with_iobinding(binding)
        return output if feed else None

    return call


def feed_of(observation: Any, images: Mapping[str, Any]) -> dict[str, Any]:
    """The graph's inputs by name, as a batch of one."""
    from sealegs_deploy.graph import image_input

    return {"observation": observation[None]} | {image_input(c): pixels[None] for c, pixels in images.items()}


def eager_call(module: Any, observation: Any, images: Mapping[str, Any], scale: Any, offset: Any, device: str) -> Call:
    """The module that was exported, with its action scale, from numpy to numpy."""
    import torch

    module = module.to(device)
    factor, shift = (torch.tensor(values, dtype=torch.float32, device=device) for values in (scale, offset))

    def call() -> Any:
        with torch.inference_mode():
            arrays = [torch.from_numpy(array)[None].to(device) for array in (observation, *images.values())]
            return (module(*arrays) * factor + shift).cpu().numpy()

    return call


def interleaved(
    callers: Mapping[str, Call], context: CellContext, rounds: int, calls: int, warm_up: int
) -> dict[str, Any]:
    """Nanoseconds of every call, (rounds, calls) by caller."""
    names = list(callers)
    for call in callers.values():
        for _ in range(warm_up):
            call()
    times = {name: np.empty((rounds, calls), np.int64) for name in names}
    for block in range(rounds):
        for name in names[block % len(names) :] + names[: block % len(names)]:
            call, row = callers[name], times[name][block]
            for k in range(calls):
                began = time.perf_counter_ns()
                call()
                row[k] = time.perf_counter_ns() - began
        context.progress(block + 1, rounds)
    return times


def figures(times_ns: Any) -> dict[str, Any]:
    """p50, p99 and mean over all calls, and the p50 of every round, in microseconds."""
    times = times_ns / 1e3
    p50, p99 = (float(np.percentile(times, q)) for q in (50, 99))
    return {"p50": p50, "p99": p99, "mean": float(times.mean()), "rounds_p50": np.median(times, axis=1).tolist()}


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Overhead over the bare call and speed against torch, per model and provider that runs here."""
    groups = _groups(rows)
    claims: list[Claim] = []
    for (task, provider), group in groups.items():
        overhead, spread = _paired(group, SEALEGS, BARE)
        name = f"{task} on {provider}"
        claims.append(
            Claim(f"{name}: infer over the bare onnxruntime call, p50, us", overhead, f"<= {OVERHEAD_US:g}", spread)
        )
        share, spread = _share(group, SEALEGS, BARE)
        text = f"{name}: infer over the bare onnxruntime call, p50, share of the latter"
        claims.append(Claim(text, share, f"high <= {OVERHEAD_SHARE:g}", spread))
        if BOUND in group[0]["callers"]:
            overhead, spread = _paired(group, SEALEGS, BOUND)
            text = f"{name}: infer over onnxruntime with bound buffers, p50, us"
            claims.append(Claim(text, overhead, f"<= {OVERHEAD_US:g}", spread))
        if EAGER in group[0]["callers"]:
            saved, spread = _paired(group, EAGER, SEALEGS)
            claims.append(Claim(f"{name}: torch eager over infer, p50, us", saved, "low > 0", spread))
        worst = max(float(row["max_difference_rad"]) for row in group)
        target = "<= 1e-05" if provider == "cpu" else "<= 0.001"
        claims.append(Claim(f"{name}: largest difference between the callers, rad", worst, target))
    silent = {row["arm"]: row["why"] for row in rows if not row["runs"]}
    notes = [
        "One action, batch 1, one thread. All callers take and give numpy arrays; they take turns in blocks of calls.",
        "Models: " + "; ".join(f"{name}: {title}" for name, title in MODELS.items()) + ".",
        "`sealegs infer` checks shape and finiteness of what goes in and comes out; the bare call checks nothing.",
        "`bound onnxruntime` runs on buffers that already hold the values: the least that onnxruntime costs.",
        *(f"Not measured on {provider}: {why}." for provider, why in silent.items()),
    ]
    return Summary(claims, _plots(groups), [_table(groups)], notes)


Groups = Mapping[tuple[str, str], Sequence[Row]]


def _groups(rows: Sequence[Row]) -> Groups:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["runs"]:
            groups.setdefault((row["task"], row["arm"]), []).append(row)
    return groups


def _paired(group: Sequence[Row], a: str, b: str) -> tuple[float, Interval]:
    """Mean over rounds and seeds of p50(a) - p50(b), us, and its bootstrap interval."""
    return _trimmed_mean(_rounds(group, a) - _rounds(group, b))


def _share(group: Sequence[Row], a: str, b: str) -> tuple[float, Interval]:
    """Mean over rounds and seeds of p50(a) / p50(b) - 1, and its bootstrap interval."""
    return _trimmed_mean(_rounds(group, a) / _rounds(group, b) - 1.0)


def _rounds(group: Sequence[Row], caller: str) -> Any:
    """p50 of every round of every seed, us."""
    return np.concatenate([row["callers"][caller]["rounds_p50"] for row in group])


def _trimmed_mean(values: Any) -> tuple[float, Interval]:
    # A round in which the machine did something else says nothing: the tenth at either end is left out.
    low, high = np.percentile(values, [10, 90])
    kept = values[(values >= low) & (values <= high)]
    return float(kept.mean()), bootstrap_mean_interval(kept)


def _mean(group: Sequence[Row], caller: str, figure: str) -> float:
    return float(np.mean([row["callers"][caller][figure] for row in group]))


def _table(groups: Groups) -> Table:
    lines: list[list[str | float]] = []
    for (task, provider), group in groups.items():
        for caller in group[0]["callers"]:
            values = [_mean(group, caller, figure) for figure in ("p50", "p99", "mean")]
            lines.append([task, provider, caller, *values])
    return Table("time of one action, us", ("model", "provider", "caller", "p50", "p99", "mean"), lines)


def _plots(groups: Groups) -> dict[str, Any]:
    shades = dict(zip(CALLERS, (plots.COLOURS[0], plots.COLOURS[5], plots.COLOURS[5], plots.COLOURS[1]), strict=True))
    figure, axes = plots.panels(columns=max(len(groups), 1), width=3.9, height=2.3)
    for panel, ((task, provider), group) in zip(axes, groups.items(), strict=False):
        names = [caller for caller in CALLERS if caller in group[0]["callers"]]
        plots.bars(panel, {name: _mean(group, name, "p50") for name in names}, colour=shades)
        panel.set_title(f"{task} on {provider}")
        panel.set_xlabel("p50 of one action, us")
        if panel is not axes[0]:
            panel.set_yticks([])
    return {"latency": figure}


BENCH = Bench(cells, run_cell, summarise)
