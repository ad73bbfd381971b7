"""Domain randomisation: every episode on a slightly different robot, so that a policy does not lean on one model.

A knob multiplies model fields by factors that are drawn uniformly at each episode's start, for each simulation by its
own generator. A robot's ranges are in its profile, under `backend: {parameters: {randomization: {KNOB: [low, high]}}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError, available
from sealegs_contract.robot import RobotProfile

FloatArray = NDArray[np.float64]
Range = tuple[float, float]
KEY = "randomization"


@dataclass(frozen=True)
class Knob:
    """Model fields that share a factor; `columns` of the last axis, or all of it. `shared`: one factor for all rows."""

    fields: tuple[tuple[str, tuple[int, ...]], ...]
    shared: bool = False


ALL: tuple[int, ...] = ()
KNOBS: dict[str, Knob] = {
    "geom_friction": Knob((("geom_friction", (0,)),), shared=True),
    "body_mass": Knob((("body_mass", ALL), ("body_inertia", ALL))),
    "joint_damping": Knob((("dof_damping", ALL),)),
    "joint_armature": Knob((("dof_armature", ALL),)),
    "joint_friction": Knob((("dof_frictionloss", ALL),)),
    "pd_gains": Knob((("actuator_gainprm", (0,)), ("actuator_biasprm", (1, 2)))),
    "effort_limits": Knob((("actuator_forcerange", ALL),)),
}

# MuJoCo Playground's factors (arXiv 2502.08844); the width for friction and gains is this project's choice.
DEFAULT_RANGES: dict[str, Range] = {
    "geom_friction": (0.8, 1.2),
    "body_mass": (0.9, 1.1),
    "joint_damping": (0.9, 1.1),
    "joint_armature": (1.0, 1.05),
    "joint_friction": (0.9, 1.1),
    "pd_gains": (0.95, 1.05),
}


def ranges_of(robot: RobotProfile) -> dict[str, Range]:
    """The profile's ranges, or the defaults where it names none. SimulationError on an unknown knob or a bad range."""
    given: Any = robot.backend.parameters.get(KEY)
    if misspelt := [name for name in robot.backend.parameters if name.lower().startswith("randomi") and name != KEY]:
        raise SimulationError(f"robot {robot.name}: backend parameter {misspelt[0]!r} is unknown; did you mean {KEY}?")
    if given is None:
        return dict(DEFAULT_RANGES)
    if not isinstance(given, Mapping):
        raise SimulationError(f"robot {robot.name}: randomization must map knobs to [low, high]; {available(KNOBS)}")
    return {str(knob): _checked(robot.name, str(knob), pair) for knob, pair in given.items()}


def _checked(robot: str, knob: str, pair: Any) -> Range:
    if knob not in KNOBS:
        raise SimulationError(f"robot {robot}: unknown randomization knob {knob!r}; {available(KNOBS)}")
    numbers = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, int | float) for x in pair)
    if not numbers or not 0.0 < pair[0] <= pair[1]:
        raise SimulationError(f"robot {robot}: randomization {knob} needs factors [low, high] above 0, got {pair!r}")
    return float(pair[0]), float(pair[1])


class Randomizer:
    """Per-simulation model fields of a batch; `factors` (N, F) are those in force, 1 before the first draw."""

    def __init__(self, batch: mujoco.batch.Batch, model: mujoco.MjModel, ranges: Mapping[str, Range]) -> None:
        self._batch = batch
        self._parts: list[tuple[FloatArray, FloatArray, slice, NDArray[np.bool_]]] = []
        low: list[FloatArray] = []
        high: list[FloatArray] = []
        at = 0
        for name, (lowest, highest) in ranges.items():
            knob = KNOBS[name]
            count = 1 if knob.shared else len(getattr(model, knob.fields[0][0]))
            low.append(np.full(count, lowest))
            high.append(np.full(count, highest))
            for field, columns in knob.fields:
                nominal = np.array(getattr(model, field), dtype=np.float64)
                scaled = np.isin(np.arange(nominal.shape[-1]), columns) if columns else np.array(True)
                self._parts.append((batch.expand(field), nominal, slice(at, at + count), scaled))
            at += count
        self._low, self._high = np.concatenate(low or [np.empty(0)]), np.concatenate(high or [np.empty(0)])
        self.factors = np.ones((batch.nsim, at))

    def draw(self, rows: NDArray[np.intp], rngs: Sequence[np.random.Generator]) -> None:
        """New robots for `rows`, each from its own generator of `rngs` (N,)."""
        for row in rows:
            self.factors[row] = rngs[row].uniform(self._low, self._high)
        self.apply(rows)

    def apply(self, rows: NDArray[np.intp]) -> None:
        """Write the fields of `rows` from `factors`, and what follows from them."""
        for expanded, nominal, place, scaled in self._parts:
            factor = self.factors[rows, place].reshape(len(rows), -1, *[1] * (nominal.ndim - 1))
            expanded[rows] = nominal * np.where(scaled, factor, 1.0)
        self._batch.set_const(ids=rows)
