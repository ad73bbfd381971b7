"""Launch XML to actions. Only what the tables below name is accepted; anything else is an error with its place.

Everything accepted means to `ros2 launch` (Jazzy) what it means here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from sealegs.launching.model import (
    Action,
    Argument,
    Condition,
    Group,
    Include,
    LaunchFile,
    Let,
    Log,
    Parameter,
    ProcessAction,
    PushNamespace,
    SetEnvironment,
)
from sealegs.launching.substitution import Text, parse_text
from sealegs_contract.errors import LaunchError, available

MAXIMUM_BYTES = 1 << 20
_CONDITIONS = {"if", "unless"}
_PROCESS = {
    *("name", "cwd", "launch-prefix", "output", "respawn", "respawn_delay", "respawn_max_retries"),
    *("sigterm_timeout", "sigkill_timeout", "on_exit"),
}
# Element: required attributes, optional attributes (conditions apart), children.
ELEMENTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "launch": (
        set(),
        {"version"},
        {
            *("arg", "let", "node", "executable", "group", "include", "log"),
            *("set_env", "unset_env", "push_ros_namespace"),
        },
    ),
    "arg": ({"name"}, {"default", "description"}, {"choice"}),
    "choice": ({"value"}, set(), set()),
    "let": ({"name", "value"}, set(), set()),
    "log": ({"message"}, set(), set()),
    "set_env": ({"name", "value"}, set(), set()),
    "unset_env": ({"name"}, set(), set()),
    "push_ros_namespace": ({"namespace"}, set(), set()),
    "include": ({"file"}, set(), {"arg"}),
    "node": ({"pkg", "exec"}, {*_PROCESS, "namespace", "args", "ros_args"}, {"param", "remap", "env"}),
    "executable": ({"cmd"}, {*_PROCESS}, {"env"}),
    "param": (set(), {"name", "value", "type", "from", "allow_substs"}, set()),
    "remap": ({"from", "to"}, set(), set()),
    "env": ({"name", "value"}, set(), set()),
}
ELEMENTS["group"] = (set(), {"scoped"}, ELEMENTS["launch"][2])
_UNCONDITIONAL = {"launch", "choice", "param", "remap", "env"}
PARAMETER_TYPES = ("int", "float", "bool", "str")


@dataclass(slots=True)
class Element:
    """One XML element with its place."""

    name: str
    attributes: dict[str, str]
    where: str
    children: list[Element] = field(default_factory=list)

    def error(self, problem: str) -> LaunchError:
        """An error that names this element and its place."""
        return LaunchError(f"{self.where}: <{self.name}> {problem}")

    def text(self, attribute: str) -> Text:
        """An attribute's text with its substitutions parsed."""
        try:
            return parse_text(self.attributes[attribute])
        except LaunchError as error:
            raise self.error(f"{attribute}: {error}") from error

    def optional(self, attribute: str) -> Text | None:
        """As `text`, or None where the attribute is not given."""
        return self.text(attribute) if attribute in self.attributes else None


def parse_launch_file(path: Path) -> LaunchFile:
    """Read and check one launch file. Raises LaunchError with `file:line` and the element."""
    root = _read_xml(path)
    if root.name != "launch":
        raise root.error("is not the root of a launch file; expected <launch>")
    _check(root)
    return LaunchFile(path, tuple(_action(child) for child in root.children))


def _read_xml(path: Path) -> Element:
    """The tree of elements with line numbers. Document types and entities are refused: a small file could grow huge."""
    data = path.read_bytes()
    if len(data) > MAXIMUM_BYTES:
        raise LaunchError(f"{path}: {len(data)} bytes; a launch file has at most {MAXIMUM_BYTES}")
    parser = expat.ParserCreate()
    stack: list[Element] = []
    roots: list[Element] = []

    def here() -> str:
        return f"{path}:{parser.CurrentLineNumber}"

    def start(name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, here())
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def text(data: str) -> None:
        if data.strip():
            raise stack[-1].error(f"holds the text {data.strip()!r}, which means nothing there")

    def refuse(*_: object) -> None:
        raise LaunchError(f"{here()}: document types and entities are not supported in launch files")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise LaunchError(f"{path}:{error.lineno}: not well-formed XML: {error}") from error
    return roots[0]


def _check(element: Element) -> None:
    """Attributes and children of `element` against the table."""
    required, optional, children = ELEMENTS[element.name]
    known = required | optional | (set() if element.name in _UNCONDITIONAL else _CONDITIONS)
    for attribute in element.attributes:
        if attribute not in known:
            raise element.error(f"attribute {attribute!r} is not supported; {available(known)}")
    for attribute in sorted(required - set(element.attributes)):
        raise element.error(f"lacks its attribute {attribute!r}")
    if set(element.attributes) >= _CONDITIONS:
        raise element.error("takes either if or unless, not both")
    for child in element.children:
        if child.name not in children:
            raise child.error(f"is not supported inside <{element.name}>; {available(children)}")
        # Inside <include>, <arg> gives a value.
        if element.name == "include":
            if set(child.attributes) != {"name", "value"} or child.children:
                raise child.error("of an include takes name and value, and only these")
        else:
            _check(child)


def _condition(element: Element) -> Condition | None:
    for name in ("if", "unless"):
        if name in element.attributes:
            return Condition(element.text(name), negated=name == "unless")
    return None


def _action(element: Element) -> Action:
    return _PARSERS[element.name](element, element.where, _condition(element))


def _argument(element: Element, where: str, condition: Condition | None) -> Action:
    return Argument(
        where,
        condition,
        element.attributes["name"],
        element.optional("default"),
        element.attributes.get("description", ""),
        tuple(choice.attributes["value"] for choice in element.children),
    )


def _let(element: Element, where: str, condition: Condition | None) -> Action:
    return Let(where, condition, element.text("name"), element.text("value"))


def _set_environment(element: Element, where: str, condition: Condition | None) -> Action:
    return SetEnvironment(where, condition, element.text("name"), element.optional("value"))


def _push_namespace(element: Element, where: str, condition: Condition | None) -> Action:
    return PushNamespace(where, condition, element.text("namespace"))


def _log(element: Element, where: str, condition: Condition | None) -> Action:
    return Log(where, condition, element.text("message"))


def _group(element: Element, where: str, condition: Condition | None) -> Action:
    scoped = element.optional("scoped") or parse_text("true")
    return Group(where, condition, scoped, tuple(_action(child) for child in element.children))


def _include(element: Element, where: str, condition: Condition | None) -> Action:
    arguments = tuple((child.text("name"), child.text("value")) for child in element.children)
    return Include(where, condition, element.text("file"), arguments)


def _process(element: Element, where: str, condition: Condition | None) -> Action:
    def of(kind: str) -> list[Element]:
        return [child for child in element.children if child.name == kind]

    return ProcessAction(
        where,
        condition,
        element.name,
        {name: element.text(name) for name in element.attributes if name not in _CONDITIONS},
        tuple(_parameter(child) for child in of("param")),
        tuple((child.text("from"), child.text("to")) for child in of("remap")),
        tuple((child.text("name"), child.text("value")) for child in of("env")),
    )


def _parameter(element: Element) -> Parameter:
    given = set(element.attributes)
    if "from" in given:
        if given - {"from", "allow_substs"}:
            raise element.error("with from takes no name, value or type")
    elif not {"name", "value"} <= given or "allow_substs" in given:
        raise element.error("needs name and value, or from (a YAML file)")
    kind = element.attributes.get("type", "")
    if kind and kind not in PARAMETER_TYPES:
        raise element.error(f"type {kind!r} is not supported; {available(PARAMETER_TYPES)}")
    allow = element.attributes.get("allow_substs", "false").lower()
    if allow not in {"true", "false"}:
        raise element.error(f"allow_substs is {allow!r}; expected true or false")
    return Parameter(
        element.where,
        element.attributes.get("name", ""),
        element.optional("value"),
        kind,
        element.optional("from"),
        allow == "true",
    )


_PARSERS: dict[str, Callable[[Element, str, Condition | None], Action]] = {
    "arg": _argument,
    "let": _let,
    "log": _log,
    "set_env": _set_environment,
    "unset_env": _set_environment,
    "push_ros_namespace": _push_namespace,
    "group": _group,
    "include": _include,
    "node": _process,
    "executable": _process,
}
