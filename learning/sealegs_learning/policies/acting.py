"""PolicyActor: a policy on the observations of simulated episodes in step, fed exactly as the controller feeds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sealegs_contract.pixels import Pixels, decode_image
from sealegs_contract.selection import columns_of
from sealegs_contract.spec import ImageField
from sealegs_contract.temporal import ChunkPlayer, History, TemporalSpec


class PolicyActor:
    """Acts in one env or a batch of them, whose episodes begin together: one call a control period.

    A policy without specs sees the env's vector as it is. Cameras deliver when the robot's do, and an image is
    seen `image_delay` periods after its stamp; that of the start is there at once, since a robot streams before it is
    armed.
    """

    def __init__(self, policy: nn.Module, env: Any) -> None:
        self._policy = policy
        spec = getattr(policy, "observation_spec", None)
        temporal = getattr(policy, "temporal", None) or TemporalSpec()
        self._columns = None if spec is None else columns_of(spec, env.scene.observation_spec)
        self._history, self._chunk = History(temporal.history), ChunkPlayer(temporal, period_ns=1)
        self._sight: list[_Sight] = []
        self._cameras: Any = None
        if spec is not None and spec.images:
            from sealegs_sim.cameras import EnvCameras

            self._cameras = EnvCameras(env, [image.camera for image in spec.images])
            self._sight = [_Sight(image, temporal.image_delay) for image in spec.images]
        self._tick = 0

    def reset(self) -> None:
        """New episodes begin."""
        self._history.reset()
        self._chunk.forget()
        self._tick = 0

    def act(self, observation: NDArray[np.floating]) -> NDArray[np.float32]:
        """Actions (B, J) for the frames (B, D) of this period: the policy's mean, without chance."""
        frame = np.ascontiguousarray(observation, dtype=np.float32)
        vector = self._history.push(frame if self._columns is None else frame[:, self._columns])
        taken = self._cameras.take(self._tick) if self._sight else {}
        images = [sight.at(self._tick, taken.get(sight.camera)) for sight in self._sight]
        if self._chunk.due(self._tick):
            with torch.no_grad():
                output = self._policy(*map(torch.from_numpy, (np.ascontiguousarray(vector), *images))).numpy()
            self._chunk.begin(self._tick, output[None] if output.ndim == 2 else np.moveaxis(output, 1, 0))
        action: NDArray[np.float32] = self._chunk.action(self._tick)
        self._tick += 1
        return action

    def close(self) -> None:
        """Free the renderer."""
        if self._cameras is not None:
            self._cameras.close()


class _Sight:
    """One camera: shows each image `delay` ticks after it was taken."""

    def __init__(self, field: ImageField, delay: int) -> None:
        self.camera = field.camera
        self._size, self._delay = (field.height, field.width), delay
        self._taken: list[tuple[int, Pixels]] = []

    def at(self, tick: int, files: list[bytes] | None) -> Pixels:
        """Pixels (B, height, width, 3) that are to be seen at `tick`; `files`: the images taken at it, if any were."""
        if tick == 0:
            self._taken.clear()
        if files is not None:
            self._taken.append((tick, np.stack([decode_image(file, *self._size) for file in files])))
        while len(self._taken) > 1 and self._taken[1][0] + self._delay <= tick:
            self._taken.pop(0)
        return self._taken[0][1]
