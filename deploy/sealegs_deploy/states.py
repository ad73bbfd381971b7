"""States of the controller, the record of a change between them, and the times that govern it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from sealegs_contract.robot import FrozenModel, Positive


class State(StrEnum):
    """States of the controller; see safety in the documentation."""

    UNCONFIGURED = "unconfigured"
    DISARMED = "disarmed"
    ACTIVE = "active"
    HOLD = "hold"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, or of the policy in charge (`before` is `after`), at `now_ns` robot time, and why."""

    now_ns: int
    before: State
    after: State
    reason: str


class ControllerConfig(FrozenModel):
    """Times of the state machine.

    command_horizon_ms: how long a command holds after its stamp; None takes the bundle's timing contract.
    resume_fresh_ms: how long all streams must have been fresh before HOLD may be resumed.
    silence_timeout_ms: host time without a joint sample that ends ACTIVE, should robot time itself stand still.
    communication_timeout_ms: host time without a newer joint sample after which HOLD becomes FAULT.
    unfollowed_timeout_ms: host time for which the robot node may follow no command before ACTIVE ends; see followed.py.
    candidates: actions among which the bundle's scorer chooses (best-of-N); 1 is the policy alone.
    arm_anywhere: arm also where the arm stands far from the bundle's training data; see near.py.
    """

    command_horizon_ms: Positive | None = None
    resume_fresh_ms: Positive = 1000.0
    silence_timeout_ms: Positive = 500.0
    communication_timeout_ms: Positive = 1000.0
    unfollowed_timeout_ms: Positive = 500.0
    candidates: Annotated[int, Field(ge=1, le=256)] = 1
    arm_anywhere: bool = False
