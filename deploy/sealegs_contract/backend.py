"""What a robot, real or simulated, must offer to the robot node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import ImageSample, JointSample, PoseSample

FloatArray = NDArray[np.float64]


@runtime_checkable
class RobotBackend(Protocol):
    """One robot. The node calls `read`, then `write`, once per control period, from one thread.

    A backend never limits commands (the node's guard does), never blocks longer than a period, and raises
    BackendError when the robot cannot be reached.
    """

    profile: RobotProfile
    simulated: bool

    def connect(self) -> None:
        """Reach the robot and enable it at its present pose; it must not move."""
        ...

    def close(self) -> None:
        """Leave the robot holding its pose and release the port. Safe to call twice."""
        ...

    def now_ns(self) -> int:
        """The robot's time in ns: simulated time, or the host clock of a real robot."""
        ...

    def read(self) -> JointSample:
        """Measured joints, (J,) each, stamped."""
        ...

    def write(self, position: FloatArray) -> None:
        """Send joint position targets (J,) rad, in the profile's order, already guarded and finite."""
        ...

    def advance(self) -> None:
        """Simulated: step physics by one control period under the last written target. Real: nothing to do."""
        ...

    def object_poses(self) -> Sequence[PoseSample]:
        """Poses that the backend itself knows (simulation); empty on most real robots."""
        ...

    def images(self, cameras: Sequence[str]) -> Sequence[ImageSample]:
        """Newest images of the named cameras; empty where another node owns the cameras."""
        ...

    def reset(self, seed: int | None = None) -> None:
        """Start a new episode (simulated), which stands still until the first `write`; or raise BackendError where a
        person must do it."""
        ...

    def health(self) -> Mapping[str, str]:
        """Key and value texts for /diagnostics: counters, voltages, temperatures."""
        ...
