"""What bench `swap` runs on: real nodes with a candidate, bundles to swap between, and the faults of candidates.

Imports ROS and torch as it is used.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.faults.live.bundles import OBJECTS, ROBOT_NAME, TASK_NAME, circling, circling_bundle, signed_bundle
from sealegs_contract import topics
from sealegs_contract.errors import MachineError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import JointSample, PoseSample
from sealegs_contract.spec import observation_spec
from sealegs_sim.tasks import get_task

if TYPE_CHECKING:
    from sealegs.faults.live.nodes import NodeProcess, Nodes
    from sealegs.faults.live.watching import Operator, Watch

MOVING_RAD_S = 0.3
READY_S = 60.0
EARLIER_NS = 1_000_000
"""How much older the further object's poses are than the joint states: no tick waits for them."""
FURTHER = "cube"
"""An object that only one of the candidates observes."""
OTHER_TURN_RAD_S = 2.0
NAN_ABOVE_RAD = 0.6
"""The circle's radius is 0.8 rad: its pan joint gets there within a turn."""
HEAVY_ROWS, HEAVY_SIZE, HEAVY_LAYERS = 512, 1024, 4

SABOTAGED = """
import signal, sys, time
from types import SimpleNamespace
from sealegs_deploy.pilot import Pilot
propose, due = Pilot.propose, []
signal.signal(signal.SIGUSR1, lambda *_: due.append(True))

def slow(policy):
    infer = policy.infer
    def once(*given):
        policy.infer = infer
        time.sleep({late_s})
        return infer(*given)
    policy.infer = once

def outside(*_):
    return SimpleNamespace(score=1.0, speed=1.0, alarm="outside of the training data")

def sabotaged(self, *given):
    if due and self.manifest.name == "{name}":
        due.clear()
        if "{fault}" == "overrun":
            slow(self.policy)
        else:
            self.support = SimpleNamespace(check=outside, forget=lambda: None)
    return propose(self, *given)

Pilot.propose = sabotaged
from sealegs_ros.policy_node import main
sys.exit(main())
"""
"""The policy node, but that SIGUSR1 makes the candidate's next inference late, or sets off its support's alarm."""


def sabotaged(fault: str, name: str) -> str:
    """The program of a policy node in which SIGUSR1 gives candidate `name` an `overrun` or an `alarm`."""
    return SABOTAGED.format(fault=fault, name=name, late_s=5.5 / load_robot(ROBOT_NAME).control_rate_hz)


@cache
def other_bundle() -> Path:
    """The circle of `circling_bundle`, more slowly."""
    robot = load_robot(ROBOT_NAME)
    policy = partial(circling, robot=robot, turn_rad_s=OTHER_TURN_RAD_S)
    return signed_bundle("slower", policy, get_task(TASK_NAME).action_spec(robot))


@cache
def further_bundle() -> Path:
    """The same motion, from a policy that also observes FURTHER."""
    robot = load_robot(ROBOT_NAME)
    action = get_task(TASK_NAME).action_spec(robot)
    return signed_bundle(
        "further", partial(circling, robot=robot), action, observation_spec(robot, (*OBJECTS, FURTHER))
    )


@cache
def heavy_bundle() -> Path:
    """`circling_bundle`, but that it computes for several periods first: action + 0 tanh(... tanh(x W) ... W)."""
    from onnx import helper

    weight = np.random.default_rng(0).standard_normal((HEAVY_SIZE, HEAVY_SIZE)) / HEAVY_SIZE**0.5
    rows = np.linspace(0.0, 1.0, HEAVY_ROWS)[:, None] * np.ones((1, HEAVY_SIZE))
    constants = {"weight": weight, "rows": rows, "first": np.zeros(1, np.int64), "zero": np.zeros(1)}
    nodes = [
        helper.make_node("Gather", ["observation", "first"], ["one"], axis=1),
        helper.make_node("Add", ["rows", "one"], ["layer_0"]),
    ]
    for k in range(HEAVY_LAYERS):
        nodes.append(helper.make_node("MatMul", [f"layer_{k}", "weight"], [f"product_{k}"]))
        nodes.append(helper.make_node("Tanh", [f"product_{k}"], [f"layer_{k + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"layer_{HEAVY_LAYERS}"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["zero", "mean"], ["nothing"]))
    return _altered("heavy", constants, nodes)


@cache
def failing_bundle() -> Path:
    """`circling_bundle`, but that its output is NaN where the pan joint is above a limit: action + 0 sqrt(c - x)."""
    from onnx import helper

    pan = load_robot(ROBOT_NAME).joint_names.index("shoulder_pan")
    constants = {"pan": np.array([pan]), "limit": np.array([NAN_ABOVE_RAD]), "zero": np.zeros(1)}
    nodes = [
        helper.make_node("Gather", ["observation", "pan"], ["at"], axis=1),
        helper.make_node("Sub", ["limit", "at"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["zero", "root"], ["nothing"]),
    ]
    return _altered("failing", constants, nodes)


def _altered(name: str, constants: dict[str, Any], nodes: list[Any]) -> Path:
    """`circling_bundle` under another name, with `nodes` before its output, which add their value `nothing` to it."""
    import onnx
    from onnx import helper, numpy_helper

    from sealegs_deploy.bundle import load_bundle, write_bundle
    from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME
    from sealegs_deploy.signing import own_key

    good = load_bundle(circling_bundle())
    model = onnx.load_from_string(good.policy)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["sound" if output == "action" else output for output in node.output]
    for key, value in constants.items():
        kind = np.int64 if value.dtype.kind == "i" else np.float32
        graph.initializer.append(numpy_helper.from_array(value.astype(kind), key))
    graph.node.extend([*nodes, helper.make_node("Add", ["sound", "nothing"], ["action"])])
    manifest = good.manifest.model_copy(update={"name": name})
    files = {POLICY_NAME: model.SerializeToString(), MANIFEST_NAME: manifest.to_bytes()}
    return write_bundle(files, circling_bundle().parent / name, own_key())


@dataclass(frozen=True)
class Gaps:
    """Between the commands around a moment: in periods by their stamps, in ms by their arrival here; how many lack."""

    periods: float
    arrival_ms: float
    missed: int


class SwapRig:
    """A robot node, a policy node with a candidate, and whoever swaps them.

    It also publishes the poses of FURTHER, until it is `silent`.
    """

    def __init__(
        self, nodes: Nodes, client: Any, program: str = "", lockstep: bool = False, **parameters: object
    ) -> None:
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import JointState
        from std_msgs.msg import String

        from sealegs.faults.live.nodes import patient
        from sealegs.faults.live.watching import Operator, Watch
        from sealegs_ros import qos

        self.client = client
        self.operator: Operator = Operator(client)
        self.watch: Watch = Watch(client)
        self.scores: list[Any] = client.collect(String, "policy_node/shadow", qos.LATCHED)
        self.silent = False
        self._period_ns = load_robot(ROBOT_NAME).control_period_ns
        self._poses = client.node.create_publisher(PoseStamped, f"side/{FURTHER}", qos.STREAM)
        client.listen(JointState, topics.JOINT_STATES, qos.STREAM, self._on_joints)
        robot = patient(load_robot(ROBOT_NAME), nodes.folder) if lockstep else ROBOT_NAME
        nodes.start("robot_node", robot=robot, task=TASK_NAME, images=False, lockstep=lockstep)
        self.policy: NodeProcess = nodes.start(
            "policy_node", "-r", f"{topics.object_pose(FURTHER)}:=side/{FURTHER}", program=program, robot=ROBOT_NAME,
            policy_path=circling_bundle(), autostart=True, use_sim_time=True, allow_rollback=True, **parameters,
        )  # fmt: skip

    @property
    def status(self) -> dict[str, Any]:
        """The policy node's newest."""
        found: dict[str, Any] = json.loads(self.operator.statuses[-1].data)
        return found

    def move(self) -> None:
        """Arm the policy, from whatever state it is in, and wait until the robot moves."""
        self.operator.set_off(lambda: self.watch.speed > MOVING_RAD_S)
        self.watch.forget()

    def set_parameter(self, name: str, value: object) -> None:
        """Set a parameter of the policy node."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.client.call(SetParameters, "policy_node/set_parameters", request).results
        if not result.successful:
            raise MachineError(f"parameter {name} is refused: {result.reason}")

    def load(self, bundle: Path) -> None:
        """Load a candidate, and wait until it is ready."""
        self.set_parameter("candidate_path", str(bundle))
        before = len(self.operator.statuses)
        self.wanted("load_candidate")

        def loaded() -> bool:
            states = [json.loads(status.data)["candidate"]["state"] for status in self.operator.statuses[before:]]
            return "loading" in states and states[-1] != "loading"  # what was said before that is of the last one

        self.client.spin_until(loaded, READY_S, "the candidate")
        if self.status["candidate"]["state"] != "ready":
            raise MachineError(f"the candidate was not loaded: {self.status['candidate']}")

    def wanted(self, service: str) -> None:
        """Call a service of the policy node; MachineError where it refuses."""
        answer = self.operator.call(service)
        if not answer.success:
            raise MachineError(f"{service}: {answer.message}")

    def swap(self) -> None:
        """Have the policy node swap, and wait until it has."""
        before = self.status["candidate"]["swaps"]
        self.wanted("swap")
        self.client.spin_until(lambda: self.status["candidate"]["swaps"] > before, what="the swap")

    def gaps(self, since: float, until: float) -> Gaps:
        """Of the commands from the last before `since` to the first after `until`, on the monotonic clock."""
        commands = self.watch.commands
        first = max(sum(at < since for at, _ in commands) - 1, 0)
        last = min(sum(at <= until for at, _ in commands), len(commands) - 1)
        pairs = list(itertools.pairwise(commands[first : last + 1]))
        if not pairs:
            raise MachineError("no commands came around the swap")
        periods = np.array([(b.stamp_ns - a.stamp_ns) / self._period_ns for (_, a), (_, b) in pairs])
        arrivals = [1e3 * (b - a) for (a, _), (b, _) in pairs]
        return Gaps(float(periods.max()), max(arrivals), int(np.maximum(np.rint(periods) - 1, 0).sum()))

    def _on_joints(self, _: float, message: Any) -> None:
        from sealegs_ros.conversions import from_message, to_message

        sample = from_message(topics.JOINT_STATES, message)
        if not self.silent and isinstance(sample, JointSample):
            quaternion = np.array([0.0, 0.0, 0.0, 1.0])
            pose = PoseSample(sample.stamp_ns - EARLIER_NS, FURTHER, "base_link", np.full(3, 0.1), quaternion)
            self._poses.publish(to_message(pose))


@contextmanager
def swap_rig(folder: Path, program: str = "", lockstep: bool = False, **parameters: object) -> Iterator[SwapRig]:
    """Both nodes; they end with it. Use it within `isolated(configuration())`."""
    from sealegs.faults.live.nodes import Client, Nodes

    with Client("swap_bench") as client, Nodes(folder) as nodes:
        yield SwapRig(nodes, client, program, lockstep, **parameters)
