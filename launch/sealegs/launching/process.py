"""One `<node>` or `<executable>` to one command line."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sealegs.launching.files import OWN_PACKAGE, find_executable
from sealegs.launching.model import Parameter, ProcessAction
from sealegs.launching.substitution import Scope, Text, parse_text
from sealegs_contract.errors import LaunchError, available
from sealegs_contract.robot import safe_yaml

CONTROL_NODES = ("robot_node", "policy_node")
MOST_RESPAWNS = 5
"""Of a control node. One that has died so often needs a person: every restart is another start of an arm."""
OUTPUTS = ("screen", "log", "both", "own_log", "full")


@dataclass(frozen=True, slots=True)
class ParameterFile:
    """YAML that a node reads with --params-file: an existing `path`, or `content` to be written at start."""

    path: Path | None
    content: str = ""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to run. `label` (`robot_node-1`) prefixes its output and names its log file."""

    label: str
    where: str
    command: tuple[str, ...]
    parameter_files: tuple[ParameterFile, ...]
    trailing: tuple[str, ...]
    environment: dict[str, str]
    folder: Path | None = None
    on_exit_shutdown: bool = False
    respawn: bool = False
    respawn_delay_s: float = 0.0
    respawn_limit: int = -1
    sigterm_timeout_s: float = 5.0
    sigkill_timeout_s: float = 5.0


class _Reader:
    """Attributes of one element, evaluated and checked."""

    def __init__(self, action: ProcessAction, scope: Scope) -> None:
        self.action = action
        self.scope = scope

    def error(self, problem: str) -> LaunchError:
        return LaunchError(f"{self.action.where}: <{self.action.kind}> {problem}")

    def text(self, value: Text) -> str:
        try:
            return value.evaluate(self.scope)
        except LaunchError as error:
            raise self.error(str(error)) from error

    def get(self, attribute: str, default: str = "") -> str:
        value = self.action.attributes.get(attribute)
        return default if value is None else self.text(value)

    def words(self, attribute: str) -> list[str]:
        try:
            return shlex.split(self.get(attribute))
        except ValueError as error:
            raise self.error(f"{attribute}: {error}") from error

    def number(self, attribute: str, default: float) -> float:
        text = self.get(attribute, str(default))
        try:
            return float(text)
        except ValueError as error:
            raise self.error(f"{attribute} is {text!r}; expected a number") from error

    def choice(self, attribute: str, allowed: tuple[str, ...], default: str) -> str:
        text = self.get(attribute, default)
        if text not in allowed:
            raise self.error(f"{attribute} is {text!r}; {available(allowed)}")
        return text


def process_spec(action: ProcessAction, scope: Scope, namespace: str, number: int) -> ProcessSpec:
    """The process that `action` asks for, as the `number`th of the launch. Raises LaunchError."""
    read = _Reader(action, scope)
    read.choice("output", OUTPUTS, "log")
    node = action.kind == "node"
    command = _node_command(read) if node else read.words("cmd")
    if not command:
        raise read.error("has an empty cmd")
    name = read.get("name") or (read.get("exec") if node else Path(command[0]).name)
    folder = read.get("cwd")
    environment = dict(scope.environment)
    environment.update((read.text(key), read.text(value)) for key, value in action.environment)
    respawn, limit = _respawn(read)
    return ProcessSpec(
        label=f"{name}-{number}",
        where=action.where,
        command=(*read.words("launch-prefix"), *command),
        parameter_files=_parameter_files(read),
        trailing=_ros_arguments(read, namespace) if node else (),
        environment=environment,
        folder=Path(folder) if folder else None,
        on_exit_shutdown=read.choice("on_exit", ("", "shutdown"), "") == "shutdown",
        respawn=respawn,
        respawn_delay_s=read.number("respawn_delay", 0.0),
        respawn_limit=limit,
        sigterm_timeout_s=read.number("sigterm_timeout", 5.0),
        sigkill_timeout_s=read.number("sigkill_timeout", 5.0),
    )


def _respawn(read: _Reader) -> tuple[bool, int]:
    """Whether it is restarted, and how often (-1: for ever). A node that controls an arm is not restarted for ever."""
    respawn = read.choice("respawn", ("true", "false"), "false") == "true"
    limit = int(read.number("respawn_max_retries", -1))
    control = read.get("pkg") == OWN_PACKAGE and read.get("exec") in CONTROL_NODES
    if respawn and control and not 0 <= limit <= MOST_RESPAWNS:
        given = read.get("respawn_max_retries") or "without end"
        raise read.error(
            f"respawn of {read.get('exec')} needs respawn_max_retries from 0 to {MOST_RESPAWNS}, got {given}: a node "
            "that dies again and again is for a person to look at"
        )
    return respawn, limit


def _node_command(read: _Reader) -> list[str]:
    """Sealegs' own nodes run as modules of this Python; those of other packages from a sourced ROS 2 workspace."""
    package, executable = read.get("pkg"), read.get("exec")
    if package != OWN_PACKAGE:
        try:
            return [str(find_executable(package, executable)), *read.words("args")]
        except LaunchError as error:
            raise read.error(str(error)) from error
    if importlib.util.find_spec(f"{OWN_PACKAGE}.{executable}") is None:
        spec = importlib.util.find_spec(OWN_PACKAGE)
        folders = list(spec.submodule_search_locations or []) if spec else []
        nodes = [module.name for module in pkgutil.iter_modules(folders) if module.name.endswith("_node")]
        raise read.error(f"exec: package {OWN_PACKAGE} has no node {executable!r}; {available(nodes)}")
    return [sys.executable, "-m", f"{OWN_PACKAGE}.{executable}", *read.words("args")]


def join_namespace(outer: str, inner: str) -> str:
    """`inner` under `outer`; an absolute `inner` stands alone. No leading or trailing slash, `` for the root."""
    inner = inner.strip()
    return (inner if inner.startswith("/") else f"{outer}/{inner}").strip("/")


def _ros_arguments(read: _Reader, namespace: str) -> tuple[str, ...]:
    arguments: list[str] = []
    if name := read.get("name"):
        arguments += ["-r", f"__node:={name}"]
    if full := join_namespace(namespace, read.get("namespace")):
        arguments += ["-r", f"__ns:=/{full}"]
    for source, target in read.action.remaps:
        arguments += ["-r", f"{read.text(source)}:={read.text(target)}"]
    return (*arguments, *read.words("ros_args"))


def _parameter_files(read: _Reader) -> tuple[ParameterFile, ...]:
    """In the order of the file, so that a later value wins; neighbouring inline values share a file."""
    files: list[ParameterFile] = []
    inline: dict[str, Any] = {}

    def flush() -> None:
        if inline:
            files.append(ParameterFile(None, json.dumps({"/**": {"ros__parameters": dict(inline)}})))
            inline.clear()

    for parameter in read.action.parameters:
        if parameter.source is None:
            inline[parameter.name] = _parameter_value(parameter, read)
        else:
            flush()
            files.append(_parameter_source(parameter, read))
    flush()
    return tuple(files)


_CONVERSIONS: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}


def _parameter_value(parameter: Parameter, read: _Reader) -> Any:
    """A typed value: as `type` says, or else as YAML reads the text (as ROS does)."""
    text = read.text(parameter.value) if parameter.value else ""
    wanted = parameter.type
    try:
        if wanted in _CONVERSIONS:
            return _CONVERSIONS[wanted](text)
        value = safe_yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        raise LaunchError(f"{parameter.where}: <param> {parameter.name}: {text!r} is no {wanted or 'YAML'}") from error
    if wanted == "bool" and not isinstance(value, bool):
        raise LaunchError(f"{parameter.where}: <param> {parameter.name}: {text!r} is no bool")
    if not isinstance(value, bool | int | float | str | list):
        # ROS would hand the node what it cannot read, and the node would end.
        raise LaunchError(
            f"{parameter.where}: <param> {parameter.name}: {text!r} reads as YAML's {type(value).__name__};"
            ' for text give type="str"'
        )
    return value


def _parameter_source(parameter: Parameter, read: _Reader) -> ParameterFile:
    path = Path(read.text(parameter.source)) if parameter.source else Path()
    if not path.is_file():
        raise LaunchError(f"{parameter.where}: <param> from {path}, which does not exist")
    if not parameter.allow_substitutions:
        return ParameterFile(path)
    try:
        return ParameterFile(None, parse_text(path.read_text(encoding="utf-8")).evaluate(read.scope))
    except LaunchError as error:
        raise LaunchError(f"{path}: {error}") from error
