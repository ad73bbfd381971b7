"""Who publishes, subscribes, serves and calls what: the graph that the permissions of a keystore allow, and no more.

Names of topics come from `sealegs_contract.topics`. A test starts the real nodes and compares what they open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sealegs_contract import topics
from sealegs_contract.errors import SecurityError
from sealegs_contract.robot import RobotProfile

ROBOT, POLICY, RECORDER, OPERATOR = "robot_node", "policy_node", "recorder_node", "operator"
CLIENTS = ("/episode_client", "/_ros2cli_*")
"""Names of the nodes that run in the operator's enclave: our own client, and those of the `ros2` command line."""
DISCOVERY = "ros_discovery_info"  # on which the middleware tells which node owns what; outside the ROS names
OWN_SERVICES: Mapping[str, tuple[str, ...]] = {
    ROBOT: ("reset", "reset_fault", "e_stop"),
    POLICY: ("arm", "disarm", "resume", "reset_fault", "e_stop", "load_candidate", "swap"),
    RECORDER: ("start_episode", "stop_episode", "discard_episode"),
}
NODE_SERVICES = (  # of every rclpy node
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
    "set_parameters_atomically", "get_type_description",
)  # fmt: skip
LIFECYCLE_SERVICES = (
    "change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph",
)  # fmt: skip
EVERY_NODE = ("/rosout", "/parameter_events")
_NAMESPACE = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")


@dataclass(frozen=True)
class Access:
    """What one enclave may do, in absolute ROS names."""

    publish: frozenset[str]
    subscribe: frozenset[str]
    serve: frozenset[str]
    call: frozenset[str] = frozenset()

    @property
    def dds_publish(self) -> frozenset[str]:
        """DDS topics that it writes: its topics, the replies that it gives, the requests that it makes."""
        return _mangled("rt", self.publish) | _mangled("rr", self.serve, "Reply") | _mangled("rq", self.call, "Request")

    @property
    def dds_subscribe(self) -> frozenset[str]:
        """DDS topics that it reads."""
        return (
            _mangled("rt", self.subscribe) | _mangled("rq", self.serve, "Request") | _mangled("rr", self.call, "Reply")
        )


@dataclass(frozen=True)
class PolicyInputs:
    """What the policy observes beside the joints; a bundle's manifest says it exactly."""

    objects: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()


def graph(
    robot: RobotProfile,
    inputs: PolicyInputs,
    namespace: str = "/",
    teleoperation: bool = False,
    e_stop_topics: tuple[str, ...] = (topics.E_STOP,),
) -> dict[str, Access]:
    """Access by enclave (`/NODE`, behind the namespace). With `teleoperation` the operator may command too.

    `e_stop_topics` are the nodes' parameter: both hear them, and the operator may press them.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise SecurityError(f"namespace {namespace!r} is no absolute ROS name, such as / or /left_arm")
    streams = _streams(robot)
    clock = {topics.CLOCK} if robot.backend.kind == "mujoco" else set()
    seen = {topics.JOINT_STATES, *map(topics.object_pose, inputs.objects), *map(topics.camera_image, inputs.cameras)}
    state = {f"~/{name}" for name in ("status", "transition_event")}
    unread = {topics.JOINT_TRAJECTORY, topics.CLOCK}
    nodes = {
        ROBOT: (streams - unread | clock | {"~/status"}, {topics.JOINT_TRAJECTORY, *e_stop_topics} | clock),
        POLICY: (
            {topics.JOINT_TRAJECTORY, topics.DIAGNOSTICS, topics.SHADOW, "~/shadow"} | state,
            {*e_stop_topics, topics.ROBOT_STATUS} | seen | clock,
        ),
        RECORDER: ({"~/finished", topics.DIAGNOSTICS}, streams),
    }
    prefix = namespace.rstrip("/")
    made = {f"{prefix}/{node}": _node(prefix, node, *ends) for node, ends in nodes.items()}
    made[f"{prefix}/{OPERATOR}"] = _operator(prefix, made, streams | clock, set(e_stop_topics), teleoperation)
    return made


def _streams(robot: RobotProfile) -> set[str]:
    """What a robot's recording holds."""
    cameras = [camera.name for camera in robot.cameras]
    return {
        topics.CLOCK, topics.JOINT_STATES, topics.JOINT_TRAJECTORY, topics.TASK, topics.DIAGNOSTICS,
        *map(topics.object_pose, robot.objects), *map(topics.camera_image, cameras), *map(topics.camera_info, cameras),
    }  # fmt: skip


def _node(prefix: str, node: str, publish: set[str], subscribe: set[str]) -> Access:
    own = f"{prefix}/{node}"
    services = OWN_SERVICES[node] + NODE_SERVICES + (LIFECYCLE_SERVICES if node == POLICY else ())
    return Access(
        _resolved(prefix, own, {*publish, *EVERY_NODE}),
        _resolved(prefix, own, subscribe),
        frozenset(f"{own}/{name}" for name in services),
    )


def _operator(
    prefix: str, nodes: Mapping[str, Access], streams: set[str], e_stops: set[str], teleoperation: bool
) -> Access:
    """Reads everything, calls every service, may press the emergency stop, and commands nothing unless told so."""
    told = frozenset().union(*(access.publish for access in nodes.values()))
    command = _resolved(prefix, "", {topics.JOINT_TRAJECTORY})
    return Access(
        frozenset(EVERY_NODE) | _resolved(prefix, "", e_stops) | (command if teleoperation else frozenset()),
        _resolved(prefix, "", streams) | told,
        frozenset(f"{client}/{name}" for client in CLIENTS for name in NODE_SERVICES),
        frozenset().union(*(access.serve for access in nodes.values())),
    )


def _resolved(prefix: str, own: str, names: set[str]) -> frozenset[str]:
    """Absolute names of absolute, relative and private (`~/x`) ones."""
    return frozenset(
        name if name.startswith("/") else f"{own}{name[1:]}" if name.startswith("~") else f"{prefix}/{name}"
        for name in names
    )


def _mangled(kind: str, names: frozenset[str], suffix: str = "") -> frozenset[str]:
    """DDS names as the ROS 2 design's topic mapping gives them: rt/..., rq/...Request, rr/...Reply."""
    return frozenset(f"{kind}{name}{suffix}" for name in names)
