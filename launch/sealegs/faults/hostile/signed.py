"""Signed bundles of hand-made graphs, in a millisecond each, and what they must compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from sealegs_contract.errors import SealegsError
from sealegs_contract.robot import load_robot
from sealegs_contract.spec import delta_action_spec, observation_spec
from sealegs_deploy.bundle import VerifiedBundle, load_bundle, write_bundle
from sealegs_deploy.manifest import (
    MANIFEST_NAME,
    POLICY_NAME,
    ExportParity,
    GraphInfo,
    Manifest,
    TimingContract,
    units_of,
)
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.signing import SigningKey

ROBOT = load_robot("so101")
OBSERVED = observation_spec(ROBOT)
MOVED = delta_action_spec(ROBOT)
OPSET, IR_VERSION = 20, 10
HIDDEN = 32


@dataclass(frozen=True)
class Signer:
    """Somebody whose bundles are trusted in these experiments."""

    key: SigningKey

    @classmethod
    def new(cls) -> Signer:
        """With a key that is on no disk."""
        return cls(SigningKey(Ed25519PrivateKey.generate(), Path("no-file")))

    def write(self, files: Mapping[str, bytes], out: Path) -> Path:
        """The signed bundle of `files`, in place of what was there."""
        return write_bundle(files, out, self.key, overwrite=True)

    def load(self, path: Path) -> VerifiedBundle:
        """As a robot that trusts this signer."""
        return load_bundle(path, trusted_public_keys=(self.key.public_key,))

    def run(self, path: Path) -> NDArray[np.float64]:
        """The first action of the bundle at `path`: verified, started and run once."""
        return first_action(self.load(path))


def first_action(bundle: VerifiedBundle) -> NDArray[np.float64]:
    """The action (J,) of the bundle's graph on `OBSERVATION`."""
    return PolicyRuntime(bundle).infer(OBSERVATION)


OBSERVATION: NDArray[np.float32] = np.linspace(-1.0, 1.0, OBSERVED.size, dtype=np.float32)


def policy_files(seed: int, version: int = 1) -> dict[str, bytes]:
    """Manifest and graph of `policy_graph(seed)`."""
    return {MANIFEST_NAME: manifest(version).to_bytes(), POLICY_NAME: policy_graph(seed).SerializeToString()}


def manifest(version: int = 1) -> Manifest:
    """Of any graph from `OBSERVED` to `MOVED`."""
    return Manifest(
        name="fault",
        version=version,
        created="2026-01-01T00:00:00+00:00",
        robot=ROBOT,
        profile_digest=ROBOT.digest,
        joint_names=ROBOT.joint_names,
        units=units_of(OBSERVED),
        rate_hz=ROBOT.control_rate_hz,
        observation=OBSERVED,
        action=MOVED,
        graph=GraphInfo(opset=OPSET),
        timing=TimingContract.of(ROBOT, OBSERVED),
        parity=ExportParity(inputs=1, max_abs_difference_rad=0.0),
    )


def weights(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(D, HIDDEN) and (HIDDEN, J)."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((OBSERVED.size, HIDDEN)) / np.sqrt(OBSERVED.size)
    second = 0.1 * rng.standard_normal((HIDDEN, MOVED.size))
    return first.astype(np.float32), second.astype(np.float32)


def policy_graph(seed: int) -> Any:
    """action = tanh(observation W1) W2, as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    first, second = weights(seed)
    nodes = [
        helper.make_node("MatMul", ["observation", "first"], ["product"]),
        helper.make_node("Tanh", ["product"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["action"]),
    ]
    inputs = [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", OBSERVED.size])]
    outputs = [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", MOVED.size])]
    constants = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "fault", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def expected_action(seed: int) -> NDArray[np.float64]:
    """What `policy_graph(seed)` computes of `OBSERVATION`, by numpy."""
    first, second = (values.astype(np.float64) for values in weights(seed))
    action: NDArray[np.float64] = np.tanh(OBSERVATION.astype(np.float64) @ first) @ second
    return action


def accepted(attempt: Callable[[], object]) -> str:
    """Empty where `attempt` is refused with an error of ours; else what it did instead."""
    try:
        attempt()
    except SealegsError:
        return ""
    except Exception as error:
        return f"it raised {type(error).__name__}: {str(error)[:120]}"
    return "it was accepted"
