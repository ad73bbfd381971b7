"""Delays as a policy node measured them (timing.json), put between simulated robots and their policies.

Let P be the period, t_k = k P, and let a_k and l_k be an observation age and a command latency of step k. Then

    seen at step k       the sample of step k - floor(a_k / P), or the last one seen where that is newer
    command of step k    reaches the robot at t_k + (a_k mod P) + l_k, and the robot's tick of step i is at t_i + P
    acting at step i     the newest command that is there by then; none once `HORIZON` periods have passed since its
                         issue at t_k + (a_k mod P), or the robot's watchdog since it came: then the robot decelerates
                         and holds

so a command within its period is in time, as on the robot node, and a later one takes the tick after. What acts passes
the robot's own guard. Ages and latencies follow the measured histogram: in a share `STEADY` of the steps those of the
episode, else fresh ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import RobotProfile
from sealegs_contract.timing import Histogram, TimingReport, read_timing

FloatArray = NDArray[np.float64]
StepArray = NDArray[np.int64]
KEY = "delays"
HORIZON = 5
"""Periods that a command holds, as in the usual timing contract of a bundle."""
STEADY = 0.5
"""This project's choice: a machine that is slow in one period often is in the next."""
MOST_PERIODS = 50
_PARTS = ("samples", "measured", "seen", "targets", "issued", "due", "ends")
STATE_NAMES = tuple(f"{KEY}_{name}" for name in (*_PARTS, "drawn", "guard"))
"""What `DelayLine.state` has."""
AGE, LATENCY = "observation_age", "command_latency"


@dataclass(frozen=True)
class Distribution:
    """Bins between `edges_ms` (B + 1,) with their `shares` (B,); uniform within a bin."""

    edges_ms: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def measured(cls, report: TimingReport, name: str) -> Distribution:
        """That of a quantity of timing.json; what lies beyond the histogram is spread up to the largest value."""
        histogram: Histogram = report.histogram(name)
        edges, counts, tail = list(histogram.edges_ms), list(histogram.counts), report.tails.get(name)
        if tail is not None and tail.count and tail.max_ms > edges[-1]:
            counts[-1] -= tail.count
            edges.append(tail.max_ms)
            counts.append(tail.count)
        return cls(tuple(edges), tuple(count / sum(counts) for count in counts))

    def at(self, level: FloatArray) -> FloatArray:
        """Quantiles in ms at levels in [0, 1)."""
        edges, shares = np.array(self.edges_ms), np.array(self.shares)
        ends = np.cumsum(shares)
        bins = np.minimum(np.searchsorted(ends, level, side="right"), np.flatnonzero(shares)[-1])
        within = np.clip((level - ends[bins] + shares[bins]) / shares[bins], 0.0, 1.0)
        return np.asarray(edges[bins] + within * (edges[bins + 1] - edges[bins]))

    def scaled(self, factor: float) -> Distribution:
        """All values times `factor`."""
        return Distribution(tuple(factor * edge for edge in self.edges_ms), self.shares)


@dataclass(frozen=True)
class Delays:
    """What to draw: ages of the observation, and latencies of the command, in ms."""

    observation_age: Distribution
    command_latency: Distribution

    @classmethod
    def read(cls, path: Path | str) -> Delays:
        """Those of a policy node's timing.json. ControllerError for any other file."""
        report = read_timing(path)
        return cls(Distribution.measured(report, AGE), Distribution.measured(report, LATENCY))

    def scaled(self, factor: float) -> Delays:
        """A machine `factor` times as slow."""
        return Delays(self.observation_age.scaled(factor), self.command_latency.scaled(factor))

    @property
    def digest(self) -> str:
        """What tells one distribution from another."""
        return hashlib.sha256(repr((self.observation_age, self.command_latency)).encode()).hexdigest()

    def draw(self, rng: np.random.Generator, steps: int) -> tuple[FloatArray, FloatArray]:
        """Ages and latencies (steps,) in ms of one episode."""
        episode, fresh = rng.random(2), rng.random((steps, 2))
        level = np.where(rng.random((steps, 2)) < STEADY, episode, fresh)
        return self.observation_age.at(level[:, 0]), self.command_latency.at(level[:, 1])


def delays_of(robot: RobotProfile) -> Delays | None:
    """Those of the profile's `backend: {parameters: {delays: ...}}`, or None.

    A path to a timing.json, or {observation_age_ms: [low, high], command_latency_ms: [low, high]} (either may be left
    out: then 0).
    """
    given: Any = robot.backend.parameters.get(KEY)
    if misspelt := [name for name in robot.backend.parameters if name.lower().startswith("delay") and name != KEY]:
        raise SimulationError(f"robot {robot.name}: backend parameter {misspelt[0]!r} is unknown; did you mean {KEY}?")
    if given is None or isinstance(given, str):
        return None if given is None else Delays.read(given)
    known = (f"{AGE}_ms", f"{LATENCY}_ms")
    if not isinstance(given, Mapping) or set(given) - set(known):
        raise SimulationError(f"robot {robot.name}: delays must be a timing.json, or map {' and '.join(known)}")
    return Delays(*(_range(robot.name, name, given.get(name, (0.0, 0.0))) for name in known))


def _range(robot: str, name: str, pair: Any) -> Distribution:
    numbers = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, int | float) for x in pair)
    if not numbers or not 0.0 <= pair[0] <= pair[1] < np.inf:
        raise SimulationError(f"robot {robot}: delays {name} needs [low, high] in ms from 0, got {pair!r}")
    return Distribution((float(pair[0]), float(pair[1])), (1.0,))


def in_periods(ages_ms: FloatArray, latencies_ms: FloatArray, period_ms: float, watchdog_ms: float) -> list[StepArray]:
    """Steps by which samples are old, by which commands come late, and for which they hold; see the module."""
    old = np.floor(ages_ms / period_ms)
    rest = ages_ms - old * period_ms
    late = np.maximum(np.ceil((rest + latencies_ms) / period_ms) - 1.0, 0.0)
    expires = np.ceil(rest / period_ms + HORIZON)
    silent = np.floor((rest + latencies_ms + watchdog_ms) / period_ms)
    return [np.minimum(x, MOST_PERIODS).astype(np.int64) for x in (old, late, np.minimum(expires, silent))]


class DelayLine:
    """The way between `num_envs` robots and their policies; step counts are each robot's own, from 0 at its start."""

    def __init__(self, robot: RobotProfile, delays: Delays, num_envs: int, horizon_steps: int, size: int) -> None:
        self.delays = delays
        self._period_ms = 1e3 / robot.control_rate_hz
        self._watchdog_ms = robot.watchdog.command_timeout_ms
        self._steps = horizon_steps + 1
        self._guard = Guard(JointLimits.from_profile(robot), self._period_ms / 1e3, num_envs)
        self._rows = np.arange(num_envs)
        self._drawn = np.zeros((3, num_envs, self._steps), dtype=np.int64)
        oldest = np.floor(min(delays.observation_age.edges_ms[-1] / self._period_ms, MOST_PERIODS))
        self._kept = int(oldest) + 1
        self._samples = np.zeros((num_envs, self._kept, size), dtype=np.float32)
        self._measured = np.zeros((num_envs, self._kept, len(robot.joints)))
        self._seen = np.zeros(num_envs, dtype=np.int64)
        slots = HORIZON + 2
        self._targets = np.zeros((num_envs, slots, len(robot.joints)))
        self._issued, self._due, self._ends = (np.zeros((num_envs, slots), dtype=np.int64) for _ in range(3))

    def restart(
        self,
        rows: NDArray[np.intp],
        rngs: Sequence[np.random.Generator],
        observation: NDArray[np.float32],
        measured: FloatArray,
    ) -> None:
        """Episodes of `rows` begin, at rest, with observation (N, D) and joints (N, J) rad; nothing is commanded yet.

        Each draws from a generator that follows from its own of `rngs` (N,), which is left as it was: equal seeds have
        equal starts with and without delays.
        """
        for row in rows:
            state: Any = rngs[row].bit_generator.state
            drawn = self.delays.draw(np.random.default_rng(state["state"]["state"]), self._steps)
            self._drawn[:, row] = in_periods(*drawn, self._period_ms, self._watchdog_ms)
        if len(rows) == len(self._rows):
            self._guard.reset(measured)
        else:
            self._guard.reset(measured[rows], rows)
        self._samples[rows], self._measured[rows] = observation[rows, None], measured[rows, None]
        self._seen[rows], self._issued[rows] = 0, -1

    def send(self, targets: FloatArray, steps: StepArray, active: NDArray[np.intp] | None) -> FloatArray:
        """Policies command `targets` (N, J) at `steps` (N,): what the robots follow in this period. Others stand."""
        rows, slot = self._rows, steps % self._issued.shape[1]
        _, late, holds = self._drawn[:, rows, np.minimum(steps, self._steps - 1)]
        self._targets[rows, slot] = targets
        self._issued[rows, slot], self._due[rows, slot] = steps, steps + late
        self._ends[rows, slot] = steps + holds
        now = steps[:, None]
        there = np.where((self._issued >= 0) & (self._due <= now), self._issued, -1)
        newest = there.argmax(axis=1)
        valid = (there[rows, newest] >= 0) & (self._ends[rows, newest] > steps)
        wanted = np.where(valid[:, None], self._targets[rows, newest], np.nan)
        before = None if active is None else self._guard.save()
        step = self._guard(wanted)
        if before is not None and active is not None:
            standing = np.setdiff1d(rows, active)
            after = self._guard.save()
            after[:, standing] = before[:, standing]
            self._guard.restore(after)
            self._issued[standing] = -1
        # Where nothing limits it, the target itself: position + (target - position) may differ in the last bit.
        return np.where(step.limited, step.position, wanted)

    def sense(
        self, observation: NDArray[np.float32], measured: FloatArray, steps: StepArray, active: NDArray[np.intp] | None
    ) -> None:
        """New samples (N, D) and (N, J) of the active robots, which have made `steps` (N,)."""
        rows = self._rows if active is None else active
        now = steps[rows]
        self._samples[rows, now % self._kept] = observation[rows]
        self._measured[rows, now % self._kept] = measured[rows]
        old = self._drawn[0, rows, np.minimum(now, self._steps - 1)]
        self._seen[rows] = np.maximum(self._seen[rows], now - old)

    def view(self) -> NDArray[np.float32]:
        """What the policies see, (N, D)."""
        return np.asarray(self._samples[self._rows, self._seen % self._kept])

    def measured(self) -> FloatArray:
        """The joints (N, J) rad in what they see."""
        return np.asarray(self._measured[self._rows, self._seen % self._kept])

    def state(self) -> dict[str, NDArray]:
        """Everything that the next step depends on, by name, each by env."""
        return {f"{KEY}_{name}": getattr(self, f"_{name}").copy() for name in _PARTS} | {
            f"{KEY}_drawn": self._drawn.swapaxes(0, 1).copy(),
            f"{KEY}_guard": self._guard.save().swapaxes(0, 1).copy(),
        }

    def set_state(self, state: Mapping[str, NDArray]) -> None:
        """Inverse of `state`."""
        for name in _PARTS:
            getattr(self, f"_{name}")[...] = state[f"{KEY}_{name}"]
        self._drawn = np.ascontiguousarray(state[f"{KEY}_drawn"].swapaxes(0, 1))
        self._guard.restore(state[f"{KEY}_guard"].swapaxes(0, 1))
