"""The support guard of an export: which data it is fitted on, and from learning's model to deployment's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs_contract.errors import LearningError, SealegsError

if TYPE_CHECKING:
    from sealegs_deploy.support_export import SupportModel
    from sealegs_learning.networks import Policy
    from sealegs_learning.support.fit import FittedSupport


@dataclass(frozen=True)
class SupportOptions:
    """`data` is what the policy was trained on; `runs` good episodes of the policy itself, to calibrate on."""

    data: Path
    runs: Path | None = None
    false_alarms: float = 0.01
    seed: int = 0


def find_support_data(
    checkpoint: Path, wanted: bool, data: Path | None, runs: Path | None, false_alarms: float
) -> tuple[SupportOptions | None, str]:
    """What to fit the support on, or None and why not. LearningError on settings that contradict each other."""
    if not 0.0 < false_alarms < 1.0:
        raise LearningError(f"--false-alarms {false_alarms}: expected a rate between 0 and 1")
    if not wanted:
        if data is not None or runs is not None:
            raise LearningError("--no-support goes without --support-data and --support-runs: leave out one of them")
        return None, "not wanted"
    if data is None:
        data, why_not = trained_on(checkpoint)
        if data is None:
            if runs is not None:
                raise LearningError(f"--support-runs also needs the training data: {why_not}")
            return None, why_not
    return SupportOptions(data, runs, false_alarms), ""


def trained_on(checkpoint: Path) -> tuple[Path | None, str]:
    """The dataset that the checkpoint's card names, if it is there and unchanged and large enough; or None and why."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.support.fit import MINIMUM_EPISODES
    from sealegs_learning.training.card import read_card_files
    from sealegs_learning.training.checkpoint import find_checkpoint, load_checkpoint

    about = json.loads(read_card_files(find_checkpoint(checkpoint)).get("card.json", b"{}")).get("data", {})
    if "dataset" not in about:
        return None, "its training data are not known; give --support-data DATASET"
    path = Path(about["dataset"])
    if not (path / "meta" / "info.json").is_file():
        return None, f"its training data are not at {path} any more; give --support-data DATASET"
    try:
        data = Dataset.open(path)
        trained = load_checkpoint(checkpoint).description.get("dataset_fingerprint", "")
        if data.fingerprint != trained:
            return None, f"{path} was changed after the training; give --support-data DATASET"
    except SealegsError as error:
        return None, str(error)
    if len(data.episodes) < MINIMUM_EPISODES:
        return None, f"{path} has {len(data.episodes)} episode(s), it needs {MINIMUM_EPISODES}"
    return path, ""


def support_model(policy: Policy, options: SupportOptions) -> SupportModel:
    """The support of a policy's data as deployment takes it."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.support.fit import SupportSettings, fit_support

    data = Dataset.open(options.data)
    runs = None if options.runs is None else Dataset.open(options.runs)
    slow_downs = min(10.0 * options.false_alarms, 0.5 * (1.0 + options.false_alarms))
    settings = SupportSettings(options.false_alarms, slow_downs, seed=options.seed)
    return deployed(fit_support(data, policy, settings, runs), data, policy)


def deployed(fitted: FittedSupport, data: Any, policy: Policy, kind: str = "") -> SupportModel:
    """`fitted` as deployment takes it; `data` is what it was fitted on."""
    import numpy as np

    from sealegs_deploy.support_export import SupportModel
    from sealegs_learning.support.fit import DEFAULT, observations_of

    return SupportModel(
        module=fitted.model,
        examples=np.concatenate(observations_of(data, policy)[:50]),
        kind=kind or DEFAULT,
        slow=fitted.slow.value,
        hold=fitted.hold.value,
        false_alarms=fitted.hold.bound,
        slow_downs=fitted.slow.bound,
        episodes=fitted.episodes,
        calibrated_on=fitted.calibrated_on,
        dataset_fingerprint=data.fingerprint,
    )
