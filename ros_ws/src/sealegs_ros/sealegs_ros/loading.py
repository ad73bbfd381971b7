"""Which bundles may run on this node: its parameters as rules, the same for the policy and for candidates."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rclpy.node import Node

from sealegs_contract.errors import BackendError
from sealegs_contract.robot import RobotProfile
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.certificate import check_certificate
from sealegs_deploy.gate_thresholds import Thresholds, default_thresholds, load_thresholds
from sealegs_deploy.pilot import pilot_of
from sealegs_deploy.rollback import check_version, no_rollback, remember_version
from sealegs_deploy.standby import Candidate
from sealegs_deploy.states import ControllerConfig
from sealegs_deploy.timing import LoopTiming
from sealegs_ros.runtime import bool_parameter, integer_parameter, number_parameter, text_parameter


def controller_config(node: Node) -> ControllerConfig:
    """Declare the parameters of the controller, and read them."""
    horizon_ms = number_parameter(node, "command_horizon_ms", 0.0, "validity of a command; 0: the bundle's")
    candidates = integer_parameter(node, "candidates", 1, "actions among which the bundle's scorer chooses; 1: none")
    anywhere = bool_parameter(node, "arm_anywhere", False, "arm also far from the pose of the bundle's training data")
    try:
        return ControllerConfig(command_horizon_ms=horizon_ms or None, candidates=candidates, arm_anywhere=anywhere)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BackendError(f"parameter {first['loc'][0]} of {node.get_name()}: {first['msg']}") from error


def declare_rules(node: Node) -> BundleRules:
    """Declare the parameters that say which bundles may run, and read them."""
    provider = text_parameter(node, "provider", "cpu", "onnxruntime execution provider: cpu, cuda, tensorrt or auto")
    strict = bool_parameter(
        node, "provider_strict", False, "refuse a bundle whose provider does not start, not fall back"
    )
    keys = text_parameter(node, "trusted_keys", "", "files with further public keys to trust, separated by ':'")
    version = integer_parameter(node, "minimum_version", 0, "refuse bundles with a lower version counter")
    rollback = bool_parameter(node, "allow_rollback", False, "configure a version older than one that ran here before")
    trusted = tuple(key for key in keys.split(":") if key)
    return BundleRules(trusted, version, rollback, _gate(node), provider, strict)


def _gate(node: Node) -> Thresholds | None:
    required = bool_parameter(
        node, "require_gate", False, "refuse bundles whose gate certificate does not keep gate_thresholds"
    )
    path = text_parameter(
        node, "gate_thresholds", "", "YAML file with this robot's thresholds; empty: the shipped ones"
    )
    if path and not required:
        raise BackendError(f"gate_thresholds {path} would be used for nothing: give require_gate:=true as well")
    if not required:
        return None
    return load_thresholds(Path(path)) if path else default_thresholds()


@dataclass(frozen=True)
class BundleRules:
    """The rules as they were given at start. `gate`: what a bundle's certificate must keep; None: it needs none."""

    trusted_keys: tuple[str, ...]
    minimum_version: int
    allow_rollback: bool
    gate: Thresholds | None
    provider: str
    provider_strict: bool

    def load(self, path: str, config: ControllerConfig) -> VerifiedBundle:
        """Verify the bundle at `path`, which is to run under `config`. Raises BundleError."""
        bundle = load_bundle(path, self.trusted_keys, self.minimum_version)
        if self.gate is not None:
            check_certificate(bundle, self.gate, config.candidates)
        return bundle

    def remembering(self, bundle: VerifiedBundle) -> AbstractContextManager[None]:
        """Around configuring `bundle`: see no_rollback."""
        return no_rollback(bundle, self.allow_rollback)

    def candidate(self, path: str, robot: RobotProfile, config: ControllerConfig) -> Candidate:
        """The candidate at `path`, held to all that a policy is. Its version is remembered once it was kept."""
        bundle = self.load(path, config)
        if not self.allow_rollback:
            check_version(bundle)
        pilot, choice = pilot_of(
            bundle, robot, config, LoopTiming(), time.perf_counter_ns, self.provider, self.provider_strict
        )
        return Candidate(pilot, self._remember(bundle), choice.line)

    def _remember(self, bundle: VerifiedBundle) -> Callable[[], None]:
        return lambda: None if self.allow_rollback else remember_version(bundle)
