"""Simulated frames with true progress: rollouts of policies of unequal skill, rendered from several views.

Every frame is a 160x120 JPEG exactly as the robot node would publish it. Rendered blocks are kept as npz files, so that
training can be rerun, and an interrupted run goes on with the next block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import canonical_json
from sealegs_learning.files import replaced_file
from sealegs_learning.judge.training.views import HELD_OUT_CAMERAS, TRAINING_CAMERAS, Looks

View = Literal["front", "looks", "training_camera", "held_out_camera"]
CAMERA = "front"
POSITIONS = 3
# Seeds of the splits never meet: episode i of a split starts from its base + i.
SEED_BASE = {"train": 10_000_000, "tune": 20_000_000, "test": 30_000_000}
POLICIES = ("mixed", "noisy", "scripted", "random")
POLICY_SHARES = (0.45, 0.2, 0.15, 0.2)
BLOCK_EPISODES = 40


@dataclass(frozen=True)
class FrameRequest:
    """Episodes [0, episodes) of one task and split; `frames` of each, once for every view.

    view: front = deployed camera and look; looks = deployed camera, new light and colours; training_camera and
    held_out_camera = a camera drawn from that range, new light and colours.
    """

    task: str
    split: Literal["train", "tune", "test"]
    episodes: int
    frames: int
    views: tuple[View, ...]
    seed: int = 0


@dataclass(frozen=True)
class FrameSet:
    """Frames of one task. `jpeg` (n,) JPEG files; `progress` (n,) true, in [0, 1]; `setup` (n,) numbers episode and
    view together; `episode` (n,); `positions` (n, 3, 3) of the task's objects in m, padded with NaN.
    """

    task: str
    jpeg: list[bytes]
    progress: NDArray[np.float32]
    setup: NDArray[np.int64]
    episode: NDArray[np.int64]
    positions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.jpeg)


def join(sets: Sequence[FrameSet]) -> FrameSet:
    """Several sets of one task as one."""
    return FrameSet(
        sets[0].task,
        [data for frames in sets for data in frames.jpeg],
        np.concatenate([s.progress for s in sets]),
        np.concatenate([s.setup for s in sets]),
        np.concatenate([s.episode for s in sets]),
        np.concatenate([s.positions for s in sets]),
    )


def frames(request: FrameRequest, cache: Path, on_block: Callable[[], None] | None = None) -> FrameSet:
    """The frames of a request, from `cache` where they were rendered before."""
    blocks = []
    starts = range(0, request.episodes, BLOCK_EPISODES)
    for start, path in zip(starts, block_paths(request, cache), strict=True):
        if not path.is_file():
            _save(path, _render_block(request, range(start, min(start + BLOCK_EPISODES, request.episodes))))
        blocks.append(_load(path, request.task))
        if on_block is not None:
            on_block()
    return join(blocks)


def block_paths(request: FrameRequest, cache: Path) -> list[Path]:
    """Where the blocks of a request are kept; the name changes with the request, the policies and the scene."""
    content = [asdict(request), POLICIES, POLICY_SHARES, _scene_mark(request.task)]
    mark = hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]
    starts = range(0, request.episodes, BLOCK_EPISODES)
    return [cache / f"{request.split}-{request.task}-{mark}-{start:05d}.npz" for start in starts]


def block_count(request: FrameRequest) -> int:
    """How many blocks a request takes."""
    return -(-request.episodes // BLOCK_EPISODES)


def _scene_mark(task: str) -> str:
    """Digest of the compiled scene: frames of an older scene are not reused."""
    import mujoco

    from sealegs_sim.scene import build_scene

    model = build_scene(task).model
    buffer = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer.tobytes()).hexdigest()


def _render_block(request: FrameRequest, episodes: range) -> FrameSet:
    from sealegs_sim.env import SealegsEnv
    from sealegs_sim.render import SceneRenderer, jpeg

    env = SealegsEnv(request.task)
    files: list[bytes] = []
    progress, setup, episode, positions = [], [], [], []
    with SceneRenderer(env.scene) as renderer:
        looks = Looks(renderer.model, CAMERA)
        for number in episodes:
            rng = np.random.default_rng([SEED_BASE[request.split], request.seed, number])
            rollout = _rollout(env, first_seed(request) + number, rng)
            chosen = choose_frames(rollout.progress, request.frames, rng, spread=request.split != "test")
            for v, view in enumerate(request.views):
                _set_view(looks, view, rng)
                for t in chosen:
                    files.append(jpeg(renderer.render_state(rollout.qpos[t], CAMERA, *rollout.mocap)))
                progress.append(rollout.progress[chosen])
                setup.append(np.full(len(chosen), number * len(request.views) + v))
                episode.append(np.full(len(chosen), number))
                positions.append(rollout.positions[chosen])
        looks.restore()
    env.close()
    return FrameSet(
        request.task,
        files,
        np.concatenate(progress).astype(np.float32),
        np.concatenate(setup).astype(np.int64),
        np.concatenate(episode).astype(np.int64),
        np.concatenate(positions).astype(np.float32),
    )


@dataclass(frozen=True)
class _Rollout:
    """One episode: qpos (T, nq), constant mocap poses, progress (T,), object positions (T, 3, 3)."""

    qpos: NDArray[np.float64]
    mocap: tuple[NDArray[np.float64], NDArray[np.float64]]
    progress: NDArray[np.float64]
    positions: NDArray[np.float64]


def first_seed(request: FrameRequest) -> int:
    """Seed of the first episode: each split has a range of its own, and each of 100 request seeds a part of it."""
    return SEED_BASE[request.split] + 100_000 * (request.seed % 100)


def _rollout(env: Any, seed: int, rng: np.random.Generator) -> _Rollout:
    """One whole episode of a policy drawn from POLICIES."""
    from sealegs_sim.policies import make_policy

    policy = make_policy(str(rng.choice(POLICIES, p=POLICY_SHARES)), env.task, env.robot)
    policy.reset(np.random.default_rng(seed))
    observation, _ = env.reset(seed=seed)
    observations, qpos = [observation], [env.simulation.data.qpos.copy()]
    truncated = False
    while not truncated:
        observation, _, _, truncated, _ = env.step(policy.act(observation).astype(np.float32))
        observations.append(observation)
        qpos.append(env.simulation.data.qpos.copy())
    fields = env.scene.observation_spec.split(np.stack(observations).astype(np.float64))
    positions = np.full((len(qpos), POSITIONS, 3), np.nan)
    for k, name in enumerate(env.task.objects):
        positions[:, k] = fields[f"{name}.object_position"]
    data = env.simulation.data
    return _Rollout(
        np.stack(qpos), (data.mocap_pos.copy(), data.mocap_quat.copy()), env.task.progress(fields), positions
    )


def choose_frames(
    progress: NDArray[np.float64], number: int, rng: np.random.Generator, spread: bool
) -> NDArray[np.int64]:
    """`number` different steps, anywhere in time; with `spread`, half of them evenly over the range of progress.

    Training sees rare progress more often that way; tests keep the frequencies of real episodes.
    """
    steps = len(progress)
    anywhere = rng.choice(steps, size=min(number // 2 if spread else number, steps), replace=False)
    rest = np.setdiff1d(np.arange(steps), anywhere)
    levels = np.linspace(progress.min(), progress.max(), number - len(anywhere))
    for level in levels:
        nearest = rest[np.argmin(np.abs(progress[rest] - level) + 1e-3 * rng.random(len(rest)))]
        anywhere = np.append(anywhere, nearest)
        rest = rest[rest != nearest]
    return np.sort(anywhere).astype(np.int64)


def _set_view(looks: Looks, view: View, rng: np.random.Generator) -> None:
    looks.restore()
    if view != "front":
        looks.change_light_and_colours(rng)
    if view == "training_camera":
        looks.move_camera(rng, TRAINING_CAMERAS)
    elif view == "held_out_camera":
        looks.move_camera(rng, HELD_OUT_CAMERAS)


def _save(path: Path, block: FrameSet) -> None:
    lengths = np.array([len(data) for data in block.jpeg])
    content = np.frombuffer(b"".join(block.jpeg), dtype=np.uint8)
    with replaced_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            content=content,
            lengths=lengths,
            progress=block.progress,
            setup=block.setup,
            episode=block.episode,
            positions=block.positions,
        )


def _load(path: Path, task: str) -> FrameSet:
    with np.load(path, allow_pickle=False) as block:
        ends = np.cumsum(block["lengths"])
        content = block["content"].tobytes()
        files = [content[end - length : end] for end, length in zip(ends, block["lengths"], strict=True)]
        return FrameSet(task, files, block["progress"], block["setup"], block["episode"], block["positions"])
