"""Probing a policy around what it saw: does it repeat itself, how far does sensor noise move it, is its loop tight?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import FrozenModel, Positive
from sealegs_contract.spec import ObservationSpec
from sealegs_deploy.gate_figures import FloatArray, loop_gain
from sealegs_deploy.gate_replay import Images
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.player import Policy
from sealegs_deploy.runtime import PolicyRuntime

PROBES, SEEING_PROBES = 256, 16
DRAWS = 4
PIECE = 1024
STEP_RAD = 2e-3
"""Half the step of the finite differences: about an encoder's."""


class SensorNoise(FrozenModel):
    """Deviation of what sensors add, in the fields' physical units."""

    joint_position_rad: Positive = 1.5e-3
    joint_velocity_rad_s: Positive = 2e-2
    joint_effort_n_m: Positive = 1e-2
    object_position_m: Positive = 1e-3
    object_orientation: Positive = 2e-3

    def deviations(self, observation: ObservationSpec, history: int = 1) -> FloatArray:
        """For every element of the policy's input (history * D,), in the observation's scale."""
        sizes = {
            "joint_position": self.joint_position_rad,
            "joint_velocity": self.joint_velocity_rad_s,
            "joint_effort": self.joint_effort_n_m,
            "object_position": self.object_position_m,
            "object_orientation": self.object_orientation,
        }
        frame = np.concatenate([np.full(f.size, sizes[f.kind] * abs(f.scale)) for f in observation.fields])
        return np.tile(frame, history)


class Probe:
    """The policy's first action (N, J), rad, at recorded inputs (N, history * D) with their images, and beside them.

    `policy` is what acts where that is more than the graph of `runtime`: the best of N.
    """

    def __init__(
        self,
        runtime: PolicyRuntime,
        inputs: Sequence[NDArray[np.float32]],
        images: Sequence[Images],
        policy: Policy | None = None,
        seed: int = 0,
    ) -> None:
        most = SEEING_PROBES if runtime.manifest.observation.images else PROBES
        kept = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), most)).astype(int))
        self._runtime, self._manifest, self._seed = runtime, runtime.manifest, seed
        self.inputs = np.stack([inputs[k] for k in kept])
        self._policy = None if isinstance(policy, PolicyRuntime) else policy
        self._images = {camera: np.stack([images[k][camera] for k in kept]) for camera in images[0]}

    def done(self, inputs: NDArray[np.floating]) -> FloatArray:
        """As `act`, of what acts: `policy` is asked once for each input."""
        if self._policy is None:
            return self.act(inputs)
        count = len(self.inputs)
        images = [{camera: pixels[k] for camera, pixels in self._images.items()} for k in range(count)]
        return np.stack([self._policy.infer(x, images[k % count]) for k, x in enumerate(inputs.astype(np.float32))])

    def act(self, inputs: NDArray[np.floating]) -> FloatArray:
        """(M, J) for M a multiple of the N inputs, whose images repeat: of the graph alone."""
        repeats = len(inputs) // len(self.inputs)
        images = {camera: np.concatenate([pixels] * repeats) for camera, pixels in self._images.items()}
        parts = []
        for start in range(0, len(inputs), PIECE):
            rows = slice(start, start + PIECE)
            seen = {camera: pixels[rows] for camera, pixels in images.items()}
            parts.append(self._runtime.infer_batch(inputs[rows].astype(np.float32), seen))
        output = np.concatenate(parts).astype(np.float64)
        return output if output.ndim == 2 else output[:, 0]

    def repetition(self) -> float:
        """Largest difference of the action, of full scale, between two askings of the same question."""
        return float(np.abs(self._action(self.done(self.inputs)) - self._action(self.done(self.inputs))).max())

    def sensitivity(self, noise: SensorNoise) -> float:
        """Mean change of the action, of full scale, under sensor noise."""
        rng = np.random.default_rng(self._seed)
        spread = noise.deviations(self._manifest.observation, self._manifest.temporal.history)
        asked = np.tile(self.inputs, (DRAWS, 1)) + spread * rng.standard_normal((DRAWS * len(self.inputs), len(spread)))
        still = np.tile(self._action(self.done(self.inputs)), (DRAWS, 1))
        return float(np.abs(self._action(self.done(asked)) - still).mean())

    def gains(self) -> FloatArray:
        """`loop_gain` at every input (N,), of the newest joint positions. Empty without them.

        Of the graph alone: a choice among candidates jumps, and has no derivative.
        """
        places = joint_places(self._manifest)
        if not places:
            return np.empty(0)
        steps = []
        for place, scale in places:
            ahead, back = self.inputs.astype(np.float64), self.inputs.astype(np.float64)
            ahead[:, place] += STEP_RAD * scale
            back[:, place] -= STEP_RAD * scale
            steps.append((self.act(ahead) - self.act(back)) / (2.0 * STEP_RAD))
        return loop_gain(np.stack(steps, axis=-1))

    def _action(self, output: FloatArray) -> FloatArray:
        return self._manifest.action.to_action(output)


def joint_places(manifest: Manifest) -> list[tuple[int, float]]:
    """Where the newest position of every joint lies in the policy's input, and its scale; none if one is missing."""
    observation = manifest.observation
    newest = (manifest.temporal.history - 1) * observation.size
    where: Mapping[str, int] = {name: newest + k for k, name in enumerate(observation.element_names)}
    scales = {j: f.scale for f in observation.fields if f.kind == "joint_position" for j in f.joints}
    names = [f"{joint}.joint_position" for joint in manifest.joint_names]
    if any(name not in where for name in names):
        return []
    return [(where[name], scales[joint]) for name, joint in zip(names, manifest.joint_names, strict=True)]
