"""The guard against hand arithmetic, brute force, and an oracle that knows only positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sealegs.faults.guard import oracle as guard_oracle
from sealegs_contract.errors import SpecError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import load_robot

DT = 0.02
# Rounding: a position of 1 rad carries 1e-16 rad, and a braking curve of 90 steps gathers some hundred of these.
TOLERANCE_RAD, TOLERANCE_RAD_S, TOLERANCE_RAD_S2, TOLERANCE_RAD_S3 = 1e-12, 1e-9, 1e-6, 1e-4


def violations(limits: JointLimits, positions: np.ndarray, period_s: float = DT) -> dict[str, float]:
    """The worst excess over each limit in `positions` (T, ..., J), which starts at rest. Knows nothing of the guard."""
    velocity = np.diff(positions, axis=0, prepend=positions[:1]) / period_s
    acceleration = np.diff(velocity, axis=0, prepend=np.zeros_like(velocity[:1])) / period_s
    jerk = np.diff(acceleration, axis=0, prepend=np.zeros_like(velocity[:1])) / period_s
    outside = np.maximum(limits.position_min - positions, positions - limits.position_max)
    return {
        "position": float(outside.max()),
        "velocity": float((np.abs(velocity) - limits.velocity_max).max()),
        "acceleration": float((np.abs(acceleration) - limits.acceleration_max).max()),
        "jerk": float((np.abs(jerk) - limits.jerk_max).max()),
    }


def assert_legal(limits: JointLimits, positions: np.ndarray, period_s: float = DT) -> None:
    found = violations(limits, positions, period_s)
    assert found["position"] <= TOLERANCE_RAD, found
    assert found["velocity"] <= TOLERANCE_RAD_S, found
    assert found["acceleration"] <= TOLERANCE_RAD_S2, found
    assert found["jerk"] <= TOLERANCE_RAD_S3, found


def follow(guard: Guard, start: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Commands (T + 1, ..., J), the start first."""
    guard.reset(start)
    return np.array([guard.position, *(guard(target).position for target in targets)])


def test_the_oracle_sees_each_kind_of_violation(limits: JointLimits) -> None:
    rest = np.zeros((5, 3))
    assert violations(limits, rest)["velocity"] < 0
    jump = rest.copy()
    jump[3:, 1] = 0.25
    found = violations(limits, jump)
    assert found["position"] < 0 < min(found["velocity"], found["acceleration"])
    assert violations(limits, rest + 0.31)["position"] == pytest.approx(0.01)
    one = guard_oracle.Limits(-1.0, 2.0, 3.0, 30.0, 1000.0, DT)
    seen = guard_oracle.excess([0.0, 0.0, 0.0, 0.07], one)
    assert min(seen[name] for name in ("velocity", "acceleration", "jerk")) > 0 > seen["position"]


def test_first_steps_by_hand(limits: JointLimits) -> None:
    guard = Guard(limits, DT)
    commands = follow(guard, np.zeros(3), np.full((3, 3), 10.0))
    # Joint 0: +0.6 rad/s each period, so 0.012, 0.024, 0.036 rad further.
    np.testing.assert_allclose(commands[:, 0], [0.0, 0.012, 0.036, 0.072], atol=1e-15)
    np.testing.assert_allclose(guard.velocity, [1.8, 0.3, 0.042], atol=1e-12)
    assert (guard.limited, guard.rejected) == (3, 0)


def random_walks(rng: np.random.Generator, steps: int, batch: int, joints: int) -> np.ndarray:
    return np.cumsum(rng.normal(scale=0.2, size=(steps, batch, joints)), axis=0)


def square_waves(rng: np.random.Generator, steps: int, batch: int, joints: int) -> np.ndarray:
    """Full swings of random length: the worst case for braking."""
    signs = np.cumprod(np.where(rng.random((steps, batch, joints)) < 0.02, -1.0, 1.0), axis=0)
    return 1e6 * signs


def uniform(rng: np.random.Generator, steps: int, batch: int, joints: int) -> np.ndarray:
    return rng.uniform(-3.0, 3.0, (steps, batch, joints))


def near_limits(rng: np.random.Generator, steps: int, batch: int, joints: int) -> np.ndarray:
    """Targets within rounding of position limits."""
    return rng.choice([-1.0, 2.0, -0.2, 0.3], (steps, batch, joints)) + rng.normal(
        scale=1e-9, size=(steps, batch, joints)
    )


@pytest.mark.parametrize("which", ["limits", "jerk_limits"])
@pytest.mark.parametrize("make_targets", [random_walks, square_waves, uniform, near_limits])
def test_fuzzed_commands_stay_legal(request: pytest.FixtureRequest, which: str, make_targets) -> None:  # type: ignore[no-untyped-def]
    limits = request.getfixturevalue(which)
    rng = np.random.default_rng(7)
    steps, batch = 500, 40
    targets = make_targets(rng, steps, batch, 3)
    targets[rng.random(targets.shape) < 0.01] = np.nan
    start = rng.uniform(limits.position_min, limits.position_max, (batch, 3))
    commands = follow(Guard(limits, DT, batch=batch), start, targets)
    assert_legal(limits, commands)
    assert np.abs(np.diff(commands, axis=0)).max() > 0.9 * DT  # it moved, and fast


def test_the_real_robot_stays_legal_at_its_extremes() -> None:
    limits = JointLimits.from_profile(load_robot("so101"))
    rng = np.random.default_rng(3)
    targets = square_waves(rng, 2000, 20, len(limits.position_min))
    home = np.broadcast_to(load_robot("so101").home_rad, targets.shape[1:])
    assert_legal(limits, follow(Guard(limits, DT, batch=20), home, targets))


@pytest.mark.parametrize("batch", [0, 5])
@pytest.mark.parametrize("relative", [False, True])
def test_a_saved_history_goes_on_bit_for_bit(jerk_limits: JointLimits, relative: bool, batch: int) -> None:
    rng = np.random.default_rng(2)
    guard, other = (Guard(jerk_limits, DT, batch, relative) for _ in range(2))
    guard.reset(np.zeros(3))
    shape = (30, batch, 3) if batch else (30, 3)
    for target in rng.uniform(-1, 1, shape):
        guard(target)
    other.restore(np.asfortranarray(guard.save()))  # whatever its layout in memory
    for target in rng.uniform(-1, 1, shape):
        np.testing.assert_array_equal(guard(target).position, other(target).position)
    np.testing.assert_array_equal(guard.save(), other.save())
    with pytest.raises(SpecError, match=r"history of shape \(4, .*3\), got \(2, 3\)"):
        guard.restore(np.zeros((2, 3)))


def test_a_target_that_stands_still_is_reached_once_and_kept(jerk_limits: JointLimits) -> None:
    """Rest to rest with a limited jerk: no overshoot, no chatter; the jerk changes its sign at most four times."""
    guard, target = Guard(jerk_limits, DT), np.array([1.0, 0.2, 1.5])
    commands = follow(guard, np.zeros(3), np.broadcast_to(target, (400, 3)))
    np.testing.assert_allclose(commands[-50:], np.broadcast_to(target, (50, 3)), atol=2e-9)
    unit = jerk_limits.jerk_max * DT**3
    assert (commands - target <= unit).all()
    for joint in range(3):
        jerk = np.diff(commands[:, joint], 3) / unit[joint]
        signs = np.sign(jerk[np.abs(jerk) > 0.02])
        assert np.count_nonzero(np.diff(signs)) <= 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_rejects_the_whole_command_before_clamping(limits: JointLimits, bad: float) -> None:
    guard = Guard(limits, DT)
    guard.reset(np.zeros(3))
    for _ in range(10):
        guard(np.array([1.0, 0.2, 1.0]))
    before, speed = guard.position.copy(), guard.velocity.copy()
    step = guard(np.array([1.0, bad, 1.0]))
    assert not step.finite
    assert step.limited.all()
    assert guard.rejected == 1
    # Every joint, the good ones too, decelerates by a*dt.
    expected = np.maximum(speed - limits.acceleration_max * DT, 0.0)
    np.testing.assert_allclose((step.position - before) / DT, expected, atol=1e-12)
    for _ in range(200):
        step = guard(np.full(3, bad))
    np.testing.assert_array_equal(guard.velocity, 0.0)
    assert np.isfinite(step.position).all()


def test_a_bad_row_leaves_the_other_rows_alone(limits: JointLimits) -> None:
    rng = np.random.default_rng(0)
    targets = rng.uniform(-1, 1, (50, 4, 3))
    spoiled = targets.copy()
    spoiled[25:, 2, 0] = np.nan
    clean_run = follow(Guard(limits, DT, batch=4), np.zeros(3), targets)
    spoiled_run = follow(Guard(limits, DT, batch=4), np.zeros(3), spoiled)
    np.testing.assert_array_equal(clean_run[:, [0, 1, 3]], spoiled_run[:, [0, 1, 3]])
    np.testing.assert_array_equal(spoiled_run[-1, 2], spoiled_run[-2, 2])


@pytest.mark.parametrize("offset", [0.5, 1e-9, -1e-9, -0.5])
def test_a_start_outside_the_limits_only_moves_inward(limits: JointLimits, offset: float) -> None:
    start = (limits.position_max if offset > 0 else limits.position_min) + offset
    outward = np.full((400, 3), 10.0 * np.sign(offset))
    commands = follow(Guard(limits, DT), start, outward)
    outside = np.maximum(np.maximum(limits.position_min - commands, commands - limits.position_max), 0.0)
    assert (np.diff(outside, axis=0) <= 1e-15).all()
    assert (outside[-1] <= 1e-12).all()
    motion = violations(limits, commands)
    assert motion["velocity"] <= TOLERANCE_RAD_S
    assert motion["acceleration"] <= TOLERANCE_RAD_S2


def test_an_outward_speed_outside_the_limits_is_not_followed(limits: JointLimits) -> None:
    position = limits.position_max + 0.1
    guard = Guard(limits, DT)
    outward = limits.velocity_max * DT
    guard.restore(np.stack([position, outward, np.zeros(3), position]))
    step = guard(np.full(3, 9.0))
    assert (step.position <= position).all()
    np.testing.assert_allclose(guard.velocity, (step.position - position) / DT)


def test_legal_sequences_pass_unchanged(limits: JointLimits) -> None:
    t = np.arange(2000)[:, None] * DT
    centre = (limits.position_min + limits.position_max) / 2
    swing = 0.45 * (limits.position_max - limits.position_min)
    # A sine of amplitude A and frequency w has speed A w and acceleration A w^2.
    omega = 0.7 * np.minimum(limits.velocity_max / swing, np.sqrt(limits.acceleration_max / swing))
    targets = centre - swing * np.cos(omega * t)
    assert_legal(limits, targets)
    guard = Guard(limits, DT)
    np.testing.assert_allclose(follow(guard, targets[0], targets), np.vstack([targets[:1], targets]), atol=1e-12)
    assert (guard.limited, guard.rejected) == (0, 0)


def test_targets_at_the_limits_are_reached(limits: JointLimits) -> None:
    guard = Guard(limits, DT)
    commands = follow(guard, np.zeros(3), np.full((400, 3), 10.0))
    np.testing.assert_allclose(commands[-1], limits.position_max, atol=1e-9)
    # Time-optimal: joint 0 accelerates for 5 periods, and brakes for 5: 2 rad at 3 rad/s take 0.67 s + 0.1 s.
    assert np.argmax(commands[:, 0] > 2.0 - 1e-9) <= 40


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("jerk_factor", [1.0, 0.2, np.inf])
def test_batch_equals_single_guards(jerk_limits: JointLimits, jerk_factor: float, relative: bool) -> None:
    limits = replace(jerk_limits, jerk_max=jerk_limits.jerk_max * jerk_factor)
    rng = np.random.default_rng(5)
    targets = rng.uniform(-2, 2, (200, 6, 3))
    targets[100:, :3] = 0.1 + np.cumsum(rng.normal(0.0, 0.01, (100, 3, 3)), axis=0)  # half the robots: near targets
    targets[rng.random(targets.shape) < 0.02] = np.nan
    start = rng.uniform(limits.position_min, limits.position_max, (6, 3))
    together = Guard(limits, DT, batch=6, relative=relative)
    batch_run = follow(together, start, targets)
    singles = [Guard(limits, DT, relative=relative) for _ in range(6)]
    for row, guard in enumerate(singles):
        np.testing.assert_array_equal(batch_run[:, row], follow(guard, start[row], targets[:, row]))
    assert together.limited == sum(guard.limited for guard in singles)
    assert together.rejected == sum(guard.rejected for guard in singles)


def test_reset_of_single_rows(limits: JointLimits) -> None:
    guard = Guard(limits, DT, batch=3)
    guard.reset(np.zeros(3))
    for _ in range(5):
        guard(np.full((3, 3), 0.2))
    moving = guard.position.copy()
    guard.reset(np.full(3, 0.1), rows=np.array([True, False, False]))
    np.testing.assert_array_equal(guard.position[0], 0.1)
    np.testing.assert_array_equal(guard.velocity[0], 0.0)
    np.testing.assert_array_equal(guard.position[1:], moving[1:])
    assert guard.velocity[1:].any()


def test_stop_decelerates_and_counts_nothing(limits: JointLimits) -> None:
    guard = Guard(limits, DT)
    commands = list(follow(guard, np.zeros(3), np.full((20, 3), 10.0)))
    limited = guard.limited
    commands += [guard.stop().position for _ in range(120)]
    assert_legal(limits, np.array(commands))
    np.testing.assert_allclose(guard.velocity, 0.0, atol=1e-12)
    assert (guard.limited, guard.rejected) == (limited, 0)


def test_an_unarmed_or_misused_guard_says_so(limits: JointLimits) -> None:
    guard = Guard(limits, DT)
    with pytest.raises(SpecError, match="call reset"):
        guard(np.zeros(3))
    with pytest.raises(SpecError, match="not finite"):
        guard.reset(np.array([0.0, np.nan, 0.0]))
    guard.reset(np.zeros(3))
    with pytest.raises(SpecError, match=r"targets of shape \(3,\), got \(2,\)"):
        guard(np.zeros(2))
    for shape in [(), (1,), (2, 3)]:
        with pytest.raises(SpecError, match="shape"):
            guard(np.zeros(shape))


def test_the_callers_arrays_are_left_alone(limits: JointLimits) -> None:
    target, start = np.full(3, 5.0), np.zeros(3)
    guard = Guard(limits, DT)
    guard.reset(start)
    for _ in range(3):
        guard(target)
    assert target.tolist() == [5.0] * 3
    assert start.tolist() == [0.0] * 3


@pytest.mark.parametrize("relative", [False, True])
def test_a_joint_that_rests_goes_on_as_one_whose_law_is_asked_every_time(
    jerk_limits: JointLimits, relative: bool
) -> None:
    """`restore` makes the guard forget which joints rest; nothing may depend on it, to the last bit."""
    rng = np.random.default_rng(5)
    guard, asked = (Guard(jerk_limits, DT, relative=relative) for _ in range(2))
    guard.reset(np.zeros(3))
    asked.reset(np.zeros(3))
    kept = 0
    for number in range(60):
        target = rng.choice([-1.0, 2.0, 0.0, rng.uniform(-1.0, 1.0)], 3)
        for k in range(120):
            stops = number % 7 == 3 and k == 100
            steps = [one.stop() if stops else one(target) for one in (guard, asked)]
            kept += sum(one is not None for one in guard._kept)
            assert [one.tobytes() for one in steps[0]] == [one.tobytes() for one in steps[1]]
            asked.restore(asked.save())
    assert guard.save().tobytes() == asked.save().tobytes()
    assert guard.limited == asked.limited
    assert kept > 1_000
