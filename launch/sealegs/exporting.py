"""Checkpoint -> bundle: reads what learning wrote and hands it to deployment, which knows nothing of learning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs_contract.errors import BundleError

if TYPE_CHECKING:
    from sealegs_deploy.manifest import Manifest, Metric


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    key: Path | None = None,
    name: str = "",
    overwrite: bool = False,
) -> Manifest:
    """Write the signed bundle of a checkpoint to `out` (a folder, or a file ending in .zip); its manifest.

    Raises LearningError when the checkpoint cannot be read, BundleError when the export cannot be trusted or written.
    """
    import torch

    from sealegs_deploy.export import ExportRequest, export_bundle
    from sealegs_deploy.manifest import Provenance
    from sealegs_deploy.signing import own_key
    from sealegs_learning.training.card import read_card_files
    from sealegs_learning.training.checkpoint import find_checkpoint, load_policy

    torch.set_num_threads(1)
    policy = load_policy(checkpoint)
    about = policy.provenance
    training = dict(about.get("config", {}))
    reward = about.get("reward", {})
    task = policy.task
    request = ExportRequest(
        name=name or default_name(str(training.get("learner", "policy")), task),
        robot=policy.robot,
        observation=policy.observation_spec,
        action=policy.action_spec,
        temporal=policy.temporal,
        provenance=Provenance(
            task=task,
            task_text=task_text(task),
            learner=str(training.get("learner", "")),
            run_path=str(find_checkpoint(checkpoint)),
            dataset_fingerprint=str(about.get("dataset_fingerprint", "")),
            reward_fingerprint=str(reward.get("parquet_sha256", reward.get("name", ""))),
            training=training | {"reward_details": reward, "updates": about.get("update")},
        ),
        metrics=tuple(metrics_of(policy.metrics)),
    )
    statistics = (policy.normalizer.mean.numpy(), policy.normalizer.std.numpy())
    card = read_card_files(find_checkpoint(checkpoint))
    return export_bundle(policy, request, out, own_key(key), statistics, overwrite, card)


def default_name(learner: str, task: str) -> str:
    """`drawer-iql`, reduced to what a bundle's name may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{task}-{learner}" if task else learner).strip("-.")[:64] or "policy"


def task_text(task: str) -> str:
    """The sentence of a simulated task; empty for tasks that only the dataset knows."""
    from sealegs_sim.tasks import TASKS

    return TASKS[task].text if task in TASKS else ""


def metrics_of(metrics: Mapping[str, Any]) -> list[Metric]:
    """The figures of a recorded evaluation, with their 95% intervals; none where none was recorded."""
    from sealegs_deploy.manifest import Metric

    evaluation = metrics.get("evaluation")
    if not evaluation:
        return []
    try:
        episodes, note = int(evaluation["episodes"]), f"in simulation, seeds from {evaluation['seed']}"
        pairs = {"success_rate": "success_interval", "mean_final_progress": "final_progress_interval"}
        return [
            Metric(name=name, value=evaluation[name], interval=tuple(evaluation[bounds]), episodes=episodes, note=note)
            for name, bounds in pairs.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the checkpoint's evaluation cannot be read: {type(error).__name__}: {error}") from error
