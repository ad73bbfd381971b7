"""A ROS 2 client that runs episodes on a robot node: reset, start, watch the task, stop.

It sees what any node sees (joint states and object poses) and judges success by the task's own function of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseStamped
from rcl_interfaces.srv import SetParameters
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.episode import SuccessMonitor
from sealegs_contract.errors import BackendError
from sealegs_contract.observation import Observation, ObservationAssembler
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, FloatArray
from sealegs_ros import qos
from sealegs_ros.conversions import from_message, to_message, to_ns
from sealegs_sim.tasks import Task

# A first service call over fresh discovery takes up to 4 s, and a busy machine starts nodes late. Waiting long costs
# nothing: `check` ends it when a node has ended.
SERVICE_TIMEOUT_S = 60.0
STREAM_TIMEOUT_S = 20.0
SETTLE_S = 0.3
SLICE_S = 0.5  # between two looks at how a wait goes

# From what is observed and the measured joint position (J,) rad: the next command.
Commander = Callable[[Observation, FloatArray], CommandSample]


@dataclass(frozen=True)
class EpisodeResult:
    """One episode over ROS. `final_progress` in [0, 1]; `steps` control ticks; `ended` why it stopped."""

    seed: int
    success: bool
    final_progress: float
    steps: int
    ended: str


class EpisodeClient(Node):
    """Drives one robot node. Use from one thread; every call spins this node's own executor.

    `check` is called again and again while waiting: it raises when waiting is in vain, as when a node has ended.
    """

    def __init__(
        self,
        robot: RobotProfile,
        task: Task,
        film_camera: str | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__("episode_client")
        self._check = check
        self._robot = robot
        self._task = task
        self._spec = task.observation_spec(robot)
        self._assembler = ObservationAssembler(self._spec)
        self._monitor = SuccessMonitor(task.hold_steps)
        self._executor = EventsExecutor()
        self._executor.add_node(self)
        self._commander: Commander | None = None
        self._steps = 0
        self._began_ns: int | None = None
        self._commanded = False
        self._horizon = 0
        self._progress = 0.0
        self._ticked: Future | None = None
        self._finished: Future | None = None
        self.film: list[bytes] = []
        self._command_publisher: Any = None
        self._service_clients: dict[str, Any] = {}
        for name in task.objects:
            topic = topics.object_pose(name)
            self.create_subscription(PoseStamped, topic, self._on_sample(topic), qos.STREAM)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos.STREAM)
        self.create_subscription(JointTrajectory, topics.JOINT_TRAJECTORY, self._on_command, qos.COMMAND)
        if film_camera:
            self.create_subscription(CompressedImage, topics.camera_image(film_camera), self._on_image, qos.IMAGE)

    def close(self) -> None:
        """Stop spinning and leave the graph."""
        self._executor.shutdown()
        self.destroy_node()

    # -- services ------------------------------------------------------------------------------------------------

    def trigger(self, service: str) -> str:
        """Call a std_srvs/Trigger service; its message. BackendError when it is absent or refuses."""
        return self._call(Trigger, service, Trigger.Request())

    def set_bool(self, service: str, value: bool) -> str:
        """Call a std_srvs/SetBool service; its message. BackendError when it is absent or refuses."""
        return self._call(SetBool, service, SetBool.Request(data=value))

    def set_parameter(self, node: str, name: str, value: int | float | str | bool) -> None:
        """Set a parameter of another node. BackendError when the node is absent or refuses."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        response = self._request(SetParameters, f"{node}/set_parameters", request)
        refused = [result.reason for result in response.results if not result.successful]
        if refused:
            raise BackendError(f"{node} refused {name}={value!r}: {refused[0]}")

    def reset(self, seed: int) -> None:
        """Start a new episode of the simulated robot from `seed`, and wait for its first joint states."""
        self.set_parameter("robot_node", "seed", seed)
        self.trigger("robot_node/reset")
        self._assembler.reset()
        self._wait_for_streams()

    # -- episodes ------------------------------------------------------------------------------------------------

    def run_episode(
        self, seed: int, start: Callable[[], object], stop: Callable[[], object], commander: Commander | None = None
    ) -> EpisodeResult:
        """One episode of the task's horizon: reset, `start`, watch, `stop`.

        Step k is the state k periods after the one that the first command answers, as in process; where nobody
        commands, after `start`. It may take as long as it likes while the robot goes on; BackendError when it stands
        still.
        With a `commander` this client commands the robot itself; without one a policy node does.
        """
        if commander is not None and self._command_publisher is None:
            self._command_publisher = self.create_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
        self.reset(seed)
        self._monitor.reset()
        self._steps, self._progress = 0, 0.0
        self._began_ns, self._commanded = None, False
        self.film = []
        start()
        self._commander = commander
        self._finished = Future()
        self._horizon = self._task.horizon_steps
        self._spin_to_the_end(self._finished)
        ended = self._finished.result()
        self._finished = None
        self._commander = None
        stop()
        return EpisodeResult(seed, self._monitor.succeeded, self._progress, self._steps, ended)

    def _on_sample(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            self._assembler.push(from_message(topic, message))

        return receive

    def _on_image(self, message: CompressedImage) -> None:
        if self._finished is not None:
            self.film.append(bytes(message.data))

    def _on_command(self, message: JointTrajectory) -> None:
        if not self._commanded:
            self._began_ns, self._commanded = to_ns(message.header.stamp), True

    def _on_joints(self, message: JointState) -> None:
        sample = from_message(topics.JOINT_STATES, message)
        self._assembler.push(sample)
        if self._ticked is not None and not self._ticked.done() and not self._assembler.missing:
            self._ticked.set_result(True)
        if self._finished is None or self._finished.done():
            return
        observation = self._assembler.assemble(sample.stamp_ns)
        fields = self._spec.split(observation.vector)
        self._progress = float(self._task.progress(fields))
        self._monitor.update(bool(self._task.achieved(fields)))
        if self._began_ns is None:
            self._began_ns = sample.stamp_ns
        self._steps = (sample.stamp_ns - self._began_ns) // self._robot.control_period_ns
        if self._steps >= self._horizon:
            self._finished.set_result("horizon")
        elif self._commander is not None:
            measured = self._assembler.joint_position(self._robot.joint_names)
            self._command_publisher.publish(to_message(self._commander(observation, measured)))

    # -- spinning ------------------------------------------------------------------------------------------------

    def _wait_for_streams(self) -> None:
        self._ticked = Future()
        self._spin_until(self._ticked, STREAM_TIMEOUT_S, f"samples on {', '.join(self._spec.streams)}")
        self._ticked = None

    def _spin_until(self, future: Future, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._spin_slice(future):
            if time.monotonic() > deadline:
                raise BackendError(f"waited {timeout_s:.0f} s for {what}, in vain; is the robot node running?")

    def _spin_to_the_end(self, finished: Future) -> None:
        """Wait for the end of the episode, for as long as joint states come."""
        steps, since = self._steps, time.monotonic()
        while not self._spin_slice(finished):
            if self._steps > steps:
                steps, since = self._steps, time.monotonic()
            elif time.monotonic() - since > STREAM_TIMEOUT_S:
                raise BackendError(
                    f"the episode stands still at step {steps} of {self._horizon}: no {topics.JOINT_STATES} for "
                    f"{STREAM_TIMEOUT_S:.0f} s from {self._robot_publishers()}"
                )

    def _spin_slice(self, future: Future) -> bool:
        """Spin for a moment; whether `future` is done. Raises what `check` raises."""
        self._executor.spin_until_future_complete(future, timeout_sec=SLICE_S)
        if not future.done():
            self._check()
        return bool(future.done())

    def _robot_publishers(self) -> str:
        count = self.count_publishers(topics.JOINT_STATES)
        return "the robot node, which is still there" if count else "any node: the robot node is gone"

    def _call(self, kind: Any, service: str, request: Any) -> str:
        response = self._request(kind, service, request)
        if not response.success:
            raise BackendError(f"{service} refused: {response.message}")
        return str(response.message)

    def _request(self, kind: Any, service: str, request: Any) -> Any:
        future = self._client(kind, service).call_async(request)
        self._spin_until(future, SERVICE_TIMEOUT_S, f"an answer from {service}")
        return future.result()

    def _client(self, kind: Any, service: str) -> Any:
        """A client of `service`, made once and kept."""
        if service not in self._service_clients:
            client = self.create_client(kind, service)
            deadline = time.monotonic() + SERVICE_TIMEOUT_S
            while not client.wait_for_service(timeout_sec=SLICE_S):
                self._check()
                if time.monotonic() > deadline:
                    self.destroy_client(client)
                    raise BackendError(f"no service {client.srv_name} within {SERVICE_TIMEOUT_S:.0f} s")
            # Found means that we see the server; it may not see us yet, and would then answer into the void.
            self._executor.spin_until_future_complete(Future(), timeout_sec=SETTLE_S)
            self._service_clients[service] = client
        return self._service_clients[service]
