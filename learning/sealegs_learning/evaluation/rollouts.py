"""Episodes rolled out in process into a dataset in memory: for experiments and tests that need no bags and no files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sealegs_contract.errors import LearningError, available
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class RolloutEpisode:
    """Rows [start, start + length), the task, and whether it succeeded (achieved and held)."""

    start: int
    length: int
    task: str
    success: bool
    seed: int


@dataclass(frozen=True)
class RolloutDataset:
    """Rows as an imported dataset has them: state (N, D), and action (N, J) as guarded joint targets in rad."""

    robot: RobotProfile
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    episode_index: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    episodes: tuple[RolloutEpisode, ...]
    path: Path = field(default=Path("rollouts"))
    frames: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """JPEG file of every row, by camera; rows between two images share one."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the rows."""
        digest = hashlib.sha256()
        for values in (self.state, self.action, self.episode_index):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def save(self, file: Path) -> None:
        """Write the rows, and each distinct image once, as one .npz file."""
        files = sorted({data for rows in self.frames.values() for data in rows})
        number = {data: n for n, data in enumerate(files)}
        arrays: dict[str, Any] = {
            "state": self.state,
            "action": self.action,
            "episode_index": self.episode_index,
            "success": np.array([episode.success for episode in self.episodes]),
            "seed": np.array([episode.seed for episode in self.episodes]),
            "images": np.frombuffer(b"".join(files), dtype=np.uint8),
            "sizes": np.array([len(data) for data in files], dtype=np.int64),
        }
        arrays |= {f"camera_{name}": np.array([number[data] for data in rows]) for name, rows in self.frames.items()}
        np.savez(file, **arrays)

    @classmethod
    def load(cls, file: Path, task: str, robot: str = "so101") -> RolloutDataset:
        """What `save` wrote of rollouts of `task`."""
        from sealegs_sim.scene import build_scene

        scene = build_scene(task, robot)
        with np.load(file, allow_pickle=False) as saved:
            index, content = saved["episode_index"], saved["images"].tobytes()
            lengths, ends = np.bincount(index), np.cumsum(saved["sizes"])
            starts = np.cumsum(lengths) - lengths
            files = [content[end - size : end] for end, size in zip(ends, saved["sizes"], strict=True)]
            episodes = tuple(
                RolloutEpisode(int(start), int(length), task, bool(success), int(seed))
                for start, length, success, seed in zip(starts, lengths, saved["success"], saved["seed"], strict=True)
            )
            frames = {
                name.removeprefix("camera_"): tuple(files[n] for n in saved[name])
                for name in saved.files
                if name.startswith("camera_")
            }
            row_of = np.arange(len(index)) - starts[index]
            return cls(scene.robot, scene.observation_spec, scene.action_spec, saved["state"], saved["action"], index,
                       row_of, episodes, frames=frames)  # fmt: skip

    def images(self, camera: str, indices: ArrayLike) -> list[bytes]:
        """JPEG file of each row in `indices`. LearningError for a camera that did not roll along."""
        if camera not in self.frames:
            raise LearningError(f"these rollouts have no camera {camera!r}; {available(self.frames)}")
        return [self.frames[camera][int(row)] for row in np.atleast_1d(np.asarray(indices))]

    @property
    def success_rate(self) -> float:
        """Share of the episodes that succeeded."""
        return sum(episode.success for episode in self.episodes) / len(self.episodes)


def roll_out(
    task: str, policy_name: str, episodes: int, seed: int = 0, robot: str = "so101", cameras: tuple[str, ...] = ()
) -> RolloutDataset:
    """`episodes` episodes of a simulator's policy by name; episode i starts from seed + i and ends at the horizon.

    `cameras` deliver when the robot's do, each row having the newest image, as an imported dataset has.
    """
    from sealegs_sim.cameras import EnvCameras
    from sealegs_sim.env import SealegsEnv
    from sealegs_sim.policies import make_policy

    env = SealegsEnv(task, robot)
    policy = make_policy(policy_name, task, robot)
    states: list[NDArray[np.float32]] = []
    actions: list[NDArray[np.float32]] = []
    rows: list[RolloutEpisode] = []
    eyes = EnvCameras(env, cameras)
    frames: dict[str, list[bytes]] = {camera: [] for camera in cameras}
    for i in range(episodes):
        observation, info = env.reset(seed=seed + i)
        policy.reset(np.random.default_rng((seed + i, 1)))
        truncated, start = False, len(states)
        while not truncated:
            taken = eyes.take(len(states) - start)
            for camera, files in frames.items():
                files.append(taken[camera][0] if camera in taken else files[-1])
            states.append(observation)
            observation, _, _, truncated, info = env.step(policy.act(observation).astype(np.float32))
            actions.append(env.control.guard.position.astype(np.float32))
        rows.append(RolloutEpisode(start, len(states) - start, task, bool(info["success"]), seed + i))
    eyes.close()
    env.close()
    index = np.repeat(np.arange(episodes), [row.length for row in rows])
    return RolloutDataset(
        env.robot,
        env.task.observation_spec(env.robot),
        env.task.action_spec(env.robot),
        np.stack(states),
        np.stack(actions),
        index,
        np.concatenate([np.arange(row.length) for row in rows]),
        tuple(rows),
        frames={camera: tuple(files) for camera, files in frames.items()},
    )
