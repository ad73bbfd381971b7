"""Nodes as real processes in a ROS domain of their own, and a client node that watches them from this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sealegs.launching.this_host import this_host_only
from sealegs_contract.errors import MachineError
from sealegs_contract.robot import RobotProfile

DISCOVERY_S = 30.0
SETTLE_S = 0.3
PATIENCE_MS = 500.0
"""Longer than a busy machine keeps a process waiting; the policy node's own patience with a silent robot."""


def domain_of_this_process() -> int:
    """A domain id of our own. Ids up to 101 are safe on Linux (the ports of higher ones meet the ephemeral range)."""
    return 1 + os.getpid() % 100


@contextmanager
def isolated(configuration: Path) -> Iterator[None]:
    """This process and those that it starts: a domain of their own on this host only, and keys of their own.

    Whatever domain the caller has chosen is left aside: no fault may ever reach a robot that is really there.
    """
    ours = {
        "ROS_DOMAIN_ID": str(domain_of_this_process()),
        **this_host_only(),
        "XDG_CONFIG_HOME": str(configuration.resolve()),
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def patient(robot: RobotProfile, folder: Path) -> Path:
    """`robot` in a file, but that its watchdog waits for PATIENCE_MS: a late commander stays one that is followed.

    For the robot node: in lockstep, or where the watchdog is not what one looks at.
    """
    watchdog = robot.watchdog.model_copy(update={"command_timeout_ms": PATIENCE_MS})
    path = folder / f"patient_{robot.name}.json"
    path.write_text(robot.model_copy(update={"watchdog": watchdog}).model_dump_json(), encoding="utf-8")
    return path


class NodeProcess:
    """`python -m sealegs_ros.NODE --ros-args -p name:=value ...` in a process of its own; its log is in `log`.

    `program` is run (`python -c`) in place of the module: a node with a fault built in. It ends with this process.
    """

    def __init__(
        self, node: str, folder: Path, arguments: tuple[str, ...], parameters: Mapping[str, object], program: str = ""
    ) -> None:
        self.log_path = folder / f"{node}-{time.monotonic_ns()}.log"
        given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_text(value)}")]
        what = ["-c", program] if program else ["-m", f"sealegs_ros.{node}"]
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        command = [*prefix, sys.executable, *what, "--ros-args", *given, *arguments]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def send(self, number: int) -> float:
        """Send a signal; when, in seconds of the monotonic clock."""
        at = time.monotonic()
        self.process.send_signal(number)
        return at

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        """Ask the node to end and return its exit code; kills it, and raises MachineError, when it does not."""
        if self.running:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise MachineError(f"the node did not stop within {timeout_s} s:\n{self.log}") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Nodes:
    """The node processes of an experiment; leaving it ends those that still run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[NodeProcess] = []

    def start(self, node: str, *arguments: str, program: str = "", **parameters: object) -> NodeProcess:
        """`start("robot_node", "-r", "__ns:=/arm", task="drawer", seed=3)`."""
        self.running.append(NodeProcess(node, self.folder, arguments, parameters, program))
        return self.running[-1]

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        running = [node for node in self.running if node.running]
        for node in running:
            for number in (signal.SIGCONT, signal.SIGINT):
                node.process.send_signal(number)
        for node in running:
            try:
                node.process.wait(5.0)
            except subprocess.TimeoutExpired:
                node.kill()


class Client:
    """A node in this process, on a context of its own. Nothing spins by itself: `spin_until` does."""

    def __init__(self, name: str) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def within(self, timeout_s: float, condition: Callable[[], Any]) -> Any:
        """Spin until `condition()` is true, or `timeout_s` have passed; its last value."""
        end = time.monotonic() + timeout_s
        while not (value := condition()) and time.monotonic() <= end:
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def spin_until(self, condition: Callable[[], Any], timeout_s: float = DISCOVERY_S, what: str = "") -> Any:
        """`within`, but MachineError where it did not come true."""
        if not (value := self.within(timeout_s, condition)):
            raise MachineError(f"nothing within {timeout_s} s: {what or condition}")
        return value

    def spin_for(self, seconds: float) -> None:
        """Spin for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=min(left, 0.02))

    def collect(self, message_type: type, topic: str, profile: Any = 50) -> list[Any]:
        """A list that grows with the messages of `topic` while spinning."""
        messages: list[Any] = []
        self.node.create_subscription(message_type, topic, messages.append, profile)
        return messages

    def listen(self, message_type: type, topic: str, profile: Any, hear: Callable[[float, Any], None]) -> None:
        """Call `hear(seconds of the monotonic clock, message)` for each message of `topic` while spinning.

        The time is that of its arrival, by the middleware's own thread: this process may come to it later.
        """

        def on_message(message: Any, info: Any) -> None:
            waited_ns = time.time_ns() - info["received_timestamp"]
            hear(time.monotonic() - waited_ns / 1e9, message)

        self.node.create_subscription(message_type, topic, on_message, profile)

    def call(self, service_type: Any, name: str, request: Any = None, timeout_s: float = DISCOVERY_S) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(service_type, name)
        try:
            self.spin_until(client.service_is_ready, timeout_s, f"service {name}")
            # Ready means that we see the server; it may not see us yet, and would then answer into the void.
            self.spin_for(SETTLE_S)
            future = client.call_async(request or service_type.Request())
            self.spin_until(future.done, timeout_s, f"answer of {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def close(self) -> None:
        """Leave the graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
