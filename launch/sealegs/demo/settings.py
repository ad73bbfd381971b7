"""How big a demo is. Two sizes, so that what the tests run is what a user runs, only smaller."""

from __future__ import annotations

from dataclasses import dataclass

# Smaller and faster networks than the paper's 2x256, for two cores; a higher expectile, because in most states of
# logs of unequal quality the good action is a minority. The same for every arm.
TRAINING = ("--hidden", "128", "128", "--learning-rate", "0.001", "--iql.tau", "0.9")
EVALUATION_SEED = 1_000_000  # far from the seeds that data is collected with


@dataclass(frozen=True)
class DemoSettings:
    """Numbers of one demo run. `seed` decides the data, the pairs, the batches and the first weights.

    `curve_points`: how often each arm's success is measured while it trains, for the learning curves.
    """

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
    curve_points: int
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
    return DemoSettings(task, seed, False, 400, 5, 3000, 60, 20_000, 100, 20, 5)


def quick_settings(task: str, seed: int) -> DemoSettings:
    """At most 3 minutes on 2 cores: every stage runs, the figures mean little."""
    return DemoSettings(task, seed, True, 24, 1, 400, 10, 600, 20, 2, 0)
