"""Delayed envs, against the robot node's own gate and guard, and against the env without delays, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sealegs_contract.errors import ControllerError, SimulationError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample
from sealegs_deploy.timing import LoopTiming
from sealegs_ros.command_gate import CommandGate
from sealegs_sim.control import JointControl
from sealegs_sim.delays import Delays, Distribution, delays_of
from sealegs_sim.env import SealegsEnv
from sealegs_sim.scene import build_scene
from sealegs_sim.simulation import Simulation
from sealegs_sim.starts import sample_start
from sealegs_sim.vector import BatchEnv

MS = 1_000_000
PERIOD_MS = 20.0


def between(age: tuple[float, float], latency: tuple[float, float]) -> Delays:
    return Delays(Distribution(age, (1.0,)), Distribution(latency, (1.0,)))


WITHIN_A_PERIOD = between((0.0, 1e-3), (0.0, 15.0))
CROSSING = between((0.0, 70.0), (0.0, 90.0))
HOPELESS = between((0.0, 30.0), (60.0, 260.0))  # commands come in bursts, out of order, and expire


def some_actions(steps: int, envs: int) -> Any:
    rng = np.random.default_rng(5)
    return np.where(rng.random((steps, 1, 1)) < 0.3, rng.choice([-1.0, 1.0], (steps, envs, 6)),
                    rng.uniform(-1, 1, (steps, envs, 6))).astype(np.float32)  # fmt: skip


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
@pytest.mark.parametrize("task", ["reach", "drawer"])
def test_delays_within_the_period_change_no_bit(task: str, mode: str) -> None:
    plain = BatchEnv(task, 3, autoreset=mode)
    timely = BatchEnv(task, 3, autoreset=mode, delays=WITHIN_A_PERIOD)
    assert np.array_equal(plain.reset(seed=3)[0], timely.reset(seed=3)[0])
    for action in some_actions(230, 3):  # beyond the horizon: the starts of later episodes are the same too
        expected, found = plain.step(action), timely.step(action)
        for a, b in zip(expected[:4], found[:4], strict=True):
            assert np.array_equal(a, b)


def by_the_robot_nodes_rules(robot: RobotProfile, delays: Delays, seed: int, actions: Any) -> list[Any]:
    """One episode of `reach` in continuous time: what the policy sees before each action, and at the end."""
    scene = build_scene("reach", robot)
    world, control = Simulation(scene), JointControl(robot, scene.action_spec)
    gate, guard = CommandGate(robot), Guard(JointLimits.from_profile(robot), PERIOD_MS / 1e3)
    rng = np.random.default_rng(seed)
    world.start(sample_start(scene, rng))
    drawn = np.random.default_rng(rng.bit_generator.state["state"]["state"])
    ages, latencies = delays.draw(drawn, scene.task.horizon_steps + 1)
    control.reset(world.position)
    guard.reset(world.position)
    taken = [(world.observation(), world.position.copy())]
    on_the_way: list[tuple[float, CommandSample]] = []
    seen, shown = 0, []
    for k in range(len(actions) + 1):
        old = int(ages[k] // PERIOD_MS)
        seen = max(seen, k - old)
        observation, measured = taken[seen]
        shown.append(observation)
        if k == len(actions):
            break
        issued_ms = k * PERIOD_MS + ages[k] - old * PERIOD_MS
        target = control.targets(actions[k], measured)
        command = CommandSample(round(issued_ms * MS), robot.joint_names, target[None], (100 * MS,))
        on_the_way.append((issued_ms + latencies[k], command))
        tick_ms = (k + 1) * PERIOD_MS
        for at_ms, one in sorted((x for x in on_the_way if x[0] <= tick_ms), key=lambda x: x[0]):
            gate.offer(one, round(k * PERIOD_MS * MS), round(at_ms * MS))
        on_the_way = [x for x in on_the_way if x[0] > tick_ms]
        followed = gate.target(round(k * PERIOD_MS * MS), round(tick_ms * MS))
        world.step((guard.stop() if followed is None else guard(followed)).position)
        taken.append((world.observation(), world.position.copy()))
    return shown


@pytest.mark.parametrize("delays", [WITHIN_A_PERIOD, CROSSING, HOPELESS], ids=["within", "crossing", "hopeless"])
def test_a_delayed_episode_is_the_robot_nodes(robot: RobotProfile, delays: Delays) -> None:
    actions = some_actions(120, 3)
    many, one = BatchEnv("reach", 3, delays=delays), SealegsEnv("reach", delays=delays)
    seen = [many.reset(seed=20)[0]]
    seen += [many.step(action)[0] for action in actions]
    for row in range(3):
        expected = by_the_robot_nodes_rules(robot, delays, 20 + row, actions[:, row])
        np.testing.assert_allclose(np.stack(seen)[:, row], np.stack(expected), atol=1e-6)
    alone = [one.reset(seed=21)[0]] + [one.step(action)[0] for action in actions[:, 1]]
    assert np.array_equal(np.stack(alone), np.stack(seen)[:, 1])


def test_late_commands_make_another_episode_and_rewards_are_of_the_true_state() -> None:
    env, plain = BatchEnv("reach", 2, delays=CROSSING), BatchEnv("reach", 2)
    env.reset(seed=0)
    plain.reset(seed=0)
    apart = 0.0
    for action in some_actions(100, 2):
        seen, reward = env.step(action)[:2]
        apart = max(apart, float(np.abs(seen - plain.step(action)[0]).max()))
        assert np.array_equal(reward, env.task.progress(env.scene.observation_spec.split(env._observation())))
    assert apart > 0.05


def test_a_saved_env_goes_on_bit_for_bit_and_draws_are_each_envs_own() -> None:
    actions = some_actions(230, 3)
    env, other = (BatchEnv("reach", 3, autoreset="same_step", delays=CROSSING) for _ in range(2))
    env.reset(seed=1)
    for action in actions[:190]:
        env.step(action)
    state = env.state()
    straight = [env.step(action)[0] for action in actions[190:]]
    assert np.array_equal(other.set_state(state), BatchEnv("reach", 3, delays=CROSSING).set_state(state))
    for action, expected in zip(actions[190:], straight, strict=True):
        assert np.array_equal(other.step(action)[0], expected)
    assert len({row.tobytes() for row in state["delays_drawn"]}) == 3
    with pytest.raises(SimulationError, match="lacks delays_drawn"):
        env.set_state({name: value for name, value in state.items() if name != "delays_drawn"})


def test_draws_have_the_measured_distribution(tmp_path: Path) -> None:
    timing = LoopTiming(20 * MS)
    rng = np.random.default_rng(0)
    ages, latencies = rng.uniform(2.0, 6.0, 5000), rng.gamma(2.0, 4.0, 5000)
    latencies[:3] = 80.0  # beyond p99.9: in the tail, not cut off
    for age, latency in zip(ages, latencies, strict=True):
        timing.observation_age.add(round(age * MS))
        timing.sent(0, round(latency * MS))
    file = tmp_path / "timing.json"
    file.write_text(json.dumps(timing.full() | {"commands": 3}))
    delays = Delays.read(file)
    drawn = [delays.draw(np.random.default_rng(i), 200) for i in range(2000)]
    for measured, found in zip((ages, latencies), (np.stack(x) for x in zip(*drawn, strict=True)), strict=True):
        for level in (1, 10, 50, 90, 99):
            expected = np.percentile(measured, level)
            assert np.percentile(found, level) == pytest.approx(expected, rel=0.05, abs=0.4)  # a bin is 0.8 ms
        assert found.max() <= measured.max() + 1e-9
        # Half of the steps share the episode's draw: their correlation is the square of that share.
        ranks = found[:, :2].argsort(axis=0).argsort(axis=0)
        assert np.corrcoef(ranks.T)[0, 1] == pytest.approx(0.25, abs=0.08)
    assert drawn[7][1].tolist() == delays.draw(np.random.default_rng(7), 200)[1].tolist()
    assert np.stack([x[1] for x in drawn]).max() > 60.0
    assert delays.scaled(2.0).command_latency.at(np.array([0.5])) == pytest.approx(
        2 * delays.command_latency.at(np.array([0.5]))
    )
    assert Delays.read(file).digest == delays.digest != delays.scaled(2.0).digest


def test_a_profile_names_its_delays(robot: RobotProfile, tmp_path: Path) -> None:
    def told(value: Any) -> RobotProfile:
        backend = robot.backend.model_copy(update={"parameters": {"delays": value}})
        return robot.model_copy(update={"backend": backend})

    assert delays_of(robot) is None
    given = told({"command_latency_ms": [5, 45]})
    assert BatchEnv("reach", 1, given, randomise=True).delays == between((0.0, 0.0), (5.0, 45.0))
    assert BatchEnv("reach", 1, given).delays is None
    with pytest.raises(SimulationError, match=r"delays command_latency_ms needs \[low, high\]"):
        delays_of(told({"command_latency_ms": [5, 1]}))
    with pytest.raises(SimulationError, match="must be a timing.json, or map"):
        delays_of(told({"latency": [5, 1]}))
    misspelt = robot.backend.model_copy(update={"parameters": {"delay": [5, 30]}})
    with pytest.raises(SimulationError, match="parameter 'delay' is unknown; did you mean delays"):
        delays_of(robot.model_copy(update={"backend": misspelt}))
    with pytest.raises(ControllerError, match="cannot read the timing"):
        delays_of(told(str(tmp_path / "none.json")))
