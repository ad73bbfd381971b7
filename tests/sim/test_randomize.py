"""Domain randomisation: what the factors do to the models, and that they are repeatable."""

from typing import Any

import mujoco
import numpy as np
import pytest

from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.randomize import DEFAULT_RANGES, KNOBS, Randomizer, ranges_of
from sealegs_sim.vector import BatchEnv


def with_ranges(robot: RobotProfile, ranges: Any) -> RobotProfile:
    backend = robot.backend.model_copy(update={"parameters": {"randomization": ranges}})
    return robot.model_copy(update={"backend": backend})


def make(robot: RobotProfile, ranges: Any, num_envs: int = 2, seed: int = 0) -> BatchEnv:
    env = BatchEnv("drawer", num_envs, robot=with_ranges(robot, ranges), autoreset="same_step", randomise=True)
    env.reset(seed=seed)
    return env


@pytest.mark.parametrize("knob", sorted(KNOBS))
def test_a_knob_scales_its_fields_and_no_others(robot: RobotProfile, knob: str) -> None:
    env = make(robot, {knob: [1.5, 1.5]})
    nominal, drawn = env.scene.model, env._batch.get_model(1)
    scaled = dict(KNOBS[knob].fields)
    for field in ("geom_friction", "body_mass", "body_inertia", "dof_damping", "dof_armature", "dof_frictionloss",
                  "actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):  # fmt: skip
        expected = np.array(getattr(nominal, field))
        if field in scaled:
            expected[..., list(scaled[field]) if scaled[field] else slice(None)] *= 1.5
        assert getattr(drawn, field) == pytest.approx(expected), field


def test_constants_follow_the_masses(robot: RobotProfile) -> None:
    env = make(robot, {"body_mass": [0.5, 2.0]})
    drawn = env._batch.get_model(0)
    by_hand = mujoco.MjModel.from_xml_path(str(_model_path()))
    by_hand.body_mass[:], by_hand.body_inertia[:] = drawn.body_mass, drawn.body_inertia
    mujoco.mj_setConst(by_hand, mujoco.MjData(by_hand))
    assert drawn.dof_invweight0 == pytest.approx(by_hand.dof_invweight0)
    assert not np.allclose(drawn.dof_invweight0, env.scene.model.dof_invweight0, rtol=1e-3)


def _model_path() -> Any:
    from importlib import resources

    return resources.files("sealegs_sim") / "assets" / "drawer.xml"


def test_draws_are_each_envs_own_and_within_their_ranges(robot: RobotProfile) -> None:
    first, again, other = (make(robot, DEFAULT_RANGES, 3, seed) for seed in (0, 0, 9))
    factors = [env._randomizer.factors for env in (first, again, other)]
    assert np.array_equal(factors[0], factors[1])
    assert len(np.unique(np.concatenate([factors[0], factors[2]])[:, 0])) == 6
    assert factors[0].min() >= 0.8
    assert factors[0].max() <= 1.2
    before = factors[0].copy()
    first.reset(options={"reset_mask": np.array([False, True, False])})
    assert np.array_equal(first._randomizer.factors[[0, 2]], before[[0, 2]])
    assert not np.array_equal(first._randomizer.factors[1], before[1])


def test_without_randomisation_nothing_changes_and_factor_one_is_nominal(robot: RobotProfile) -> None:
    plain = BatchEnv("drawer", 2, autoreset="same_step")
    plain.reset(seed=4)
    same = make(robot, {"joint_damping": [1.0, 1.0], "body_mass": [1.0, 1.0]}, seed=4)
    heavier = make(robot, {"joint_damping": [3.0, 3.0]}, seed=4)
    action = np.full((2, 6), 0.7, dtype=np.float32)
    for _ in range(20):
        expected, found, slower = plain.step(action)[0], same.step(action)[0], heavier.step(action)[0]
    assert np.array_equal(expected, found)
    assert not np.allclose(expected, slower, atol=1e-3)


def test_a_restored_env_goes_on_with_its_drawn_robots(robot: RobotProfile) -> None:
    actions = np.random.default_rng(2).uniform(-1, 1, (215, 2, 6)).astype(np.float32)
    env = make(robot, DEFAULT_RANGES)
    for action in actions[:190]:
        env.step(action)
    state = env.state()
    straight = [env.step(action)[0] for action in actions[190:]]
    other = make(robot, DEFAULT_RANGES, seed=50)
    other.set_state(state)
    for action, expected in zip(actions[190:], straight, strict=True):
        assert np.array_equal(other.step(action)[0], expected)


def test_bad_ranges_are_named(robot: RobotProfile) -> None:
    with pytest.raises(SimulationError, match="unknown randomization knob 'colour'; available: body_mass"):
        ranges_of(with_ranges(robot, {"colour": [0.9, 1.1]}))
    for bad in ([1.1, 0.9], [0.0, 1.0], [1.0], "wide", [0.9, "x"]):
        with pytest.raises(SimulationError, match="randomization body_mass needs factors"):
            ranges_of(with_ranges(robot, {"body_mass": bad}))
    with pytest.raises(SimulationError, match="must map knobs"):
        ranges_of(with_ranges(robot, [1, 2]))
    british = robot.backend.model_copy(update={"parameters": {"randomisation": {"body_mass": [1.0, 2.0]}}})
    with pytest.raises(SimulationError, match="parameter 'randomisation' is unknown; did you mean randomization"):
        ranges_of(robot.model_copy(update={"backend": british}))
    assert ranges_of(robot) == DEFAULT_RANGES
    assert ranges_of(with_ranges(robot, {})) == {}


def test_the_randomizer_starts_at_the_nominal_robot(robot: RobotProfile) -> None:
    env = BatchEnv("reach", 2)
    env.reset(seed=0)
    assert (Randomizer(env._batch, env.scene.model, DEFAULT_RANGES).factors == 1.0).all()
