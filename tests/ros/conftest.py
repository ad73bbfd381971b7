"""Fixtures of the ROS tests: an own DDS domain, nodes as real processes, and a client node beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the ROS tests need the extra `ros`")

DISCOVERY_S = 15.0


@pytest.fixture(scope="session", autouse=True)
def ros_domain() -> int:
    """An own domain on this host only, so that nothing else on the machine or network is heard."""
    domain = 1 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    return domain


class NodeProcess:
    """`python -m sealegs_ros.NODE --ros-args -p name:=value ...` in a process of its own; its log is in `log`."""

    def __init__(self, node: str, folder: Path, arguments: tuple[str, ...], parameters: dict[str, object]) -> None:
        self.log_path = folder / f"{node}-{time.monotonic_ns()}.log"
        given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_text(value)}")]
        command = [sys.executable, "-m", f"sealegs_ros.{node}", "--ros-args", *given, *arguments]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        """Ask the node to end and return its exit code; kills it when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the node did not stop within {timeout_s} s:\n{self.log}") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def start_node(tmp_path: Path, ros_domain: int) -> Iterator[Callable[..., NodeProcess]]:
    """start_node("robot_node", "-r", "__ns:=/arm", task="drawer", seed=3): started now, ended with the test."""
    running: list[NodeProcess] = []

    def start(node: str, *arguments: str, **parameters: object) -> NodeProcess:
        running.append(NodeProcess(node, tmp_path, arguments, parameters))
        return running[-1]

    yield start
    for node in running:
        if node.process.poll() is None:
            node.stop()


SETTLE_S = 0.3


class Client:
    """A node in the test's process. Nothing spins by itself: `spin_until` does."""

    def __init__(self, name: str) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], Any], timeout_s: float = DISCOVERY_S, what: str = "") -> Any:
        """Spin until `condition()` is true, and return its value; AssertionError after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"nothing within {timeout_s} s: {what or condition}")
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=min(left, 0.02))

    def collect(self, message_type: type, topic: str, profile: Any = 50) -> list[Any]:
        """A list that grows with the messages of `topic` while spinning."""
        messages: list[Any] = []
        self.node.create_subscription(message_type, topic, messages.append, profile)
        return messages

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
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def client(ros_domain: int) -> Iterator[Client]:
    made = Client("test_client")
    yield made
    made.close()
