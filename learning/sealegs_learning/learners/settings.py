"""Each learner's own settings, by the names of its equations: frozen dataclasses, importable without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Rule = tuple[str, bool, str]
"""Name of a setting, whether its value is in range, and the range in words."""


@dataclass(frozen=True)
class IQLSettings:
    """Implicit Q-learning (arXiv 2110.06169); the paper's values for MuJoCo."""

    gamma: float = 0.99
    """Discount per control step."""
    tau: float = 0.7
    """Expectile of the value, in (0.5, 1)."""
    beta: float = 3.0
    """Inverse temperature of the advantage weights exp(beta A)."""
    advantage_cap: float = 100.0
    """Upper bound of an advantage weight."""
    polyak: float = 0.005
    """Rate of the target Q networks."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)"
        yield "tau", 0.0 < self.tau < 1.0, "in (0, 1)"
        yield "beta", self.beta >= 0.0, "at least 0"
        yield "advantage_cap", self.advantage_cap > 0.0, "positive"
        yield "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]"


@dataclass(frozen=True)
class BCSettings:
    """Behaviour cloning."""

    loss: Literal["gaussian", "mse"] = "gaussian"
    """-log pi(a|s), or the squared error of the mean."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield from ()
