"""A candidate beside the policy in charge: what it would command, its score, how it gets the seat and loses it."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sealegs_contract.errors import ActionError, BundleError, ControllerError
from sealegs_contract.sample import CommandSample
from sealegs_deploy.aside import LONG_NS, Aside, considerate
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.pilot import Pilot, pilot_of
from sealegs_deploy.shadow import Score
from sealegs_deploy.standby import Candidate, Reports, Standby
from sealegs_deploy.states import State
from sealegs_deploy.timing import LoopTiming

if TYPE_CHECKING:
    from conftest import Rig


class Given:
    """A policy that gives `output`, fails where that is not finite, takes `slow_ms` of the rig's clock, and computes
    until it is `free`.
    """

    def __init__(self, rig: Rig, output: float) -> None:
        self.rig, self.output, self.slow_ms = rig, np.full(6, output), 0.0
        self.asked, self.free = threading.Event(), threading.Event()
        self.free.set()

    def infer(self, observation: np.ndarray, images: object) -> np.ndarray:
        self.asked.set()
        self.free.wait(60.0)
        self.rig.clock.advance_ms(self.slow_ms)
        if not np.isfinite(self.output).all():
            raise ActionError("policy output is not finite")
        return self.output.copy()


class Bench:
    """A rig under way, its standby, and what that reported."""

    def __init__(self, rig: Rig, shadows: bool = True) -> None:
        self.rig = rig
        self.commands: list[CommandSample] = []
        self.scores: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.kept: list[str] = []
        reports = Reports(self.commands.append, self.scores.append, lambda text, bad: self.lines.append(text))
        self.standby = Standby(rig.controller, reports, shadows)
        rig.controller.on_transition = self.standby.on_transition
        rig.policy.output[:] = 0.004

    def pilot(self, policy: Any) -> Pilot:
        manifest = self.rig.controller.manifest.model_copy(update={"name": "candidate"})
        return Pilot(manifest, policy, self.rig.robot, self.rig.controller.config, LoopTiming(), self.rig.clock)

    def candidate(self, pilot: Pilot) -> Candidate:
        return Candidate(pilot, lambda: self.kept.append(pilot.name))

    def adopt(self, output: float) -> Given:
        policy = Given(self.rig, output)
        self.standby.adopt(self.candidate(self.pilot(policy)))
        return policy

    def arm(self) -> None:
        self.rig.push()
        self.rig.controller.arm(self.rig.now)

    def step(self, periods: int = 1, wait: bool = True, position: Any = None) -> CommandSample | None:
        for _ in range(periods):
            rig = self.rig
            rig.wait()
            for sample in rig.samples_at(rig.now, position):
                rig.controller.push(sample)
                self.standby.take(sample, rig.now, rig.clock())
            history = rig.controller.history
            command = rig.controller.tick(rig.now)
            self.standby.after(rig.now, command, history)
            assert not wait or self.standby.wait(5.0)
        return command

    def swap(self, probation_ms: float) -> CommandSample:
        """Ask for it, and take the tick after whose command it happens."""
        assert self.standby.swap(probation_ms).startswith("candidate version ")
        swaps = self.standby.swaps
        command = self.step()
        assert self.standby.swaps == swaps + 1
        return command

    def end(self) -> dict[str, Any]:
        self.rig.controller.disarm(self.rig.now)
        assert self.standby.wait(5.0)
        return self.scores[-1]


@pytest.fixture
def bench(rig: Rig):
    made = Bench(rig)
    yield made
    made.standby.close()


def test_divergence_is_that_of_one_decision_and_follows_hand_arithmetic(bench: Bench):
    """0.004 rad a period against 0.001, from the same last command: 0.003 in each tick, however many there were."""
    bench.adopt(0.001)
    bench.arm()
    for _ in range(30):
        command = bench.step()
        np.testing.assert_allclose(command.position - bench.commands[-1].position, 0.003, atol=1e-9)
        assert bench.commands[-1].stamp_ns == command.stamp_ns
    episode = bench.end()["episode"]
    assert episode["ticks"] == episode["compared"] == 30
    for figures in (episode["divergence_rad"], *episode["joints_rad"].values()):
        assert figures == pytest.approx({"p50": 0.003, "p99": 0.003, "max": 0.003})


@pytest.mark.parametrize("shift_rad", [0.0, 1e-3])
def test_the_same_bundle_as_its_own_candidate_does_not_differ_at_all(
    rig: Rig, bundle: VerifiedBundle, shift_rad: float
):
    """With the control: the same graph, whose output is shifted by a milliradian."""
    bench = Bench(rig)
    pilots = [pilot_of(bundle, rig.robot, rig.controller.config, LoopTiming(), rig.clock)[0] for _ in range(2)]
    infer = pilots[1].policy.infer
    pilots[1].policy.infer = lambda *given: infer(*given) + shift_rad
    rig.controller.unconfigure(rig.now)
    rig.controller.configure_pilot(pilots[0], rig.now)
    bench.standby.adopt(bench.candidate(pilots[1]))
    bench.arm()
    rng = np.random.default_rng(0)
    for _ in range(40):
        bench.step(position=rig.robot.home_rad + rng.normal(0.0, 0.02, 6))
    largest = bench.end()["episode"]["divergence_rad"]["max"]
    assert (largest == 0.0) == (shift_rad == 0.0)
    bench.standby.close()


def test_errors_alarms_misses_and_overruns_are_counted_and_nothing_is_proposed(bench: Bench):
    policy = bench.adopt(0.001)
    bench.arm()
    bench.step()
    policy.output[:] = np.nan
    bench.step(2)
    policy.output[:], policy.slow_ms = 0.001, 12.0
    bench.step()
    policy.slow_ms = 101.0
    bench.step()
    policy.slow_ms = 0.0
    verdict = SimpleNamespace(score=1.0, speed=1.0, alarm="never seen")
    bench.standby.pilot.support = SimpleNamespace(check=lambda seen: verdict, forget=lambda: None)
    bench.step()
    proposed = len(bench.commands)
    total = bench.end()["total"]
    assert (total["ticks"], total["compared"], proposed) == (6, 2, 2)
    assert total["errors"] == 3
    assert (total["alarms"], total["last_alarm"]) == (1, "support: never seen")
    assert total["misses"] == 2
    assert total["last_error"] == "overrun: inference took 101.0 ms"
    assert total["inference"]["max_ms"] == pytest.approx(101.0)


def test_episodes_end_with_the_motion_and_add_up(bench: Bench):
    bench.adopt(0.001)
    for number, periods in enumerate((3, 5), 1):
        bench.arm()
        bench.step(periods)
        report = bench.end()
        assert (report["candidate"], report["episodes"]) == ("candidate", number)
        assert report["episode"]["ticks"] == periods
    assert report["total"]["ticks"] == 8
    bench.step(3)
    bench.rig.controller.fault("a limit passed", bench.rig.now)
    assert len(bench.scores) == 2, "nothing moved, so nothing is scored"


def test_a_candidate_that_is_late_is_skipped_and_delays_nobody(bench: Bench):
    """It computes for sixty periods; meanwhile every tick has its command, and a swap waits for fifty of them."""
    policy = bench.adopt(0.001)
    bench.arm()
    bench.step()
    policy.free.clear()
    policy.asked.clear()
    bench.step(wait=False)
    assert policy.asked.wait(30.0)
    bench.standby.swap(200.0)
    for _ in range(59):
        assert bench.step(wait=False) is not None
    assert bench.lines == ["not swapped: the candidate was still computing after 50 periods"]
    policy.free.set()
    assert bench.standby.wait(5.0)
    bench.step()
    total = bench.end()["total"]
    assert (total["ticks"], total["skipped"]) == (3, 59)


@pytest.mark.parametrize("shadows", [False, True])
def test_a_swap_goes_on_from_the_last_command_and_is_remembered_when_it_lasts(rig: Rig, shadows: bool):
    bench = Bench(rig, shadows)
    bench.adopt(0.001)
    bench.arm()
    bench.step(5)
    last = bench.swap(100.0)
    assert bench.standby.status()["state"] == "probation"
    for _ in range(5):
        command = bench.step()
        np.testing.assert_allclose(command.position - last.position, 0.001, atol=1e-9)
        assert command.stamp_ns - last.stamp_ns == 20_000_000
        assert not bench.kept or not rig.controller.on_probation
        last = command
    assert bench.kept == [f"candidate version {rig.controller.manifest.version}"]
    status = bench.standby.status()
    assert (status["state"], status["swaps"], status["rollbacks"]) == ("none", 1, 0)
    assert "kept candidate" in status["reason"]
    bench.standby.close()


def test_a_candidate_that_fails_on_probation_is_dropped_and_not_remembered(bench: Bench):
    policy = bench.adopt(0.001)
    bench.arm()
    bench.step(5)
    last = bench.swap(1000.0)
    policy.output[:] = np.nan
    command = bench.step()
    np.testing.assert_allclose(command.position - last.position, 0.004, atol=1e-9)
    assert bench.rig.controller.state is State.ACTIVE
    status = bench.standby.status()
    assert (status["state"], status["policy"], status["rollbacks"], bench.kept) == ("none", "", 1, [])
    assert "rolled back from candidate" in status["reason"]
    assert "rolled back from candidate" in bench.lines[-1]
    with pytest.raises(ControllerError, match="no candidate is ready .none: rolled back"):
        bench.standby.swap(1000.0)


def test_loading_is_the_workers_and_says_what_came_of_it(bench: Bench):
    """Ticks go on while it loads; a refusal leaves no candidate."""
    bench.arm()
    begun, go = threading.Event(), threading.Event()

    def make() -> Candidate:
        begun.set()
        go.wait(10.0)
        return bench.candidate(bench.pilot(Given(bench.rig, 0.001)))

    bench.standby.load(make)
    assert begun.wait(5.0)
    assert all(bench.step(wait=False) is not None for _ in range(5))
    with pytest.raises(ControllerError, match="cannot load a candidate"):
        bench.standby.load(make)
    with pytest.raises(ControllerError, match="no candidate is ready .loading."):
        bench.standby.swap(200.0)
    go.set()
    bench.standby.wait(5.0)
    bench.step(2)
    assert bench.standby.status()["state"] == "ready"
    assert bench.commands

    def refuse() -> Candidate:
        raise BundleError("policy.onnx was changed")

    bench.standby.load(refuse)
    bench.step(2)
    assert bench.standby.status()["state"] == "refused"
    assert bench.lines[-1] == "candidate refused: policy.onnx was changed"


def test_percentiles_are_over_the_window_and_the_largest_over_all():
    score = Score(("a", "b"), budget_ns=10, window=4)
    values = np.array([[9.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 5.0], [4.0, 0.0]])
    for row in values:
        score.differed(row)
    summary = score.summary()
    assert summary["joints_rad"]["a"] == {"p50": 2.5, "p99": pytest.approx(np.percentile([1, 2, 3, 4], 99)), "max": 9.0}
    assert summary["divergence_rad"]["p50"] == np.percentile([2, 2, 5, 4], 50)
    assert score.brief(1)["divergence_rad_p50"] == 4.0


def test_only_what_takes_long_within_an_aside_is_computed_at_low_priority():
    """Another thread, whose priority is its own: the caller's stays, and an error comes back to the caller."""
    seen: list[tuple[int, int]] = []

    def job() -> None:
        thread = threading.get_native_id()
        seen.append((thread, os.getpriority(os.PRIO_PROCESS, thread)))

    own, aside = (threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0)), Aside()
    assert considerate(job, 10 * LONG_NS) == 0
    with aside:
        assert considerate(job, LONG_NS - 1) > 0
        assert considerate(job, LONG_NS) > 0
        with pytest.raises(ZeroDivisionError):
            considerate(lambda: 1 // 0, LONG_NS)
        considerate(job, LONG_NS)
    considerate(job, LONG_NS)
    aside.close()
    assert [one == own for one in seen] == [True, True, False, False, True]
    assert seen[2] == seen[3]
    assert seen[2][1] == 19
