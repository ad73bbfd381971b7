"""How big a demo is. Two sizes, so that what the tests run is what a user runs, only smaller."""

from __future__ import annotations

from dataclasses import dataclass

EVALUATION_SEED = 1_000_000  # far from the seeds that data is collected with


@dataclass(frozen=True)
class DemoSettings:
    """Numbers of one demo run. `seed` decides the data, the pairs, the batches and the first weights."""

    task: str
    seed: int
    quick: bool
    episodes: int
    live_episodes: int
    pairs: int
    reward_epochs: int
    policy_updates: int
    evaluation_episodes: int
    ros_episodes: int
    jobs: int = 2


@dataclass(frozen=True)
class Arm:
    """One policy of the comparison: a learner and the reward it sees. `judge` is the arm that gets deployed."""

    name: str
    learner: str
    reward: str
    label: str


JUDGE_REWARD = "judge"
ARMS: tuple[Arm, ...] = (
    Arm("judge", "iql", JUDGE_REWARD, "IQL, judge reward"),
    Arm("true", "iql", "true", "IQL, true reward"),
    Arm("constant", "iql", "constant", "IQL, constant reward"),
    Arm("bc", "bc", "constant", "Behaviour cloning"),
)


def full_settings(task: str, seed: int) -> DemoSettings:
    """At most 15 minutes on 2 cores."""
    return DemoSettings(task, seed, False, 200, 5, 3000, 60, 15_000, 100, 20)


def quick_settings(task: str, seed: int) -> DemoSettings:
    """At most 3 minutes on 2 cores: every stage runs, the figures mean little."""
    return DemoSettings(task, seed, True, 24, 1, 400, 10, 600, 20, 2)
