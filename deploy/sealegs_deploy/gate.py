"""The replay gate: a verified bundle over recorded episodes, in the real controller, measured before it may move.

`examine` measures; `gate_thresholds.judge` holds the figures against thresholds; `certificate` remembers a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import RobotProfile
from sealegs_deploy import gate_figures as figure
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.gate_figures import FloatArray
from sealegs_deploy.gate_findings import EpisodeFigures, Figures
from sealegs_deploy.gate_normalisation import normalisation_figures
from sealegs_deploy.gate_probe import Probe
from sealegs_deploy.gate_replay import GateEpisode, Replayed, replay
from sealegs_deploy.gate_thresholds import Thresholds
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.player import Policy
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.scoring import best_of_n

if TYPE_CHECKING:
    from sealegs_deploy.support import Support

NS_PER_MS = 1e6
GAIN_QUANTILE = 95.0


@dataclass(frozen=True)
class Examination:
    """The figures, those of every episode, and what they came from, for pictures."""

    figures: Figures
    episodes: tuple[EpisodeFigures, ...]
    replayed: tuple[Replayed, ...]
    correlations: FloatArray
    """(J, J): of the policy's joints (rows) with the record's."""


def examine(
    bundle: VerifiedBundle,
    robot: RobotProfile,
    episodes: Iterable[GateEpisode],
    thresholds: Thresholds,
    support: Callable[[], Support | None] | None = None,
    provider: str = "cpu",
    candidates: int = 1,
) -> Examination:
    """Replay all episodes and measure. Raises BundleError where the bundle does not fit `robot` or no episode came.

    `support` gives a fresh support model for an episode. `candidates`: examine the best of so many actions, as the
    bundle's scorer chooses.
    """
    runtime = PolicyRuntime(bundle, provider)
    policy = runtime if candidates == 1 else best_of_n(bundle, runtime, candidates, provider)
    guards = support or (lambda: None)
    replayed = tuple(replay(bundle.manifest, policy, robot, episode, guards()) for episode in episodes)
    if not replayed:
        raise BundleError("there is no recorded episode to replay")
    record = _Record.of(bundle.manifest, replayed)
    watched = guards() is not None
    figures = _figures(bundle.manifest, robot, replayed, record, thresholds, watched)
    probed = _probed(runtime, policy, replayed, thresholds)
    normalised = normalisation_figures(bundle, runtime, replayed, thresholds.noise)
    figures = figures.model_copy(update=probed | normalised)
    each = tuple(_episode(bundle.manifest, one) for one in replayed)
    return Examination(figures, each, replayed, record.correlations)


@dataclass(frozen=True)
class _Record:
    """Actions (M, J) where the record has one too, of all episodes, and how its joints go with the policy's."""

    action: FloatArray
    recorded: FloatArray
    observed: FloatArray
    correlations: FloatArray
    moved: NDArray[np.bool_]

    @classmethod
    def of(cls, manifest: Manifest, replayed: Sequence[Replayed]) -> _Record:
        known = [np.isfinite(one.recorded).all(axis=1) for one in replayed]
        to_action = manifest.action.to_action
        # A command outside of the policy's reach counts as its full scale, as it does in training.
        recorded = np.concatenate([to_action(one.recorded[k]) for one, k in zip(replayed, known, strict=True)])
        recorded = np.clip(recorded, -1.0, 1.0)
        action = np.concatenate([to_action(one.output[k]) for one, k in zip(replayed, known, strict=True)])
        observed = np.concatenate([one.observed[k] for one, k in zip(replayed, known, strict=True)]).astype(np.float64)
        return cls(
            action,
            recorded,
            observed,
            figure.joint_correlations(action, recorded) if len(action) else np.zeros((action.shape[1],) * 2),
            figure.telling_joints(observed, recorded),
        )


def _figures(
    manifest: Manifest,
    robot: RobotProfile,
    replayed: Sequence[Replayed],
    record: _Record,
    thresholds: Thresholds,
    watched: bool,
) -> Figures:
    periods = sum(len(one.output) for one in replayed)
    minutes = periods * robot.control_period_ns / 60e9
    alarmed = sum(one.support_alarms > 0 for one in replayed)
    holds = sum(len(one.stream_holds) for one in replayed)
    target, command = (np.concatenate([getattr(one, name) for one in replayed]) for name in ("target", "command"))
    action = manifest.action.to_action(np.concatenate([one.output for one in replayed]))
    saturated = figure.saturated_share(action)
    measured = {
        "episodes": len(replayed),
        "periods": periods,
        "minutes": minutes,
        "unarmed_episodes": sum(not one.armed for one in replayed),
        "policy_holds": sum(len(one.policy_holds) - one.support_alarms for one in replayed),
        "stream_holds": holds,
        "stream_holds_per_minute": _known(holds / minutes if minutes else np.nan),
        "support_alarmed": alarmed / len(replayed) if watched else None,
        "support_alarmed_low": figure.wilson_low(alarmed, len(replayed)) if watched else None,
        "refused_samples": sum(one.refused_samples for one in replayed),
        "limited_share": _known(figure.limited_share(target, command)),
        "saturated_share": _known(saturated),
        "saturation_excess": _known(saturated - figure.saturated_share(record.recorded)),
        "jump_ratio": _known(_jump_ratio(manifest, replayed)),
        "acceleration_q99": _known(_sharpness(manifest, robot, replayed)),
        "repetition": None,
        "sensitivity": None,
        "loop_gain": None,
    }
    agreement = _agreement(record, thresholds.foreign_joint_margin)
    return Figures.model_validate({**measured, **agreement, **_inference(manifest, replayed)})


def _sharpness(manifest: Manifest, robot: RobotProfile, replayed: Sequence[Replayed]) -> float:
    """99th percentile of the acceleration that the outputs ask for, over the joint's limit."""
    limits, period_s = np.array([j.acceleration_max_rad_s2 for j in robot.joints]), robot.control_period_ns / 1e9
    relative = manifest.action.kind == "joint_delta"
    shares = [figure.acceleration_share(one.output, relative, period_s, limits).ravel() for one in replayed]
    return figure.quantile(np.concatenate(shares))


def _agreement(record: _Record, margin: float) -> dict[str, float | int | None]:
    """How the policy's actions go with the recorded ones."""
    a, b = record.action, record.recorded
    if len(a) < 2:
        names = ("correlation", "predictable", "agreement", "explained", "bias", "weakest_joint", "foreign_joints",
                 "size_ratio", "slope")  # fmt: skip
        return dict.fromkeys(names)
    predictable = figure.correlation(figure.linear_fit(record.observed, b), b)
    correlation = figure.correlation(a, b)
    own = np.diag(record.correlations)[record.moved]
    return {
        "correlation": _known(correlation),
        "predictable": _known(predictable),
        "agreement": _known(correlation / predictable if predictable > 0.0 else np.nan),
        "explained": _known(figure.explained(a, b)),
        "bias": _known(figure.bias(a, b)[record.moved].max() if own.size else np.nan),
        "weakest_joint": _known(own.min() if own.size else np.nan),
        "foreign_joints": len(figure.foreign_joints(record.correlations, record.moved, margin)),
        "size_ratio": _known(figure.size_ratio(a, b)),
        "slope": _known(figure.slope(a, b)),
    }


def _inference(manifest: Manifest, replayed: Sequence[Replayed]) -> dict[str, float | None]:
    """Real durations here, in ms, of the periods in which the policy was asked."""
    elapsed = np.concatenate([one.elapsed_ns for one in replayed])
    asked = elapsed[elapsed > 0] / NS_PER_MS
    p99 = figure.quantile(asked, 99.0)
    return {
        "inference_p50_ms": _known(figure.quantile(asked, 50.0)),
        "inference_p99_ms": _known(p99),
        "inference_max_ms": _known(asked.max() if asked.size else np.nan),
        "inference_budget_share": _known(p99 / manifest.timing.inference_budget_ms),
    }


def _probed(
    runtime: PolicyRuntime, policy: Policy, replayed: Sequence[Replayed], thresholds: Thresholds
) -> dict[str, float | None]:
    inputs = [seen for one in replayed for seen in one.inputs]
    if not inputs:
        return {}
    probe = Probe(runtime, inputs, [seen for one in replayed for seen in one.images], policy)
    return {
        "repetition": _known(probe.repetition()),
        "sensitivity": _known(probe.sensitivity(thresholds.noise)),
        "loop_gain": _known(figure.quantile(probe.gains(), GAIN_QUANTILE)),
    }


def _episode(manifest: Manifest, one: Replayed) -> EpisodeFigures:
    record = _Record.of(manifest, [one])
    asked = one.elapsed_ns[one.elapsed_ns > 0] / NS_PER_MS
    return EpisodeFigures(
        name=one.name,
        succeeded=one.succeeded,
        periods=len(one.output),
        limited_share=_known(figure.limited_share(one.target, one.command)),
        saturated_share=_known(figure.saturated_share(manifest.action.to_action(one.output))),
        correlation=_known(figure.correlation(record.action, record.recorded) if len(record.action) > 1 else np.nan),
        jump_ratio=_known(_jump_ratio(manifest, [one])),
        policy_holds=one.policy_holds,
        stream_holds=one.stream_holds,
        support_alarmed=one.support_alarms > 0,
        inference_p99_ms=_known(figure.quantile(asked, 99.0)),
    )


def _jump_ratio(manifest: Manifest, replayed: Sequence[Replayed]) -> float:
    """Mean change of the action from period to period over the record's, where both are known."""
    ours, theirs = [], []
    for one in replayed:
        recorded = figure.jumps(np.clip(manifest.action.to_action(one.recorded), -1.0, 1.0))
        known = np.isfinite(recorded).all(axis=1)
        ours.append(figure.jumps(manifest.action.to_action(one.output))[known])
        theirs.append(recorded[known])
    record = np.concatenate(theirs)
    if not record.size or not record.mean() > 0.0:
        return float("nan")
    return float(np.concatenate(ours).mean() / record.mean())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
