"""What an episode is, wherever it was recorded."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from sealegs_contract.errors import SpecError
from sealegs_contract.robot import FrozenModel


class Outcome(StrEnum):
    """How an episode ended, as far as anyone said."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class EpisodeInfo(FrozenModel):
    """Metadata of one recorded episode; kept in the bag's metadata record `sealegs` and in the dataset."""

    task: str
    task_text: str
    outcome: Outcome = Outcome.UNKNOWN
    operator: str = ""
    policy: str = ""
    origin: Literal["sim", "real"] = "sim"
    robot: str
    profile_digest: str
    seed: int | None = None


class SuccessMonitor:
    """An episode succeeds once its task has been achieved for `hold_steps` control steps in a row."""

    def __init__(self, hold_steps: int = 10) -> None:
        if hold_steps < 1:
            raise SpecError(f"hold_steps is {hold_steps}; an episode succeeds after at least 1 step")
        self.hold_steps = hold_steps
        self._run = 0
        self.succeeded = False

    def reset(self) -> None:
        """Start the next episode."""
        self._run = 0
        self.succeeded = False

    def update(self, achieved: bool) -> bool:
        """Feed one control step; True from the moment the hold is complete until the next reset."""
        self._run = self._run + 1 if achieved else 0
        self.succeeded = self.succeeded or self._run >= self.hold_steps
        return self.succeeded
