"""The law's closed forms against stepping, and the guard against an oracle that knows only positions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealegs.faults.guard import oracle as guard_oracle
from sealegs.faults.guard.fuzz import fuzz
from sealegs_contract import guard_joint
from sealegs_contract.braking import brake, full_brake, peak, rest_distance
from sealegs_contract.guard import Guard, JointLimits


@pytest.mark.parametrize("distance", [0.0, 0.3, 1.0, 7.5, 1e4])
def test_brake_is_the_first_of_steps_that_fall_by_one_and_sum_up(distance: float) -> None:
    first = brake(distance)
    assert sum(max(first - k, 0.0) for k in range(round(first) + 2)) == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("q", [0.3, 0.5, 2.5, 7.0])
def test_peak_and_rest_distance_are_what_stepping_gives(q: float) -> None:
    """In units of J: the rise on the hardest braking, and the way to rest without turning back."""
    r = random.Random(1)
    for _ in range(300):
        s, c = r.uniform(-5.0, 30.0), r.uniform(-q, q)
        rise, best, step, change = s, s, s, c
        for _ in range(400):
            change = max(change - 1.0, -q)
            step += change
            rise += step
            best = max(best, rise)
        # What stays below the present position is below the limit, too.
        assert max(peak(s, c, q)[0], 0.0) == pytest.approx(max(best, 0.0), abs=1e-9)
        if s < 0.0 or c < -brake(s + abs(c)):  # it would turn back
            continue
        far, step, change = s, s, c
        while step > 1e-12:
            change = max(change - 1.0, -q, -brake(step))
            step += change
            far += step
        plateau = (q // 1.0 + 1.0) * (q - 0.5 * (q // 1.0))
        assert rest_distance(s, c, q, plateau) == pytest.approx(far, abs=1e-9)
        assert full_brake(s, q) <= far + 1e-9


@settings(max_examples=150, deadline=None)
@given(
    acceleration=st.floats(0.05, 200.0),
    velocity=st.floats(0.05, 20.0),
    periods=st.floats(0.1, 50.0),
    width=st.floats(0.01, 6.0),
    start=st.floats(0.0, 1.0),
    dt=st.sampled_from([0.001, 0.004, 0.02, 0.1]),
    targets=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    repeats=st.integers(1, 25),
    relative=st.booleans(),
)
def test_any_limits_and_any_targets(
    acceleration: float, velocity: float, periods: float, width: float, start: float, dt: float, targets: list[float],
    repeats: int, relative: bool,
) -> None:  # fmt: skip
    one = guard_oracle.Limits(-0.5, -0.5 + width, velocity, acceleration, acceleration / (periods * dt), dt)
    guard = Guard(JointLimits(*(np.array([value]) for value in one[:5])), dt, relative=relative)
    wanted = np.repeat(np.array(targets), repeats)[:, None]
    guard.reset(np.array([-0.5 + start * width]).clip(-0.5, -0.5 + width))
    commands = [guard.position[0], *(guard(target).position[0] for target in wanted)]
    found = guard_oracle.excess(commands, one)
    assert found["position"] <= 0.0, found
    assert max(found.values()) <= 1e-9, found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_commands_that_try_to_break_the_limits_do_not(seed: int) -> None:
    assert fuzz(random.Random(seed), 200).problems == ()


def test_the_fuzz_finds_a_guard_that_forgets_to_brake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the position limits fall without `largest_change`, by so much that a run or two shows it."""
    monkeypatch.setattr(guard_joint, "largest_change", lambda c, lowest, s, distance, q: c)
    problems = [problem for seed in range(20) for problem in fuzz(random.Random(seed), 200).problems]
    assert any("position exceeded" in problem for problem in problems)
