"""Run a policy in simulation, all episodes in parallel, and report success with its Wilson interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `sealegs evaluate`."""

    policy: Path
    """Checkpoint, or the training run that holds it."""
    task: str = ""
    """Task to run; the policy's own by default."""
    episodes: int = 100
    """Episodes; episode i starts from SEED + i, so equal seeds compare policies on equal starts."""
    seed: int = 1000
    """Seed of the first episode."""
    compare: Path | None = None
    """Another checkpoint to run on the same starts, for a paired comparison."""
    film: Path | None = None
    """Write the first episode as an animated GIF."""
    camera: str = "front"
    """Camera of the film."""
    json: Path | None = None
    """Write every figure, also by episode, to this file."""
    record: bool = False
    """Keep the result in the checkpoint's folder, where `sealegs export` finds it for the manifest."""


def run(config: Config) -> int:
    """Evaluate, print, and write what was asked for."""
    import torch

    from sealegs_contract.errors import LearningError
    from sealegs_learning.checkpoint import load_policy, record_evaluation
    from sealegs_learning.evaluate import film
    from sealegs_learning.files import write_json
    from sealegs_learning.statistics import paired_comparison

    torch.set_num_threads(1)
    policy = load_policy(config.policy)
    task = config.task or policy.task
    if not task:
        raise LearningError("the checkpoint names no single task: give --task")
    result = _evaluate(policy, task, config, str(config.policy))
    content = result.to_json()
    if config.compare is not None:
        other = _evaluate(load_policy(config.compare), task, config, str(config.compare))
        pair = paired_comparison(result.successes, other.successes)
        print(
            f"paired difference in success {pair.difference:+.3f} "
            f"[{pair.interval.low:+.3f}, {pair.interval.high:+.3f}], "
            f"ahead in {pair.a_ahead}, behind in {pair.b_ahead} episodes, p = {pair.p_value:.3g}"
        )
        content["compared_with"] = {"policy": str(config.compare), **other.to_json(), "paired": pair._asdict()}
    if config.record:
        print(f"recorded in {record_evaluation(config.policy, result.to_json())}")
    if config.json is not None:
        write_json(config.json, content)
    if config.film is not None:
        succeeded = film(policy, task, config.seed, config.film, camera=config.camera)
        print(f"{config.film}: seed {config.seed}, {'success' if succeeded else 'failure'}")
    return 0


def _evaluate(policy, task: str, config: Config, name: str):  # type: ignore[no-untyped-def]
    from rich.progress import Progress

    from sealegs_learning.evaluate import evaluate

    with Progress(transient=True) as bar:
        job = bar.add_task(f"{config.episodes} episodes of {task}", total=None)
        result = evaluate(
            policy,
            task,
            config.episodes,
            config.seed,
            progress=lambda step, steps: bar.update(job, completed=step, total=steps),
        )
    low, high = result.success_interval
    print(
        f"{name} on {task}: success {sum(result.successes)}/{result.episodes} = {result.success_rate:.3f} "
        f"[{low:.3f}, {high:.3f}], mean final progress {result.mean_final_progress:.3f} ({result.seconds:.1f} s)"
    )
    return result
