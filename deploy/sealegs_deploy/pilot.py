"""Pilot: one policy with all that belongs to it. Samples go in, a target comes out; it commands nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import BundleError, ControllerError
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import Sample
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.manifest import Manifest, check_fits
from sealegs_deploy.near import far_joints, trained_interval
from sealegs_deploy.player import Policy, PolicyPlayer
from sealegs_deploy.providers import ProviderChoice
from sealegs_deploy.scoring import BestOfNPolicy, make_policy
from sealegs_deploy.states import ControllerConfig
from sealegs_deploy.streams import Streams
from sealegs_deploy.support import Support, load_support
from sealegs_deploy.timing import NS_PER_MS, LoopTiming

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where the policy would go: `target` (J,) rad, before any guard. `alarm` is empty unless one must hold instead."""

    target: FloatArray
    elapsed_ns: int
    alarm: str = ""


class Pilot:
    """A policy, its streams, its decoder, what it remembers, and the support of its training data.

    Raises BundleError where the manifest does not fit the LOCAL profile `robot` or the times of `config`,
    ControllerError where the command horizon of `config` does not. `host_ns` is the steady clock of this host.
    """

    def __init__(
        self,
        manifest: Manifest,
        policy: Policy,
        robot: RobotProfile,
        config: ControllerConfig,
        timing: LoopTiming,
        host_ns: Callable[[], int],
        support: Support | None = None,
    ) -> None:
        check_fits(manifest, robot)
        check_times(manifest, config)
        contract = manifest.timing
        horizon_ms = config.command_horizon_ms or contract.command_horizon_ms
        self.manifest, self.policy, self.support = manifest, policy, support
        self.horizon_ns = round(horizon_ms * NS_PER_MS)
        self.timeout_ns = round(contract.observation_timeout_ms * NS_PER_MS)
        self.streams = Streams(manifest.observation, host_ns, config.silence_timeout_ms)
        self._joint_names = robot.joint_names
        self._trained = None if config.arm_anywhere else trained_interval(manifest, robot)
        self._decoder = ActionDecoder(manifest.action)
        budget_ns = round(contract.inference_budget_ms * NS_PER_MS)
        self._player = PolicyPlayer(policy, manifest.temporal, robot.control_period_ns, budget_ns, timing, host_ns)

    @property
    def name(self) -> str:
        """`NAME version V`, for people."""
        return f"{self.manifest.name} version {self.manifest.version}"

    @property
    def relative(self) -> bool:
        """Whether its actions are relative to the last command."""
        return self.manifest.action.kind == "joint_delta"

    @property
    def timing(self) -> LoopTiming:
        """Where its inference times go."""
        return self._player.timing

    @timing.setter
    def timing(self, timing: LoopTiming) -> None:
        self._player.timing = timing

    def counts(self) -> dict[str, int]:
        """How often a candidate of best-of-N was taken, and why not; nothing without a scorer."""
        policy = self.policy
        return (
            {f"best_of_n_{k}": v for k, v in asdict(policy.counts).items()} if isinstance(policy, BestOfNPolicy) else {}
        )

    def push(self, sample: Sample, now_ns: int | None, received_ns: int | None, may_restart: bool) -> bool:
        """Take a sample; see Streams.push."""
        return self.streams.push(sample, now_ns, received_ns, may_restart)

    def measured(self) -> FloatArray:
        """Newest measured position (J,) rad."""
        return self.streams.joint_position(self._joint_names)

    def far(self) -> str:
        """Why not to begin from the measured pose: the training data were elsewhere. Empty where they were not."""
        far = far_joints(self.measured(), *self._trained, self._joint_names) if self._trained else ""
        way_out = "move the arm there, or set arm_anywhere"
        return f"the pose is far from the training data of {self.name}: {far}; {way_out}" if far else ""

    def remember(self, observation: Observation) -> None:
        """See this period's observation without acting on it."""
        self._player.see(observation)

    def propose(self, observation: Observation, stamp_ns: int, commanded: FloatArray) -> Proposal:
        """The policy's target for the period that begins at `stamp_ns`, from the last command (J,) rad.

        Call it once a period. Outside the support of its training data it moves more slowly, then it alarms.
        Raises ActionError as the policy does, SpecError on an output of the wrong shape.
        """
        output, elapsed_ns = self._player.output(observation, stamp_ns)
        target = self._decoder.decode(output, commanded, self.measured())
        if self.support is None:
            return Proposal(target, elapsed_ns)
        verdict = self.support.check(self._player.seen)
        slowed = commanded + verdict.speed * (target - commanded)
        return Proposal(slowed, elapsed_ns, f"support: {verdict.alarm}" if verdict.alarm else "")

    def forget(self) -> None:
        """Begin anew: nothing remembered, no chunk under way."""
        self._player.forget()
        if self.support is not None:
            self.support.forget()


def check_times(manifest: Manifest, config: ControllerConfig) -> None:
    """Refuse waiting times beyond `communication_timeout_ms`: silence for so long is a FAULT.

    Raises BundleError for the bundle's, ControllerError for a command horizon of `config`, which replaces the bundle's.
    """
    contract, seen, own = manifest.timing, manifest.observation, config.command_horizon_ms
    if own and not contract.period_ms <= own <= config.communication_timeout_ms:
        raise ControllerError(
            f"command horizon {own:g} ms is shorter than the period {contract.period_ms:g} ms or longer than the "
            f"communication timeout {config.communication_timeout_ms:g} ms"
        )
    waits = {
        "timing.observation_timeout_ms": contract.observation_timeout_ms,
        "observation.timeout_ms": seen.timeout_ms,
        "observation.image_timeout_ms": seen.image_timeout_ms if seen.images else 0.0,
        "timing.command_horizon_ms": 0.0 if own else contract.command_horizon_ms,
    }
    for name, value in waits.items():
        if value > config.communication_timeout_ms:
            raise BundleError(
                f"bundle {manifest.name} has {name} {value:g} ms, beyond the communication timeout of the controller, "
                f"{config.communication_timeout_ms:g} ms: silence for so long is a FAULT"
            )


def pilot_of(
    bundle: VerifiedBundle,
    robot: RobotProfile,
    config: ControllerConfig,
    timing: LoopTiming,
    host_ns: Callable[[], int],
    provider: str = "cpu",
    strict_provider: bool = False,
) -> tuple[Pilot, ProviderChoice]:
    """The pilot of a verified bundle that was made for `robot`; which execution provider runs it, and why.

    Raises BundleError when it does not fit, has no scorer for `candidates` > 1, or `provider` does not start though it
    is `strict_provider`.
    """
    check_fits(bundle.manifest, robot)
    check_times(bundle.manifest, config)
    policy, choice = make_policy(bundle, provider, strict_provider, config.candidates)
    return Pilot(bundle.manifest, policy, robot, config, timing, host_ns, load_support(bundle)), choice
