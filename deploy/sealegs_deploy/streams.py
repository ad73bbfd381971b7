"""Streams: the assembler of a live controller, with arrival times, freshness, and which samples belong together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ObservationError, SpecError
from sealegs_contract.observation import Observation, ObservationAssembler
from sealegs_contract.sample import JointSample, Sample, stream_of
from sealegs_contract.spec import ObservationSpec
from sealegs_deploy.timing import NS_PER_MS

JOINT_STREAM = "joint_states"


class Streams:
    """Robot time is in the stamps and in `now_ns`; `host_ns` is the steady clock of this host."""

    def __init__(self, spec: ObservationSpec, host_ns: Callable[[], int], silence_timeout_ms: float) -> None:
        self._assembler = ObservationAssembler(spec, decode=True)
        self._host_ns = host_ns
        self._silence_timeout_ms = silence_timeout_ms
        self.rejected = 0
        self.last_rejection = ""
        self._forget()

    def _forget(self) -> None:
        self._assembler.reset()
        self._stamps: dict[str, int] = {}
        self._together: tuple[str, ...] = ()
        self._fresh_since: int | None = None
        self.received_ns = self._host_ns()

    @property
    def joint_stamp_ns(self) -> int:
        """Stamp of the newest joint sample, 0 before the first."""
        return self._stamps.get(JOINT_STREAM, 0)

    def push(self, sample: Sample, now_ns: int | None, received_ns: int | None, may_restart: bool) -> bool:
        """True if `sample` is now the newest of a needed stream. A bad sample is counted, and never used.

        With `now_ns`, a stamp further in the future than the timeout is refused: it would shut out the later ones.
        `may_restart`: accept that robot time started again, as after a simulator's reset.
        """
        stream = stream_of(sample)
        limit = self._assembler.spec.timeout_ns(stream)
        held = self._stamps.get(stream)
        if may_restart and held is not None and held - sample.stamp_ns > limit:
            self._forget()
            held = None
        try:
            if now_ns is not None and sample.stamp_ns - now_ns > limit:
                raise ObservationError(f"stamped {(sample.stamp_ns - now_ns) / NS_PER_MS:.0f} ms in the future")
            taken = self._assembler.push(sample)
        except (SpecError, ObservationError) as error:
            self.rejected += 1
            self.last_rejection = f"{stream}: {error}"
            return False
        if taken and isinstance(sample, JointSample):
            self.received_ns = self._host_ns() if received_ns is None else received_ns
            if held is not None and sample.stamp_ns > held:
                self._together = tuple(
                    s for s, at in self._stamps.items() if at == held and s != stream and not s.startswith("camera/")
                )
        if taken:
            self._stamps[stream] = sample.stamp_ns
        return taken

    def waiting_for(self) -> tuple[str, ...]:
        """Streams that shared the previous joint sample's stamp, but have not yet come with the newest one.

        Middleware orders messages within a topic only: waiting for these makes a tick see one moment of the world.
        Cameras are slower than the control loop, and never waited for.
        """
        return tuple(stream for stream in self._together if self._stamps[stream] < self.joint_stamp_ns)

    def observe(self, now_ns: int) -> tuple[Observation | None, str]:
        """The observation at `now_ns` (None before every stream came), and why not to act on it (empty: one may)."""
        observation = None if self._assembler.missing else self._assembler.assemble(now_ns)
        problem = self._problem(observation)
        if problem:
            self._fresh_since = None
            problem += f"; last refused sample: {self.last_rejection}" if self.last_rejection else ""
        elif self._fresh_since is None:
            self._fresh_since = self._host_ns()
        return observation, problem

    def unsteady(self, now_ns: int, needed_ms: float) -> str:
        """Why not to go on after a hold: every `observe` must have been without a problem for `needed_ms`."""
        _, problem = self.observe(now_ns)
        if not problem and self.fresh_ms >= needed_ms:
            return ""
        return f"{problem or f'streams fresh for {self.fresh_ms:.0f} ms'}; needed: fresh for {needed_ms:g} ms"

    @property
    def fresh_ms(self) -> float:
        """For how long, on the host's clock, every `observe` has been without a problem."""
        return 0.0 if self._fresh_since is None else (self._host_ns() - self._fresh_since) / NS_PER_MS

    @property
    def silent_ms(self) -> float:
        """Time on the host's clock since a newer joint sample came."""
        return (self._host_ns() - self.received_ns) / NS_PER_MS

    def joint_position(self, joints: tuple[str, ...]) -> NDArray[np.float64]:
        """Newest measured position (J,) rad."""
        return self._assembler.joint_position(joints)

    def _problem(self, observation: Observation | None) -> str:
        if observation is None:
            return f"nothing yet on {', '.join(self._assembler.missing)}"
        if observation.stale:
            ages = ", ".join(f"{s} by {observation.age_ns[s] / NS_PER_MS:.0f} ms" for s in observation.stale)
            limits = {self._assembler.spec.timeout_ns(stream) / NS_PER_MS for stream in observation.stale}
            allowed = " or ".join(f"{limit:g}" for limit in sorted(limits))
            return f"stale: {ages} (allowed: {allowed} ms; do the clocks agree, is use_sim_time set alike?)"
        # Robot time itself may stand still: then no stamp ever grows old.
        silent_ms = self.silent_ms
        return f"no joint_states for {silent_ms:.0f} ms of host time" if silent_ms > self._silence_timeout_ms else ""
