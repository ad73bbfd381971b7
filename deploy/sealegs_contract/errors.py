"""The one error tree. A message says what came, what was expected and what is available."""

from __future__ import annotations

from collections.abc import Iterable


class SealegsError(Exception):
    """Anything a user can mend: the command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class ProfileError(SealegsError):
    """A robot profile is missing, malformed or contradicts itself."""


class SpecError(SealegsError):
    """An array does not have the shape, type, names or range that its spec demands."""


class ObservationError(SealegsError):
    """An observation cannot be assembled from the samples that arrived."""


class ActionError(SealegsError):
    """A policy output cannot be turned into joint targets."""


class BackendError(SealegsError):
    """A robot, real or simulated, cannot be reached, read or commanded."""


class SimulationError(SealegsError):
    """The simulator cannot build its scene, diverged, or cannot render."""


class BagError(SealegsError):
    """A bag is missing, foreign or corrupt."""


class DatasetError(SealegsError):
    """A dataset is missing, malformed, or not what a sidecar was made for."""


class JudgeError(SealegsError):
    """A judge cannot be loaded, refuses the task, or its budget is spent."""


class LearningError(SealegsError):
    """A reward or a policy cannot be trained or evaluated from what was given."""


class BundleError(SealegsError):
    """A policy bundle is malformed, was changed, is not trusted, or does not fit this robot."""


class ControllerError(SealegsError):
    """The controller was asked for a transition that its state does not allow."""


class LaunchError(SealegsError):
    """A launch file uses what is not supported, or one of its processes cannot start."""


class SecurityError(SealegsError):
    """A keystore is missing, was changed, or would not protect what it is for."""


class ReportError(SealegsError):
    """A run folder, its summary or a results file is missing or malformed."""


class MachineError(SealegsError):
    """This machine lacks something (a library, a display, a port); the message says how to get it."""


def available(names: Iterable[object]) -> str:
    """`available: a, b, c` in sorted order, for the end of an error message."""
    listed = ", ".join(sorted(str(name) for name in names))
    return f"available: {listed or 'none'}"
