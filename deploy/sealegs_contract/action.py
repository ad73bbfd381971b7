"""ActionDecoder: policy output to joint targets by name, and back (for logs whose commands are known)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError
from sealegs_contract.spec import ActionSpec

FloatArray = NDArray[np.float64]


class ActionDecoder:
    """Pure: the caller keeps the previous target. Arrays are (..., J) in the order of `spec.joints`, in rad."""

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec

    def decode(self, output: FloatArray, previous_target: FloatArray, measured: FloatArray) -> FloatArray:
        """Joint targets from a policy output (already scaled to rad).

        joint_position: target = output
        joint_delta:    target = clip(previous_target + output, measured - lead, measured + lead)

        Raises ActionError on a wrong shape or a value that is not finite.
        """
        output = np.asarray(output, dtype=np.float64)
        if not output.shape == np.shape(measured) == np.shape(previous_target) or output.shape[-1:] != (
            self.spec.size,
        ):
            raise ActionError(
                f"policy output has shape {output.shape}, measured {np.shape(measured)} and previous target "
                f"{np.shape(previous_target)}; expected (..., {self.spec.size}) for each"
            )
        if not np.isfinite(output).all():
            raise ActionError(f"policy output is not finite: {output.tolist()}")
        if self.spec.kind == "joint_position":
            return output
        lead = self.spec.maximum_lead_rad
        return np.clip(previous_target + output, measured - lead, measured + lead)

    def encode(self, targets: FloatArray, initial_target: FloatArray) -> FloatArray:
        """Outputs (T, J) that produced `targets` (T, J) from `initial_target` (J,), where no lead limit was active."""
        if self.spec.kind == "joint_position":
            return np.asarray(targets, dtype=np.float64)
        return np.diff(np.concatenate([initial_target[None], targets]), axis=0)
