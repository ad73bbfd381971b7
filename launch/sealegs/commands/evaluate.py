"""Run policies in simulation, all episodes in parallel, and report success and return with their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealegs_learning.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class Config:
    """Options of `sealegs evaluate`."""

    policy: tuple[Path, ...]
    """Checkpoint, or the training run that holds it; of several, or of a folder with seed0, seed1, ..., all."""
    task: str = ""
    """Task to run; the policy's own by default."""
    episodes: int = 100
    """Episodes; episode i starts from SEED + i, so equal seeds compare policies on equal starts."""
    seed: int = 1000
    """Seed of the first episode."""
    compare: tuple[Path, ...] = ()
    """Checkpoints to compare with on the same starts, as many as policies, each paired with one: with one policy
    episode by episode, with several seed by seed."""
    delays: Path | None = None
    """timing.json of a policy node: the policies see and act as late as was measured there."""
    films: Path | None = None
    """Write the episodes with the best, the median and the worst return of the first policy as animated GIFs there."""
    camera: str = "front"
    """Camera of the films."""
    json: Path | None = None
    """Write every figure, also by episode, to this file."""
    record: bool = False
    """Keep each result in its checkpoint's folder: for the policy's card and the manifest of `sealegs export`."""


def run(config: Config) -> int:
    """Evaluate, print, and write what was asked for."""
    import torch

    from sealegs.os_errors import require_file, require_folder
    from sealegs_contract.errors import LearningError
    from sealegs_learning.files import write_json
    from sealegs_learning.training.checkpoint import checkpoints_in, record_evaluation

    torch.set_num_threads(1)
    paths = [found for path in config.policy for found in checkpoints_in(path)]
    others = [found for path in config.compare for found in checkpoints_in(path)]
    if not paths:
        raise LearningError("--policy names no policy: give one or more checkpoints or runs")
    if others and len(others) != len(paths):
        raise LearningError(f"--compare pairs policies one to one: {len(paths)} given, but {len(others)} to compare")
    if config.films is not None and config.delays is not None:
        raise LearningError("--films show episodes without delays: leave out --delays or --films")
    if config.films is not None:
        require_folder(config.films)
    if config.json is not None:
        require_file(config.json)
    results = [_evaluate(path, config) for path in paths]
    content = _summary(paths, results)
    if others:
        content["compared_with"] = _compare(results, others, [_evaluate(path, config) for path in others])
    if config.record:
        for path, result in zip(paths, results, strict=True):
            print(f"recorded in {record_evaluation(path, result.to_json())}")
    if config.films is not None:
        content["films"] = _films(paths[0], results[0], config.films, config.camera)
    if config.json is not None:
        write_json(config.json, content)
    return 0


def _evaluate(path: Path, config: Config) -> Evaluation:
    from rich.progress import Progress

    from sealegs_contract.errors import LearningError
    from sealegs_learning.evaluation.evaluate import evaluate
    from sealegs_learning.training.checkpoint import load_actor
    from sealegs_sim.delays import Delays

    policy = load_actor(path)
    delays = None if config.delays is None else Delays.read(config.delays)
    task = config.task or policy.task
    if not task:
        raise LearningError("the checkpoint names no single task: give --task")
    with Progress(transient=True) as bar:
        job = bar.add_task(f"{config.episodes} episodes of {task}", total=None)
        result = evaluate(
            policy,
            task,
            config.episodes,
            config.seed,
            progress=lambda step, steps: bar.update(job, completed=step, total=steps),
            delays=delays,
        )
    print(f"{path} on {task}: {_in_words(result)} ({result.seconds:.1f} s)")
    return result


def _in_words(result: Evaluation) -> str:
    from sealegs_learning.statistics import bootstrap_mean_interval

    low, high = bootstrap_mean_interval(result.returns)
    returns = f"mean return {result.mean_return:.4g} [{low:.4g}, {high:.4g}]"
    if not result.successes:
        return f"{result.episodes} episodes, {returns}"
    low, high = result.success_interval
    return (
        f"success {sum(result.successes)}/{result.episodes} = {result.success_rate:.3f} [{low:.3f}, {high:.3f}], "
        f"mean final progress {result.mean_final_progress:.3f}, {returns}"
    )


def _summary(paths: Sequence[Path], results: Sequence[Evaluation]) -> dict[str, Any]:
    """One policy's figures; of several, all of them and the mean with its interval over the policies."""
    from sealegs_learning.statistics import success_interval, t_interval

    if len(results) == 1:
        return results[0].to_json()
    metric = "success" if results[0].successes else "evaluation_return"
    means = [result.figures()[metric] for result in results]
    mean, kind = sum(means) / len(means), "Student's over policies"
    if metric == "success":
        interval = success_interval([sum(one.successes) for one in results], results[0].episodes)
        kind = f"hull of {kind} and Wilson's over all {sum(one.episodes for one in results)} episodes"
    else:
        interval = t_interval(means)
    print(f"{metric} over {len(means)} policies: {mean:.4g} [{interval.low:.4g}, {interval.high:.4g}] ({kind})")
    rows = [{"policy": str(path), **result.to_json()} for path, result in zip(paths, results, strict=True)]
    return {"policies": rows, "metric": metric, "mean": mean, "interval": list(interval), "interval_is": kind}


def _compare(results: Sequence[Evaluation], others: Sequence[Path], found: Sequence[Evaluation]) -> dict[str, Any]:
    from sealegs_learning.statistics import paired_comparison

    metric = "success" if results[0].successes else "return"
    if len(results) == 1:
        unit, a, b = "episodes", results[0].outcomes()[metric], found[0].outcomes()[metric]
    else:
        unit = "policies"
        a, b = (tuple(sum(one.outcomes()[metric]) / one.episodes for one in group) for group in (results, found))
    pair = paired_comparison(a, b)
    print(
        f"paired difference in {metric} {pair.difference:+.3f} "
        f"[{pair.interval.low:+.3f}, {pair.interval.high:+.3f}], "
        f"ahead in {pair.a_ahead}, behind in {pair.b_ahead} {unit}, p = {pair.p_value:.3g}"
    )
    rows = [{"policy": str(path), **one.to_json()} for path, one in zip(others, found, strict=True)]
    return {"policies": rows, "metric": metric, "paired_by": unit, "paired": pair._asdict()}


def _films(path: Path, result: Evaluation, folder: Path, camera: str) -> dict[str, Any]:
    from rich.progress import Progress

    from sealegs_learning.evaluation.evaluate import film_extremes
    from sealegs_learning.files import write_json
    from sealegs_learning.training.checkpoint import load_actor

    with Progress(transient=True) as bar:
        job = bar.add_task("filming", total=3)
        shown = film_extremes(
            load_actor(path), result, folder, camera=camera, progress=lambda done, _: bar.update(job, completed=done)
        )
    write_json(folder / "films.json", {"policy": str(path), "task": result.task, "films": shown})
    for name, one in shown.items():
        outcome = "" if "success" not in one else ", success" if one["success"] else ", failure"
        print(f"{folder / one['file']}: {name} return {one['return']:.4g}, seed {one['seed']}{outcome}")
    return shown
