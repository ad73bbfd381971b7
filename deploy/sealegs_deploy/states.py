"""States of the controller, the record of a change between them, and the times that govern it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    """One change of state, at `now_ns` robot time, and why."""

    now_ns: int
    before: State
    after: State
    reason: str


class ControllerConfig(FrozenModel):
    """Times of the state machine.

    command_horizon_ms: how long a command holds after its stamp; None takes the bundle's timing contract.
    resume_fresh_ms: how long all streams must have been fresh before HOLD may be resumed.
    silence_timeout_ms: host time without a joint sample that ends ACTIVE, should robot time itself stand still.
    """

    command_horizon_ms: Positive | None = None
    resume_fresh_ms: Positive = 1000.0
    silence_timeout_ms: Positive = 500.0
