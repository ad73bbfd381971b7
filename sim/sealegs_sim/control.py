"""From normalised actions to guarded joint targets: the same decoder and guard that the robot's nodes use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import ActionError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec

FloatArray = NDArray[np.float64]


class JointControl:
    """Keeps the last guarded command of one robot, or of `batch` robots."""

    def __init__(self, robot: RobotProfile, spec: ActionSpec, batch: int = 0) -> None:
        self.spec = spec
        self._decoder = ActionDecoder(spec)
        limits = JointLimits.from_profile(robot)
        self.guard = Guard(limits, 1.0 / robot.control_rate_hz, batch, relative=spec.kind == "joint_delta")

    def reset(self, measured: FloatArray, rows: NDArray | None = None) -> None:
        """Start from the measured position (J,) or (rows, J) rad, at rest."""
        self.guard.reset(measured, rows)

    def targets(self, action: NDArray, measured: FloatArray) -> FloatArray:
        """Guarded targets (..., J) rad for actions in [-1, 1]. Raises ActionError on a wrong shape or NaN."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != np.shape(measured):
            raise ActionError(f"an action has shape {action.shape}, expected {np.shape(measured)} like the joints")
        output = self.spec.to_output(np.clip(action, -1.0, 1.0))
        return self.guard(self._decoder.decode(output, self.guard.position, measured)).position
