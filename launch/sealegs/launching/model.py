"""What a launch file says, as frozen dataclasses: one class per element. `where` is `file:line` for errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sealegs.launching.substitution import Text


@dataclass(frozen=True, slots=True)
class Condition:
    """`if` or `unless`: the action counts when the text reads true (for `unless`: false)."""

    text: Text
    negated: bool


@dataclass(frozen=True, slots=True)
class Action:
    """Common to all elements."""

    where: str
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Argument(Action):
    """`<arg name default description>` with optional `<choice value>` children."""

    name: str
    default: Text | None
    description: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Let(Action):
    """`<let name value>`"""

    name: Text
    value: Text


@dataclass(frozen=True, slots=True)
class SetEnvironment(Action):
    """`<set_env name value>`, and `<unset_env name>` with value None."""

    name: Text
    value: Text | None


@dataclass(frozen=True, slots=True)
class PushNamespace(Action):
    """`<push_ros_namespace namespace>`"""

    namespace: Text


@dataclass(frozen=True, slots=True)
class Log(Action):
    """`<log message level>`"""

    message: Text


@dataclass(frozen=True, slots=True)
class Group(Action):
    """`<group scoped>`: what its children set ends with it, unless scoped is false."""

    scoped: Text
    children: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Include(Action):
    """`<include file>` with `<arg name value>` children."""

    file: Text
    arguments: tuple[tuple[Text, Text], ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`<param name value>` (type inferred as YAML, or given by `type`), or `<param from>`: a YAML file."""

    where: str
    name: str
    value: Text | None
    type: str
    source: Text | None
    allow_substitutions: bool


@dataclass(frozen=True, slots=True)
class ProcessAction(Action):
    """`<node>` or `<executable>`: what to run, and how it is started, restarted and stopped."""

    kind: str
    attributes: dict[str, Text]
    parameters: tuple[Parameter, ...]
    remaps: tuple[tuple[Text, Text], ...]
    environment: tuple[tuple[Text, Text], ...]


@dataclass(frozen=True, slots=True)
class LaunchFile:
    """One parsed file."""

    path: Path
    actions: tuple[Action, ...]

    def arguments(self) -> tuple[Argument, ...]:
        """Every `<arg>` that the file declares, in groups too, whatever the conditions."""
        return _arguments(self.actions)


def _arguments(actions: tuple[Action, ...]) -> tuple[Argument, ...]:
    found: list[Argument] = []
    for action in actions:
        if isinstance(action, Argument):
            found.append(action)
        elif isinstance(action, Group):
            found.extend(_arguments(action.children))
    return tuple(found)
