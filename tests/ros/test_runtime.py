"""The shared `main` of all nodes: exit codes, clean ends, one-line errors; and a trap that rclpy sets."""

from __future__ import annotations

import ast
import ctypes
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode

import sealegs_ros

PACKAGE = Path(str(sealegs_ros.__file__)).parent

NODE = """
import sys
from rclpy.node import Node
from sealegs_contract.errors import BackendError
from sealegs_ros.runtime import number_parameter, run_node, steady_timer

class Probe(Node):
    def __init__(self):
        super().__init__("probe")
        self.factor = number_parameter(self, "factor", 1.0)
        self.ticks = 0
        self.timer = steady_timer(self, 0.01, self.tick)

    def tick(self):
        self.ticks += 1
        sum(range(100_000))  # busy, so that signals come in mid-callback
        if self.ticks == 3:
            print("ticking", self.factor, flush=True)
            if self.factor == 2.0:
                raise BackendError("the arm\\n is gone")
            if self.factor == 3.0:
                raise RuntimeError("a bug")

    def close(self):
        print("closed", flush=True)

sys.exit(run_node(Probe))
"""


LISTENER = """
import os, sys
from pathlib import Path
from rclpy.node import Node
from std_msgs.msg import String
from sealegs_ros import scheduling
from sealegs_ros.runtime import run_node, steady_timer

class Listener(Node):
    def __init__(self):
        super().__init__("listener")
        self.publisher = self.create_publisher(String, "echo", 10)
        self.create_subscription(String, "echo", self.hear, 10)
        self.timer = steady_timer(self, 0.01, lambda: self.publisher.publish(String(data="here")))

    def hear(self, message):
        policies = {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}
        print(type(self.executor).__name__, message.data, sorted(policies), scheduling.texts(), flush=True)
        os._exit(0)

sys.exit(run_node(Listener))
"""


def run(*arguments: str, node: str = NODE, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(node), "--ros-args", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(number: int) -> None:
    process = run("-p", "factor:=5")
    assert process.stdout is not None
    assert process.stdout.readline() == "ticking 5.0\n"
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "closed\n"), err
    assert "Traceback" not in err
    assert "FATAL" not in err
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("factor", "code", "line"),
    [
        ("2.0", 2, "sealegs: error: the arm is gone"),
        ("3.0", 1, "RuntimeError: a bug"),
        ("fast", 2, "expected a number"),
    ],
)
def test_errors_end_with_their_code(factor: str, code: int, line: str) -> None:
    process = run("-p", f"factor:={factor}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert line in err
    assert ("closed" in out) == (factor != "fast")


HEARD = "EventsExecutor here"
CAP_SYS_NICE, PR_CAPBSET_DROP = 23, 24


def forbid_realtime() -> None:
    """What `exec` then starts may not raise its priority: it was never allowed to, or loses the capability here."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))


def test_a_node_spins_on_the_events_executor() -> None:
    out, err = run(node=LISTENER).communicate(timeout=60)
    assert out == f"{HEARD} [0] {{'scheduling': 'normal'}}\n", err
    assert "SCHED_FIFO" not in err


def test_a_realtime_priority_that_is_not_permitted_is_reported_and_the_node_runs() -> None:
    out, err = run("-p", "realtime_priority:=7", node=LISTENER, before=forbid_realtime).communicate(timeout=60)
    assert out.startswith(f"{HEARD} [0] {{'scheduling': 'normal: SCHED_FIFO not permitted: "), err
    assert "RLIMIT_RTPRIO allows 0" in out
    assert "[WARN]" in err
    assert "realtime_priority 7: normal: SCHED_FIFO not permitted" in err


def test_a_realtime_priority_that_is_permitted_reaches_every_thread() -> None:
    probe = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(7))"
    if subprocess.run([sys.executable, "-c", probe], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("this machine permits no SCHED_FIFO here (rtprio, CAP_SYS_NICE, cgroup)")
    out, err = run("-p", "realtime_priority:=7", node=LISTENER).communicate(timeout=60)
    assert out.startswith(f"{HEARD} [{os.SCHED_FIFO}] {{'scheduling': 'SCHED_FIFO 7, memory "), err
    assert "SCHED_FIFO 7" in err


def test_a_realtime_priority_that_there_is_not_is_refused() -> None:
    process = run("-p", "realtime_priority:=100", node=LISTENER)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "realtime_priority must lie in [0, 99], got 100" in err


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--log-level", "no-such-flag"]])
def test_unknown_ros_arguments_end_with_one_line(arguments: list[str]) -> None:
    process = run(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no-such-flag" in err
    assert ".c:" not in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*_node.py")), ids=lambda p: p.stem)
def test_no_node_shadows_an_attribute_of_rclpys_node(path: Path) -> None:
    """rclpy keeps its own state in plain attributes (`_clock`, `_parameters`, ...): assigning one breaks it."""
    context = Context()
    rclpy.init(context=context)
    node = LifecycleNode("probe", context=context)
    taken = set(vars(node)) | set(dir(node))
    node.destroy_node()
    context.try_shutdown()
    assigned = {
        target.attr
        for statement in ast.walk(ast.parse(path.read_text()))
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in ast.walk(statement)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
        if isinstance(target.value, ast.Name) and target.value.id == "self"
    }
    assert assigned
    assert not assigned & taken
