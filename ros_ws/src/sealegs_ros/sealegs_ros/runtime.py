"""`run_node`: the one `main` of every node. Starts rclpy, spins, stops cleanly, and turns errors into one line.

Exit codes: 0 after SIGINT, SIGTERM or `rclpy.shutdown()`; 2 for what the user can mend (a SealegsError); 1 for the
rest.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError, RCLInvalidROSArgsError, UnknownROSArgsError
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from rclpy.timer import Timer

from sealegs_contract.errors import BackendError, SealegsError
from sealegs_ros import scheduling

# Python hands the interpreter lock over every 5 ms by default: a busy thread would delay a 20 ms tick by that much.
THREAD_SWITCH_S = 0.0005
SPIN_S = 3600.0


def run_node(make_node: Callable[[], Any], arguments: Sequence[str] | None = None) -> int:
    """Make one node, spin it until asked to stop, and return the exit code.

    `make_node` is called after rclpy has started. A node may offer `close()`: it runs once, whatever ended the
    spinning, while the node still exists, with SIGINT and SIGTERM ignored so that a second Ctrl-C cannot cut it short.
    Every node has the parameter `realtime_priority`: see `sealegs_ros.scheduling`.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    node: Any = None
    code = 0
    # rclpy's own handler, set by init, shuts the context down, which ends the spinning, and then calls this one.
    # Python's would raise KeyboardInterrupt in the middle of a callback.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        _init(list(sys.argv if arguments is None else arguments))
        node = make_node()
        _schedule(node)
        _spin(node)
    except ExternalShutdownException:
        pass
    except SealegsError as error:
        code = _report(error)
    except RCLError:
        # A shutdown in mid-call invalidates handles; with a live context it is a real error.
        if rclpy.ok():
            traceback.print_exc()
            code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        code = max(code, _close(node))
        rclpy.try_shutdown()
    return code


def _init(arguments: list[str]) -> None:
    # No shared memory with other processes, unless asked for: who is killed while reading it blocks Fast DDS's writers,
    # and so the control loop, for up to 2.4 s (measured). LOCALHOST has transports of its own, shared memory too.
    if os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") != "LOCALHOST":
        os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    try:
        rclpy.init(args=arguments)
    except (RCLInvalidROSArgsError, UnknownROSArgsError, RCLError) as error:
        given = " ".join(arguments[arguments.index("--ros-args") + 1 :]) if "--ros-args" in arguments else ""
        hint = "log levels are debug, info, warn, error and fatal; parameters are NAME:=VALUE in YAML"
        reason = re.sub(r", at \S+:\d+", "", str(error))
        raise BackendError(f"cannot use the ROS arguments {given!r}: {reason}; {hint}") from error


def _schedule(node: Node) -> None:
    """Real-time scheduling where the parameter asks for it, for all threads that the node has by now."""
    priority = integer_parameter(node, "realtime_priority", 0, "SCHED_FIFO priority, 1 to 99; 0: as other processes")
    if priority not in scheduling.PRIORITIES:
        raise BackendError(f"realtime_priority must lie in [0, 99], got {priority}")
    found = scheduling.request(priority)
    if found.refusal:
        node.get_logger().warning(f"realtime_priority {priority}: {found.text()}")
    elif priority:
        node.get_logger().info(found.text())


def _spin(node: Node) -> None:
    """Spin on an EventsExecutor, which costs half the CPU of the default one; its own `spin()` hangs in the wheels.

    There a callback of (message, info) also ends it, with "SystemError: null argument": callbacks take (message).
    """
    from rclpy.experimental.events_executor import EventsExecutor

    executor = EventsExecutor()
    executor.add_node(node)
    never: Future = Future()
    try:
        while rclpy.ok():
            executor.spin_until_future_complete(never, timeout_sec=SPIN_S)
    finally:
        executor.shutdown()


def _close(node: Any) -> int:
    if node is None:
        return 0
    try:
        if hasattr(node, "close"):
            node.close()
        node.destroy_node()
    except SealegsError as error:
        return _report(error)
    except RCLError:
        if rclpy.ok():
            traceback.print_exc()
            return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _report(error: SealegsError) -> int:
    print(f"sealegs: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    if os.environ.get("SEALEGS_DEBUG"):
        traceback.print_exception(error)
    return error.exit_code


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """A timer on the steady clock: system or simulated time may jump, the control loop must not.

    `callback` is wrapped in a zero-argument closure, which the EventsExecutor requires.
    """

    def run() -> None:
        try:
            callback()
        except RCLError:
            # A signal shut the context down in mid-callback; the executor would log that as a fatal error.
            if rclpy.ok():
                raise

    return node.create_timer(period_s, run, clock=Clock(clock_type=ClockType.STEADY_TIME))


# Parameters are read at start and read-only: nobody who can call a node's services changes what guards it, or thinks
# that they did. `changeable` is for those that are read again later.


def text_parameter(node: Node, name: str, default: str, help: str = "", changeable: bool = False) -> str:
    """Declare a string parameter and return its value."""
    return str(_declare(node, name, default, help, changeable))


def number_parameter(node: Node, name: str, default: float, help: str = "", changeable: bool = False) -> float:
    """Declare a float parameter and return its value; an integer is accepted.

    One that is `changeable` may later be of any type, or gone: rclpy knows no "float or integer".
    """
    value = _declare(node, name, default, help, changeable, dynamic=True)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BackendError(f"parameter {name} of {node.get_name()}: expected a number, got {value!r}")
    return float(value)


def integer_parameter(node: Node, name: str, default: int, help: str = "", changeable: bool = False) -> int:
    """Declare an integer parameter and return its value."""
    return int(_declare(node, name, default, help, changeable))


def bool_parameter(node: Node, name: str, default: bool, help: str = "") -> bool:
    """Declare a boolean parameter and return its value."""
    return bool(_declare(node, name, default, help))


def texts_parameter(node: Node, name: str, default: list[str], help: str = "") -> list[str]:
    """Declare a parameter that is a list of strings, and return its value."""
    # An empty list in YAML has no type: it leaves the parameter without a value.
    return list(_declare(node, name, default, help) or [])


def _declare(node: Node, name: str, default: Any, help: str, changeable: bool = False, dynamic: bool = False) -> Any:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    described = ParameterDescriptor(description=help, read_only=not changeable, dynamic_typing=dynamic)
    try:
        return node.declare_parameter(name, default, described).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        kind = Parameter(name, value=default).type_.name.lower()
        raise BackendError(f"parameter {name} of {node.get_name()}: expected a {kind}, {error}") from error
