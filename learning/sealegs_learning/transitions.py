"""Transitions (s, a, r, s') of a logged dataset as resident tensors, and seeded batches of them.

Row t becomes a transition with row t+1 of the same episode, so an episode of T rows gives T-1 transitions:
    s = state[t],  a = normalised action[t],  r = reward[t+1] ("reward of next frame"),  s' = state[t+1].
The reward is that of the frame in which the action ended, as the simulator's own r = progress(s_{t+1}).
Logged episodes end by time limit, which is not a terminal, so their every s' is bootstrapped. Where a task can end by
failure (a hopper that falls), `terminal` is 1 for the transition into the failure, and nothing is bootstrapped there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import LearningError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_learning.networks import Normalizer
from sealegs_learning.policies.view import View


class LoggedData(Protocol):
    """What learning needs of a dataset; `data.dataset.Dataset` and in-memory rollouts both offer it.

    Rows of one episode are contiguous. `state` (N, D) float32, `action` (N, J) float32 commanded targets in rad.
    """

    @property
    def robot(self) -> RobotProfile:
        """Its robot."""
        ...

    @property
    def observation_spec(self) -> ObservationSpec:
        """What a row of `state` means."""
        ...

    @property
    def action_spec(self) -> ActionSpec:
        """What a policy of this data puts out."""
        ...

    @property
    def state(self) -> NDArray[np.float32]:
        """Observations (N, D)."""
        ...

    @property
    def action(self) -> NDArray[np.float32]:
        """Commanded joint targets (N, J), rad."""
        ...

    @property
    def episode_index(self) -> NDArray[np.int64]:
        """Episode of each row (N,)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of its content."""
        ...


class Batch(NamedTuple):
    """Observations (B, D) and (B, D) normalised, actions (B, J) in [-1, 1], rewards (B,), terminals (B,) 0 or 1.

    With a leading axis K, a batch for each of K members.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminal: Tensor


@dataclass(frozen=True)
class Transitions:
    """All transitions in one tensor (M, 2D + J + 2), so that drawing a batch is one gather."""

    packed: Tensor
    observation_size: int
    action_size: int
    normalizer: Normalizer

    @classmethod
    def pack(
        cls,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminal: Tensor,
        normalizer: Normalizer,
    ) -> Transitions:
        """From raw observations (M, D) twice, actions (M, J), rewards (M,), terminals (M,)."""
        now, then = normalizer(observation), normalizer(next_observation)
        packed = torch.cat([now, action, reward[:, None], then, terminal[:, None]], dim=1)
        return cls(packed.to(torch.float32).contiguous(), observation.shape[1], action.shape[1], normalizer)

    def __len__(self) -> int:
        return len(self.packed)

    def to(self, device: str | torch.device) -> Transitions:
        """The same, resident on `device`."""
        return replace(self, packed=self.packed.to(device))

    def rows(self, indices: Tensor) -> Batch:
        """The transitions at `indices` (B,), or (K, B) for K members."""
        d, j = self.observation_size, self.action_size
        picked = self.packed.index_select(0, indices.flatten()).view(*indices.shape, -1)
        s, a, r, s_next, terminal = torch.split(picked, [d, j, 1, d, 1], dim=-1)
        return Batch(s, a, r.squeeze(-1), s_next, terminal.squeeze(-1))

    def draw(self, generator: torch.Generator, size: int, updates: int = 1) -> Tensor:
        """Indices (updates, size), uniform with replacement; the same numbers as `updates` draws of one."""
        return torch.randint(len(self.packed), (updates, size), generator=generator)

    def sample(self, generator: torch.Generator, size: int) -> Batch:
        """`size` transitions drawn uniformly with replacement by `generator`."""
        return self.rows(self.draw(generator, size)[0])


def episode_slices(episode_index: NDArray[np.int64]) -> list[slice]:
    """Row ranges of the episodes, in order. LearningError if an episode's rows are not contiguous."""
    if not len(episode_index):
        return []
    starts = np.flatnonzero(np.diff(episode_index, prepend=episode_index[0] - 1))
    if len(np.unique(episode_index)) != len(starts):
        raise LearningError("the rows of an episode must be contiguous, but an episode index comes back after another")
    return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(episode_index)], strict=True)]


def normalised_actions(data: LoggedData, episode: slice) -> NDArray[np.float32]:
    """Actions (T, J) in [-1, 1] whose decoding gives the commands of one episode.

    The previous target starts as the measured position, as it does in the controller. Commands beyond the
    action's full scale are clipped: the policy could not have asked for them.
    """
    targets = np.asarray(data.action[episode], dtype=np.float64)
    initial = np.zeros(targets.shape[1])
    if data.action_spec.kind == "joint_delta":
        measured = data.observation_spec.split(np.asarray(data.state[episode.start], dtype=np.float64))
        if "joint_position" not in measured:
            raise LearningError(
                "joint_delta actions need the joint positions in the observation to know where an episode started; "
                f"the observation has: {', '.join(measured)}"
            )
        initial = _in_order(data, measured["joint_position"])
    output = ActionDecoder(data.action_spec).encode(targets, initial)
    action: NDArray[np.float32] = np.clip(data.action_spec.to_action(output), -1.0, 1.0).astype(np.float32)
    return action


def _in_order(data: LoggedData, measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measured positions from the order of the observation's field into the order of the action."""
    field = next(f for f in data.observation_spec.fields if f.name == "joint_position")
    missing = [name for name in data.action_spec.joints if name not in field.joints]
    if missing:
        raise LearningError(f"the observation has no position of joint(s) {', '.join(missing)}")
    return measured[[field.joints.index(name) for name in data.action_spec.joints]]


def learnable_episodes(data: LoggedData) -> list[slice]:
    """Row ranges of the episodes that hold a transition. LearningError where none does."""
    episodes = [e for e in episode_slices(data.episode_index) if e.stop - e.start >= 2]
    if not episodes:
        raise LearningError(
            f"no episode has two rows or more, so there is no transition ({len(data.state)} rows in all)"
        )
    return episodes


def build_transitions(data: LoggedData, reward: NDArray[np.float32], view: View | None = None) -> Transitions:
    """Transitions of every episode of `data` under the row rewards `reward` (N,), as `view` sees them (all of it).

    Raises LearningError on a wrong number of rewards, values that are not finite, or no episode of two rows.
    """
    rows = len(data.state)
    if reward.shape != (rows,):
        raise LearningError(f"the dataset has {rows} rows, but the reward came with shape {reward.shape}")
    for name, values in (("state", data.state), ("action", data.action), ("reward", reward)):
        if not np.isfinite(values).all():
            raise LearningError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} value(s) that are not finite")
    episodes = learnable_episodes(data)
    view = view or View(data.observation_spec)
    raw = torch.from_numpy(view.inputs(data, episodes))
    now = torch.cat([torch.arange(e.start, e.stop - 1) for e in episodes])
    outputs = [view.outputs(data, normalised_actions(data, e))[:-1] for e in episodes]
    action = torch.from_numpy(np.concatenate(outputs))
    reward_of_next_frame = torch.from_numpy(np.asarray(reward, dtype=np.float32))[now + 1]
    return Transitions.pack(
        raw[now], action, reward_of_next_frame, raw[now + 1], torch.zeros(len(now)), Normalizer.fit(raw)
    )


def standardised(reward: NDArray[np.float32], scale: float = 1.0) -> NDArray[np.float32]:
    """(r - mean) / std * scale; zero for a constant reward.

    Without terminals a shift of r shifts every value alike, so only the scale matters to IQL, whose weights
    exp(beta A) are not scale-free: standardising makes one beta serve rewards of any unit.
    """
    wide = np.asarray(reward, dtype=np.float64)
    deviation = wide.std()
    if deviation < 1e-9 * max(1.0, float(np.abs(wide).max(initial=0.0))):
        return np.zeros(len(wide), dtype=np.float32)
    return np.asarray((wide - wide.mean()) / deviation * scale, dtype=np.float32)


def return_range_scaled(
    reward: NDArray[np.float32], episode_index: NDArray[np.int64], scale: float = 1000.0
) -> NDArray[np.float32]:
    """The IQL paper's r * 1000 / (R_max - R_min) over the returns R of the episodes; unchanged where they are equal."""
    returns = [float(np.sum(reward[e], dtype=np.float64)) for e in episode_slices(episode_index)]
    spread = max(returns) - min(returns)
    return (reward * (scale / spread)).astype(np.float32) if spread > 1e-9 else reward.astype(np.float32)
