"""The support guard of an export: which data it is fitted on, and from learning's model to deployment's."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs_contract.errors import LearningError, SealegsError

if TYPE_CHECKING:
    from sealegs_deploy.support_export import SupportModel
    from sealegs_deploy.support_info import SupportInfo
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.networks import Policy
    from sealegs_learning.support.fit import FittedSupport


OWN_RUNS = 200


@dataclass(frozen=True)
class SupportOptions:
    """`data` is what the policy was trained on; `runs` good episodes of the policy itself, to calibrate on.

    `simulated`: how many of its own episodes in simulation calibrate as well, where its logs are simulated too.
    """

    data: Path
    runs: Path | None = None
    false_alarms: float = 0.01
    simulated: int = OWN_RUNS
    seed: int = 0


def find_support_data(
    checkpoint: Path,
    wanted: bool,
    data: Path | None,
    runs: Path | None,
    false_alarms: float,
    simulated: int = OWN_RUNS,
) -> tuple[SupportOptions | None, str]:
    """What to fit the support on, or None and why not. LearningError on settings that contradict each other."""
    if not 0.0 < false_alarms < 1.0:
        raise LearningError(f"--false-alarms {false_alarms}: expected a rate between 0 and 1")
    if simulated < 0:
        raise LearningError(f"--support-simulated {simulated}: expected a number of episodes, or 0 for none")
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
    return SupportOptions(data, runs, false_alarms, simulated), ""


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
    from sealegs_learning.support.fit import OWN, SupportSettings, fit_support, observations_of
    from sealegs_learning.support.own_runs import SIMULATED, own_runs

    data = Dataset.open(options.data)
    slow_downs = min(10.0 * options.false_alarms, 0.5 * (1.0 + options.false_alarms))
    settings = SupportSettings(options.false_alarms, slow_downs, seed=options.seed)
    own: dict[str, Any] = {}
    if options.runs is not None:
        own[OWN] = observations_of(Dataset.open(options.runs), policy)
    elif options.simulated and not no_simulation(policy, data):
        try:
            own[SIMULATED] = own_runs(policy, options.simulated)
        except SealegsError as error:
            hint = "--support-simulated 0 calibrates on the logs alone"
            raise LearningError(f"own runs in simulation: {error}; {hint}") from error
    return deployed(fit_support(data, policy, settings, own), data, policy)


def no_simulation(policy: Policy, data: Dataset) -> str:
    """Why the policy's own runs in simulation would say nothing of those that it will make; empty if they do."""
    from sealegs_sim.tasks import TASKS

    if any(episode.origin != "sim" for episode in data.episodes):
        return "its data are not all simulated"
    if policy.task not in TASKS:
        return f"its task {policy.task!r} is not simulated"
    if find_spec("mujoco") is None:
        return "the simulator is not installed"
    if policy.observation_spec.images:
        return "it sees cameras, which take long to render"
    return ""


def deployed(fitted: FittedSupport, data: Any, policy: Policy, kind: str = "") -> SupportModel:
    """`fitted` as deployment takes it; `data` is what it was fitted on."""
    import numpy as np

    from sealegs_deploy.support_export import SupportModel
    from sealegs_deploy.support_info import SupportCalibration
    from sealegs_learning.support.fit import DEFAULT, observations_of

    return SupportModel(
        module=fitted.model,
        examples=np.concatenate(observations_of(data, policy)[:50]),
        kind=kind or DEFAULT,
        slow=fitted.slow,
        hold=fitted.hold,
        calibrations=tuple(
            SupportCalibration(
                on=one.on,
                episodes=one.episodes,
                false_alarms=one.hold.bound,
                slow_downs=one.slow.bound,
                false_alarms_sure=one.hold.sure,
            )
            for one in fitted.calibrations
        ),
        fitted=fitted.fitted,
        dataset_fingerprint=data.fingerprint,
    )


def advice(info: SupportInfo, wanted: float) -> str:
    """Lines for people: what it promises, for which episodes, how surely, and what more would take."""
    lines = [f"support guard: {info.kind}, fitted on {info.episodes[0]} episodes; it holds falsely in"]
    for one in info.calibrations:
        line = f"  {one.line}, on average over calibrations ({one.false_alarms_sure:.2g} with 95% confidence)"
        if one.false_alarms > wanted:
            line += f"; for {wanted:g} it takes {math.ceil(1.0 / wanted - 1.0 - 1e-9)} such episodes"
        lines.append(line)
    return "\n".join(lines)
