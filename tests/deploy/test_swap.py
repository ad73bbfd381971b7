"""Another policy takes over in flight, and gives way again; and a robot that no longer answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sealegs_contract.errors import ActionError, ControllerError
from sealegs_contract.sample import CommandSample
from sealegs_deploy.pilot import Pilot
from sealegs_deploy.states import State
from sealegs_deploy.timing import LoopTiming

if TYPE_CHECKING:
    from conftest import Rig


class Candidate:
    """A policy that gives `output`, fails where that is not finite, and takes `slow_ms` of the rig's clock."""

    def __init__(self, rig: Rig, output: float) -> None:
        self.rig, self.output, self.slow_ms = rig, np.full(6, output), 0.0
        manifest = rig.controller.manifest.model_copy(update={"name": "candidate"})
        self.pilot = Pilot(manifest, self, rig.robot, rig.controller.config, LoopTiming(), rig.clock)

    def infer(self, observation: np.ndarray, images: object) -> np.ndarray:
        self.rig.clock.advance_ms(self.slow_ms)
        if not np.isfinite(self.output).all():
            raise ActionError("policy output is not finite")
        return self.output.copy()

    def push(self) -> None:
        for sample in self.rig.samples_at(self.rig.now, None):
            self.pilot.push(sample, None, None, may_restart=False)


def moving(rig: Rig, periods: int = 5) -> CommandSample:
    """The rig under way at 0.004 rad a period in every joint: 0.2 rad/s, below every limit."""
    rig.policy.output[:] = 0.004
    rig.armed()
    for _ in range(periods):
        command = rig.step()
    return command


def swapped(rig: Rig, output: float, probation_ms: float = 200.0) -> Candidate:
    candidate = Candidate(rig, output)
    candidate.push()
    rig.controller.swap(candidate.pilot, rig.now, probation_ms)
    return candidate


def texts(rig: Rig) -> list[str]:
    return [t.reason for t in rig.controller.transitions]


def test_the_command_after_a_swap_comes_with_the_next_period_and_goes_on_from_the_last(rig: Rig):
    last = moving(rig)
    swapped(rig, 0.002)
    command = rig.step()
    assert command.stamp_ns - last.stamp_ns == 20_000_000
    np.testing.assert_allclose(command.position - last.position, 0.002, atol=1e-9)
    assert rig.controller.status()["policy"] == "candidate"
    assert rig.controller.on_probation


def test_a_policy_that_survives_its_probation_is_kept_and_holds_like_any_other(rig: Rig):
    moving(rig)
    candidate = swapped(rig, 0.002, probation_ms=200.0)
    for _ in range(9):
        rig.step()
    assert rig.controller.on_probation
    rig.step()
    assert not rig.controller.on_probation
    assert texts(rig)[-2:] == [f"swapped to {candidate.pilot.name}", f"kept {candidate.pilot.name} after its probation"]
    candidate.output[:] = np.nan
    rig.step()
    assert rig.controller.state is State.HOLD
    assert rig.controller.status()["policy"] == "candidate"


@pytest.mark.parametrize("trouble", ["not finite", "overrun"])
def test_on_probation_the_former_policy_acts_in_the_same_tick(rig: Rig, trouble: str):
    moving(rig)
    candidate = swapped(rig, 0.002)
    last = rig.step()
    if trouble == "overrun":
        candidate.slow_ms = 101.0
    else:
        candidate.output[:] = np.nan
    seen = len(rig.policy.seen)
    command = rig.step()
    assert len(rig.policy.seen) == seen + 1
    # 0.002 rad a period under the candidate, 0.004 under the former policy.
    np.testing.assert_allclose(command.position - last.position, 0.004, atol=1e-9)
    assert command.stamp_ns - last.stamp_ns == 20_000_000
    assert rig.controller.state is State.ACTIVE
    assert rig.controller.status()["policy"] == "small"
    assert f"rolled back from {candidate.pilot.name}" in rig.controller.reason
    assert trouble in rig.controller.reason
    assert not rig.controller.on_probation


def test_a_hold_on_probation_gives_the_controls_back_but_nobody_resumes_by_himself(rig: Rig):
    moving(rig)
    swapped(rig, 0.002)
    rig.step()
    rig.wait(150)
    rig.controller.tick(rig.now)
    assert rig.controller.state is State.HOLD
    assert rig.controller.status()["policy"] == "small"
    for _ in range(60):
        rig.step()
    assert rig.controller.state is State.HOLD


def test_without_a_probation_there_is_no_way_back(rig: Rig):
    moving(rig)
    swapped(rig, np.nan, probation_ms=0.0)
    rig.step()
    assert rig.controller.state is State.HOLD
    assert rig.controller.status()["policy"] == "candidate"


def test_a_swap_is_refused_without_streams_on_probation_and_in_fault(rig: Rig):
    moving(rig)
    with pytest.raises(ControllerError, match="cannot swap to candidate.*nothing yet on joint_states"):
        rig.controller.swap(Candidate(rig, 0.0).pilot, rig.now, 100.0)
    swapped(rig, 0.002)
    with pytest.raises(ControllerError, match="is still on probation"):
        swapped(rig, 0.002)
    rig.controller.e_stop(True, rig.now)
    assert rig.controller.status()["policy"] == "small", "a fault on probation gives the controls back"
    with pytest.raises(ControllerError, match=r"the controller is fault \(emergency stop\)"):
        swapped(rig, 0.002)


def test_a_robot_that_falls_silent_in_hold_is_not_commanded_when_another_answers(rig: Rig):
    """A robot node that starts again stands elsewhere, and its stamps may pass the old ones."""
    moving(rig)
    rig.wait(150)
    assert rig.controller.tick(rig.now) is not None
    assert rig.controller.state is State.HOLD
    rig.wait(851)
    rig.controller.tick(rig.now)
    assert rig.controller.state is State.FAULT
    assert "communication lost: no newer joint_states for 1001 ms" in rig.controller.reason
    assert [rig.step(rig.robot.home_rad + 0.3) for _ in range(100)] == [None] * 100


def test_the_hold_after_a_late_inference_is_stamped_when_it_is_sent(rig: Rig):
    """Stamped before it, with the horizon of 100 ms, it would be refused as expired."""
    moving(rig)
    rig.policy.before = lambda: rig.clock.advance_ms(130)
    command: Any = rig.step()
    assert rig.controller.state is State.HOLD
    assert command.stamp_ns == rig.now + 130_000_000
