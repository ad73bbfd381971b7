"""Actions and arguments to a plan: which processes to start, with which command line and environment.

Nothing starts here, so a whole launch is checked before its first process runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sealegs.launching.files import find_launch_file
from sealegs.launching.model import (
    Action,
    Argument,
    Condition,
    Group,
    Include,
    LaunchFile,
    Let,
    Log,
    ProcessAction,
    PushNamespace,
    SetEnvironment,
)
from sealegs.launching.parse import parse_launch_file
from sealegs.launching.process import ProcessSpec, join_namespace, process_spec
from sealegs.launching.substitution import Scope, Text
from sealegs_contract.errors import LaunchError, available

MAXIMUM_INCLUDES = 32


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What a launch will do: processes in the order of the file, arguments as declared, messages of `<log>`."""

    path: Path
    processes: tuple[ProcessSpec, ...]
    arguments: tuple[Argument, ...]
    messages: tuple[str, ...]

    def declared(self, name: str) -> bool:
        """Whether the file declares the argument `name`."""
        return any(argument.name == name for argument in self.arguments)


@dataclass(slots=True)
class _State:
    """The mutable part of an evaluation; a scoped group works on a copy of the first three."""

    variables: dict[str, str]
    environment: dict[str, str]
    namespace: str = ""
    processes: list[ProcessSpec] = field(default_factory=list)
    declared: dict[str, Argument] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    depth: int = 0

    def scoped(self) -> _State:
        return _State(
            dict(self.variables),
            dict(self.environment),
            self.namespace,
            self.processes,
            self.declared,
            self.messages,
            self.depth,
        )

    def scope(self, folder: Path) -> Scope:
        return Scope(self.variables, self.environment, folder)


def plan_launch(
    file: str | Path, arguments: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> LaunchPlan:
    """Read `file` (a path or a shipped name) and evaluate it with `arguments`. Raises LaunchError."""
    path = find_launch_file(file)
    given = dict(arguments or {})
    state = _State(dict(given), dict(os.environ if environment is None else environment))
    _file(path, state)
    unknown = sorted(set(given) - set(state.declared))
    if unknown:
        raise LaunchError(f"{path.name} has no argument {', '.join(unknown)}; {available(state.declared)}")
    return LaunchPlan(path, tuple(state.processes), tuple(state.declared.values()), tuple(state.messages))


def declared_arguments(file: str | Path) -> tuple[Path, tuple[Argument, ...]]:
    """The path of `file` and what it declares, without evaluating anything."""
    path = find_launch_file(file)
    return path, parse_launch_file(path).arguments()


def _file(path: Path, state: _State) -> None:
    launch = parse_launch_file(path)
    for argument in launch.arguments():
        state.declared.setdefault(argument.name, argument)
    _actions(launch.actions, launch, state)


def _actions(actions: tuple[Action, ...], launch: LaunchFile, state: _State) -> None:
    for action in actions:
        scope = state.scope(launch.path.parent)
        if action.condition is None or _holds(action.condition, scope, action.where):
            _apply(action, launch, state, scope)


def _apply(action: Action, launch: LaunchFile, state: _State, scope: Scope) -> None:
    def text(value: Text) -> str:
        return _evaluate(value, scope, action.where)

    match action:
        case Argument():
            _declare(action, launch, state, scope)
        case Let():
            state.variables[text(action.name)] = text(action.value)
        case SetEnvironment(value=None):
            state.environment.pop(text(action.name), None)
        case SetEnvironment(value=value) if value is not None:
            state.environment[text(action.name)] = text(value)
        case PushNamespace():
            state.namespace = join_namespace(state.namespace, text(action.namespace))
        case Log():
            state.messages.append(text(action.message))
        case Group():
            inner = state.scoped() if _truth(text(action.scoped), action.where) else state
            _actions(action.children, launch, inner)
        case Include():
            _include(action, state, scope)
        case ProcessAction():
            number = len(state.processes) + 1
            state.processes.append(process_spec(action, scope, state.namespace, number))


def _declare(argument: Argument, launch: LaunchFile, state: _State, scope: Scope) -> None:
    """Give an argument its default, unless somebody gave it a value already."""
    name = argument.name
    if name not in state.variables:
        if argument.default is None:
            what = f" ({argument.description})" if argument.description else ""
            names = available(a.name for a in launch.arguments())
            raise LaunchError(f"{argument.where}: argument {name} is required: {name}:=VALUE{what}; {names}")
        state.variables[name] = _evaluate(argument.default, scope, argument.where)
    if argument.choices and state.variables[name] not in argument.choices:
        raise LaunchError(
            f"{argument.where}: argument {name} cannot be {state.variables[name]!r}; {available(argument.choices)}"
        )


def _include(include: Include, state: _State, scope: Scope) -> None:
    path = Path(_evaluate(include.file, scope, include.where))
    if not path.is_file():
        raise LaunchError(f"{include.where}: <include> of {path}, which does not exist")
    if state.depth >= MAXIMUM_INCLUDES:
        raise LaunchError(f"{include.where}: more than {MAXIMUM_INCLUDES} files deep: does it include itself?")
    values = {
        _evaluate(name, scope, include.where): _evaluate(value, scope, include.where)
        for name, value in include.arguments
    }
    # As in ROS: an include is no scope of its own; wrap it in a group where its values must not leak.
    state.variables.update(values)
    state.depth += 1
    _file(path, state)
    state.depth -= 1


def _holds(condition: Condition, scope: Scope, where: str) -> bool:
    return _truth(_evaluate(condition.text, scope, where), where) != condition.negated


def _truth(text: str, where: str) -> bool:
    match text.strip().lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise LaunchError(f"{where}: expected true, false, 1 or 0 as a condition, got {text!r}")


def _evaluate(text: Text, scope: Scope, where: str) -> str:
    try:
        return text.evaluate(scope)
    except LaunchError as error:
        raise LaunchError(f"{where}: {error}") from error
