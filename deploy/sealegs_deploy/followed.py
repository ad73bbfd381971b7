"""Followed: whether the robot does what it is commanded, as its own node says."""

from __future__ import annotations

from collections.abc import Callable

from sealegs_deploy.timing import NS_PER_MS


class Followed:
    """For how long the robot has followed no command, on the host's clock. One that says nothing is taken to follow.

    A policy that goes on meanwhile commands a robot that stands: once its commands get through again, or the node that
    they compete with is gone, the robot would set off by itself.
    """

    def __init__(self, timeout_ms: float, host_ns: Callable[[], int]) -> None:
        self._timeout_ns, self._host_ns = round(timeout_ms * NS_PER_MS), host_ns
        self._since_ns: int | None = None
        self._reason = ""

    def say(self, follows: bool, reason: str) -> None:
        """The robot node's newest word."""
        self._reason = reason
        if follows:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = self._host_ns()

    def begin(self) -> None:
        """Commands begin, or go on: the robot is given the timeout to follow them."""
        if self._since_ns is not None:
            self._since_ns = self._host_ns()

    def problem(self) -> str:
        """Why not to go on commanding; empty where the robot follows, or may still begin to."""
        if self._since_ns is None:
            return ""
        waited_ns = self._host_ns() - self._since_ns
        if waited_ns <= self._timeout_ns:
            return ""
        return f"the robot has followed no command for {waited_ns / NS_PER_MS:.0f} ms (robot node: {self._reason})"
