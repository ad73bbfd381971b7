"""Logged locomotion data of unequal quality, made here: a PPO run, its snapshots, and episodes of them.

    medium          episodes of the first snapshot that earns half of what the last one does
    replay          episodes of every snapshot up to that one: a little of everything that learning tried
    medium-expert   half medium, half episodes of the last snapshot

Policies act with their exploration noise. Returns are normalised to 0 for uniformly random actions, 100 for the last
snapshot without noise.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sealegs_learning.files import replaced_file, write_json
from sealegs_learning.learners.settings import PPOSettings
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, Normalizer
from sealegs_learning.sessions.online import online_session
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.transitions import Transitions, episode_slices, return_range_scaled
from sealegs_sim.locomotion import LocomotionEnv

KINDS = ("medium", "replay", "medium-expert")
_MEDIUM = 0.5  # of the last snapshot's return, above random
_EVALUATION_SEED, _DATA_SEED = 90_000, 10_000

FloatArray = NDArray[np.float32]
Act = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""Observations (N, D) -> actions (N, J) in [-1, 1]."""


@dataclass(frozen=True)
class Logs:
    """Rows of whole episodes: observation (N, D) and action (N, J) before the step, its reward (N,), whether it ended
    the episode by failure (N,), and the episode (N,). An episode that ends otherwise ended by time.
    """

    observation: FloatArray
    action: FloatArray
    reward: FloatArray
    terminal: FloatArray
    episode: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        with replaced_file(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> Logs:
        """Inverse of `save`."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sum of the rewards of each episode."""
        return np.array([self.reward[e].sum(dtype=np.float64) for e in episode_slices(self.episode)])

    def transitions(self, constant_reward: bool = False) -> Transitions:
        """With the paper's return-range reward. The last row of an episode that ended by time has no s' and is left
        out, as in d3rlpy; that of a failure is a terminal.
        """
        scaled = return_range_scaled(self.reward, self.episode)
        reward = np.full_like(scaled, scaled.mean()) if constant_reward else scaled
        last = np.append(np.diff(self.episode) != 0, True)
        kept = np.flatnonzero(~last | (self.terminal > 0.0))
        after = np.where(last[kept], kept, kept + 1)
        observation = torch.from_numpy(self.observation)
        arrays = (self.action[kept], reward[kept], self.observation[after], self.terminal[kept])
        action, rewards, following, terminal = (torch.from_numpy(array) for array in arrays)
        normalizer = Normalizer.fit(observation)
        return Transitions.pack(observation[torch.from_numpy(kept)], action, rewards, following, terminal, normalizer)


def acting(policy: GaussianActor, noise_seed: int | None = None) -> Act:
    """What `policy` does; with its exploration noise if a seed is given."""
    rng = None if noise_seed is None else np.random.default_rng(noise_seed)
    std = policy.log_std.detach().clamp(LOG_STD_MIN, LOG_STD_MAX).exp().numpy()

    @torch.no_grad()
    def act(observation: NDArray[np.floating]) -> NDArray[np.floating]:
        mean = policy(torch.from_numpy(np.asarray(observation, dtype=np.float32))).numpy()
        noise = 0.0 if rng is None else std * rng.standard_normal(mean.shape, dtype=np.float32)
        action: NDArray[np.floating] = np.clip(mean + noise, -1.0, 1.0).astype(np.float32)
        return action

    return act


def roll_out(task: str, act: Act, episodes: int, seed: int) -> Logs:
    """`episodes` whole episodes, side by side; episode i starts from `seed` + i."""
    env = LocomotionEnv(task, episodes, autoreset="disabled")
    observation = env.reset(seed=seed)[0]
    rows: list[tuple[NDArray[Any], ...]] = []
    alive = np.ones(episodes, dtype=bool)
    while alive.any():
        action = np.asarray(act(observation), dtype=np.float32)
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((np.asarray(observation, np.float32), action, reward, terminated, alive.copy()))
        alive &= ~(terminated | truncated)
        observation = following
    states, actions, rewards, terminals, lived = (np.stack(column, axis=1) for column in zip(*rows, strict=True))
    number = np.broadcast_to(np.arange(episodes)[:, None], lived.shape)
    return Logs(
        states[lived],
        actions[lived],
        rewards[lived].astype(np.float32),
        terminals[lived].astype(np.float32),
        number[lived].astype(np.int64),
    )


def mean_return(task: str, policy: GaussianActor, episodes: int) -> float:
    """Of `policy` without noise, over starts that no data has."""
    return float(roll_out(task, acting(policy), episodes, _EVALUATION_SEED).returns.mean())


def joined(parts: Sequence[Logs]) -> Logs:
    """All episodes of all parts."""
    offsets = np.cumsum([0, *(part.episode.max() + 1 for part in parts)])
    return Logs(
        np.concatenate([part.observation for part in parts]),
        np.concatenate([part.action for part in parts]),
        np.concatenate([part.reward for part in parts]),
        np.concatenate([part.terminal for part in parts]),
        np.concatenate([part.episode + offset for part, offset in zip(parts, offsets, strict=False)]),
    )


def make_data(
    task: str, folder: Path, steps: int, snapshots: int, rows: int, seed: int, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Train PPO for `steps` and write `folder`/KIND.npz of about `rows` rows each; true returns and references."""
    torch.set_num_threads(1)
    config = TrainConfig(
        folder, task=task, learner="ppo", seed=seed, hidden=(64, 64), batch_size=256, ppo=PPOSettings(steps=steps)
    )
    session = online_session(config)
    policies = []
    for k in range(snapshots):
        session.advance(steps * (k + 1) // snapshots)
        policies.append(copy.deepcopy(session.policy).requires_grad_(False))
        progress(k + 1, snapshots)
    returns = [mean_return(task, policy, 10) for policy in policies]
    random = random_return(task, policies[0].actions)
    expert = returns[-1]
    medium = next(
        k for k, value in enumerate(returns) if k == snapshots - 1 or value >= random + _MEDIUM * (expert - random)
    )
    write_json(folder / "reference.json", {"random": random, "expert": expert})
    made = {
        "medium": [(medium, rows)],
        "replay": [(k, rows // (medium + 1)) for k in range(medium + 1)],
        "medium-expert": [(medium, rows // 2), (snapshots - 1, rows // 2)],
    }
    figures: dict[str, Any] = {"random": random, "expert": expert, "snapshot_returns": returns, "medium": medium}
    for kind, parts in made.items():
        logs = joined([_enough(task, policies[k], wanted, _DATA_SEED + 1000 * k) for k, wanted in parts])
        logs.save(folder / f"{kind}.npz")
        figures[kind] = {"rows": len(logs.reward), "episodes": len(logs.returns), "return": float(logs.returns.mean())}
    return figures


def random_return(task: str, actions: int) -> float:
    """Mean return of uniformly random actions."""
    rng = np.random.default_rng(0)
    return float(
        roll_out(task, lambda o: rng.uniform(-1.0, 1.0, (len(o), actions)), 20, _EVALUATION_SEED).returns.mean()
    )


def normalised(returns: float, folder: Path) -> float:
    """0 for random, 100 for the expert, by the reference beside the data."""
    reference: dict[str, float] = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    return 100.0 * (returns - reference["random"]) / (reference["expert"] - reference["random"])


def _enough(task: str, policy: GaussianActor, rows: int, seed: int) -> Logs:
    """Whole episodes with noise until there are `rows` rows."""
    parts: list[Logs] = []
    while sum(len(part.reward) for part in parts) < rows:
        start = seed + 100 * len(parts)
        parts.append(roll_out(task, acting(policy, start), 10, start))
    return joined(parts)
