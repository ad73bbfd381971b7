"""Substitutions: text with `$(var NAME)`, `$(env NAME DEFAULT)`, `$(find-pkg-share PACKAGE)` and `$(dirname)` in it.

Parsed once, when the file is read, so that a mistake is reported with its place before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sealegs.launching.files import find_package_share
from sealegs_contract.errors import LaunchError, available

# Name: fewest and most arguments.
SUBSTITUTIONS = {"var": (1, 2), "env": (1, 2), "find-pkg-share": (1, 1), "dirname": (0, 0)}


@dataclass(frozen=True, slots=True)
class Call:
    """`$(name argument ...)`; each argument may hold substitutions itself."""

    name: str
    arguments: tuple[Text, ...]

    def __str__(self) -> str:
        return f"$({' '.join([self.name, *map(str, self.arguments)])})"


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text and substitutions, in order."""

    parts: tuple[str | Call, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def evaluate(self, scope: Scope) -> str:
        """The text with every substitution replaced. Raises LaunchError for what has no value."""
        return "".join(part if isinstance(part, str) else scope.value_of(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Scope:
    """What substitutions may ask for: launch configurations, the environment, and the current file's folder."""

    variables: Mapping[str, str]
    environment: Mapping[str, str]
    folder: Path

    def value_of(self, call: Call) -> str:
        """What a substitution stands for. Raises LaunchError where it stands for nothing."""
        arguments = [argument.evaluate(self) for argument in call.arguments]
        match call.name:
            case "dirname":
                return str(self.folder)
            case "find-pkg-share":
                return str(find_package_share(arguments[0]))
            case "env":
                return _look_up(self.environment, arguments, "environment variable {} is not set")
            case _:
                return _look_up(self.variables, arguments, f"variable {{}} is not set; {available(self.variables)}")


def _look_up(values: Mapping[str, str], arguments: list[str], problem: str) -> str:
    name = arguments[0]
    if name in values:
        return values[name]
    if len(arguments) == 2:
        return arguments[1]
    raise LaunchError(problem.replace("{}", repr(name), 1))


def parse_text(text: str) -> Text:
    r"""Text with substitutions; `\$` is a dollar sign. Raises LaunchError for an unknown one or a missing bracket."""
    parts, end = _parse(text, 0, inside=False)
    return parts[0] if end == len(text) and parts else Text(())


def _parse(text: str, start: int, inside: bool) -> tuple[list[Text], int]:
    """Words from `start`: one word to the end of the text or, `inside` a call, words split at blanks up to its `)`."""
    words: list[Text] = []
    current: list[str | Call] = []
    quote = ""
    at = start
    while at < len(text):
        letter = text[at]
        if text.startswith("$(", at):
            call, at = _parse_call(text, at + 2)
            current.append(call)
            continue
        if letter == "\\" and at + 1 < len(text) and text[at + 1] in "$\\":
            letter, at = text[at + 1], at + 1
        elif inside and letter in "'\"" and quote in {"", letter}:
            # An empty pair of quotes is an empty word.
            quote = "" if quote else letter
            letter = ""
        elif inside and not quote and (letter.isspace() or letter == ")"):
            if current:
                words.append(Text(_joined(current)))
                current = []
            if letter == ")":
                return words, at + 1
            at += 1
            continue
        current.append(letter)
        at += 1
    if inside:
        raise LaunchError(f"{text!r}: a substitution lacks its closing bracket or quote")
    return [Text(_joined(current))], at


def _parse_call(text: str, start: int) -> tuple[Call, int]:
    words, end = _parse(text, start, inside=True)
    name = words[0].parts[0] if words and len(words[0].parts) == 1 else ""
    if not isinstance(name, str) or name not in SUBSTITUTIONS:
        raise LaunchError(f"substitution $({text[start : end - 1]}) is not supported; {available(SUBSTITUTIONS)}")
    fewest, most = SUBSTITUTIONS[name]
    if not fewest <= len(words) - 1 <= most:
        raise LaunchError(f"substitution $({text[start : end - 1]}) takes {fewest} to {most} argument(s)")
    return Call(name, tuple(words[1:])), end


def _joined(parts: list[str | Call]) -> tuple[str | Call, ...]:
    joined: list[str | Call] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)
