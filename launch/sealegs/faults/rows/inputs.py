"""Rows about what the controller is given: joints by other names, another robot, targets and poses far out.

In this process, with the real controller, policy runtime, robot loop and simulator, on their own clocks: many trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.live.bundles import OBJECTS, ROBOT_NAME, TASK_NAME, configuration, mirroring_bundle
from sealegs.faults.live.nodes import isolated
from sealegs_contract.errors import BundleError
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample, JointSample, PoseSample
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.states import State

FloatArray = NDArray[np.float64]
SMALL_RAD = 0.0025
"""Steps that the guard passes unchanged: the command is then what the policy was shown."""
FLOAT32_RAD = 1e-5
FOLLOWED_PERIODS = 25
OUTSIDE_RAD = 0.3
ROUNDING_RAD = 1e-9


def _bundle() -> VerifiedBundle:
    with isolated(configuration()):
        return load_bundle(mirroring_bundle())


def _over(trials: Trials, trial: Callable[[np.random.Generator], Seen], total: bool = False) -> Outcome:
    seen = []
    for number in range(trials.count):
        seen.append(trial(np.random.default_rng(number)))
        if number % 16 == 0 or number + 1 == trials.count:
            trials.progress(number + 1, trials.count)
    return outcome(seen, total=total)


class Hand:
    """A controller whose streams are given by hand, one moment a period, beside a robot clock that only moves here."""

    def __init__(self, robot: RobotProfile) -> None:
        self.robot, self.now = robot, robot.control_period_ns
        self.controller = Controller(robot, host_ns=lambda: self.now)

    def see(self, position: FloatArray, names: tuple[str, ...] | None = None) -> CommandSample | None:
        """The next moment: poses and joints come, tick."""
        self.now += self.robot.control_period_ns
        quaternion, names = np.array([0.0, 0.0, 0.0, 1.0]), names or self.robot.joint_names
        for name in OBJECTS:
            self.controller.push(PoseSample(self.now, name, "base_link", np.full(3, 0.1), quaternion))
        zeros = np.zeros(len(position))
        self.controller.push(JointSample(self.now, names, position, zeros, zeros))
        return self.controller.tick(self.now)

    def active(self, position: FloatArray) -> None:
        """Armed, whatever it was before."""
        self.see(position)
        if self.controller.state is not State.ACTIVE:
            stand_down(self.controller, self.now)
            self.controller.arm(self.now)
        self.see(position)


def stand_down(controller: Controller, now_ns: int) -> None:
    """DISARMED, as an operator would do it from where it is."""
    if controller.state is State.FAULT:
        controller.reset_fault(now_ns)
    controller.disarm(now_ns)


def map_names(trials: Trials) -> Outcome:
    """Row 13: the policy mirrors what it saw; half of the samples lack, repeat or misspell a joint."""
    robot = load_robot(ROBOT_NAME)
    hand = Hand(robot)
    hand.controller.configure(_bundle())

    def trial(rng: np.random.Generator) -> Seen:
        hand.active(robot.home_rad)
        position = robot.home_rad + rng.uniform(-SMALL_RAD, SMALL_RAD, len(robot.joints))
        order = rng.permutation(len(robot.joints))
        names = tuple(robot.joint_names[i] for i in order)
        broken = bool(rng.integers(2))
        values = position[order]
        if broken:
            names, values = _broken(names, values, rng)
        refused = hand.controller.rejected_samples
        command = hand.see(values, names)
        if broken:
            wrong = command is not None or hand.controller.rejected_samples == refused
        else:
            wrong = command is None or bool(np.abs(command.position[0] - position).max() > FLOAT32_RAD)
        return Seen("a joint was mapped wrongly" if wrong else "", float(wrong))

    return _over(trials, trial, total=True)


def _broken(names: tuple[str, ...], values: FloatArray, rng: np.random.Generator) -> tuple[tuple[str, ...], FloatArray]:
    """One joint missing, twice, or by another name."""
    victim, kind = int(rng.integers(len(names))), int(rng.integers(3))
    if kind == 0:
        return names[:victim] + names[victim + 1 :], np.delete(values, victim)
    other = names[victim - 1] if kind == 1 else f"{names[victim]}_x"
    return (*names[:victim], other, *names[victim + 1 :]), values


def refuse_foreign(trials: Trials) -> Outcome:
    """Row 14: a local robot that differs from the bundle's in one value, or a bundle in other units."""
    robot, bundle = load_robot(ROBOT_NAME), _bundle()

    def trial(rng: np.random.Generator) -> Seen:
        local, given = robot, bundle
        if rng.integers(4):
            local = RobotProfile.model_validate(_altered(robot, rng))
        else:
            units = dict(bundle.manifest.units)
            units[str(rng.choice(sorted(units)))] = str(rng.choice(["deg", "mm", "tick"]))
            given = replace(bundle, manifest=bundle.manifest.model_copy(update={"units": units}))
        controller = Controller(local)
        try:
            controller.configure(given)
        except BundleError:
            left = controller.state is not State.UNCONFIGURED
            return Seen("configured in spite of the refusal" if left else "")
        return Seen("configured")

    return _over(trials, trial)


def _altered(robot: RobotProfile, rng: np.random.Generator) -> dict[str, Any]:
    """The profile with one joint limit, the rate, the joints' order or a joint's name changed."""
    data: dict[str, Any] = robot.model_dump(mode="json")
    joints = data["joints"]
    kind, victim = int(rng.integers(4)), int(rng.integers(len(joints)))
    if kind == 0:
        limits = ["position_max_rad", "velocity_max_rad_s", "acceleration_max_rad_s2", "effort_max_n_m"]
        joints[victim][str(rng.choice(limits))] *= 1.0 + rng.uniform(0.001, 2.0)
    elif kind == 1:
        data["control_rate_hz"] *= float(rng.choice([0.5, 0.9, 2.0]))
    elif kind == 2:
        joints.append(joints.pop(victim if victim < len(joints) - 1 else 0))
    else:
        joints[victim]["name"] += "_x"
    return data


class WantedPolicy:
    """Whatever it sees, it wants the pose `target`."""

    target: FloatArray

    def infer(self, observation: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]]) -> FloatArray:
        """The target, rad."""
        return self.target.copy()


class ClosedLoop:
    """The real controller, command gate and guard on the real simulator, in this process; notes what is written."""

    def __init__(self, bundle: VerifiedBundle) -> None:
        from sealegs_ros.robot_loop import RobotLoop
        from sealegs_sim.backend import MujocoBackend

        self.robot = load_robot(ROBOT_NAME)
        self.backend = MujocoBackend(self.robot, TASK_NAME, render=False)
        self.loop = RobotLoop(self.backend, images=False)
        self.loop.start()
        self.policy = WantedPolicy()
        self.controller = Controller(self.robot, host_ns=self.backend.now_ns)
        self.controller.configure_policy(bundle.manifest, self.policy)

    def follow(self, start: FloatArray, target: FloatArray) -> FloatArray:
        """Arm at the pose `start`, want `target`; start and commands (periods + 1, J) rad."""
        from sealegs_ros.robot_state import RobotState

        loop, simulation = self.loop, self.backend.simulation
        if loop.latch.state is RobotState.FAULT:
            loop.reset_fault(self.backend.now_ns())
        loop.reset(0)
        simulation.data.qpos[simulation.scene.joint_qpos] = start
        observed = loop.start()
        self.policy.target = target
        path = [start]
        for period in range(FOLLOWED_PERIODS):
            for pose in observed.objects:
                self.controller.push(pose)
            self.controller.push(observed.joints)
            if period == 0:
                stand_down(self.controller, observed.now_ns)
                self.controller.arm(observed.now_ns)
            command = self.controller.tick(observed.now_ns)
            if command is not None:
                loop.offer(command, self.backend.now_ns())
            observed = loop.tick(self.backend.now_ns())
            path.append(loop.guard.position.copy())
        return np.array(path)


def far_target(trials: Trials) -> Outcome:
    """Row 15: from the start, a target anywhere within twice the limits. The figure is in parts of the limit."""
    closed = ClosedLoop(_bundle())
    lower, upper, fastest = _limits(closed.robot)

    def trial(rng: np.random.Generator) -> Seen:
        start, target = rng.uniform(lower, upper), rng.uniform(2.0 * lower, 2.0 * upper)
        path = closed.follow(start, target)
        speeds = np.abs(np.diff(path, axis=0)) * closed.robot.control_rate_hz
        peak = float(round((speeds / fastest).max(), 9))
        moved = bool(np.abs(path[-1] - start).max() > SMALL_RAD)
        failure = "faster than the limit" if peak > 1.0 else "" if moved else "the robot did not follow at all"
        return Seen(failure, peak)

    return _over(trials, trial)


def outside_limits(trials: Trials) -> Outcome:
    """Row 16: joints that start up to 0.3 rad outside, and a policy that wants anything."""
    closed = ClosedLoop(_bundle())
    lower, upper, _ = _limits(closed.robot)

    def trial(rng: np.random.Generator) -> Seen:
        start, target = rng.uniform(lower, upper), rng.uniform(2.0 * lower, 2.0 * upper)
        out, above = rng.random(len(start)) < 0.5, rng.random(len(start)) < 0.5
        beyond = rng.uniform(0.0, OUTSIDE_RAD, len(start))
        start = np.where(out, np.where(above, upper + beyond, lower - beyond), start)
        outward = outward_steps(closed.follow(start, target), lower, upper)
        return Seen("moved further out" if outward else "", float(outward))

    return _over(trials, trial, total=True)


def outward_steps(path: FloatArray, lower: FloatArray, upper: FloatArray) -> int:
    """Steps after which a joint is further outside its limits than before."""
    outside = np.maximum(np.maximum(lower - path, path - upper), 0.0)
    return int((np.diff(outside, axis=0) > ROUNDING_RAD).sum())


def _limits(robot: RobotProfile) -> tuple[FloatArray, FloatArray, FloatArray]:
    joints = robot.joints
    return (
        np.array([joint.position_min_rad for joint in joints]),
        np.array([joint.position_max_rad for joint in joints]),
        np.array([joint.velocity_max_rad_s for joint in joints]),
    )


FAULTS = (
    Fault(13, "joint names permuted or missing", "map by name or refuse", 20_000, 200, map_names,
          "wrong mappings", "== 0"),
    Fault(14, "wrong robot or units profile", "refuse to configure", 2_000, 50, refuse_foreign),
    Fault(15, "first action far from the pose", "refuse or ramp", 1_000, 20, far_target,
          "peak velocity, parts of the limit", "<= 1"),
    Fault(16, "start outside limits", "move inward only", 1_000, 20, outside_limits, "outward commands", "== 0"),
)  # fmt: skip
