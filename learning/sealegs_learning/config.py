"""What to train and how: plain frozen dataclasses, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy from a dataset. The defaults of the learner are IQL's for MuJoCo, apart from the reward scale."""

    dataset: Path
    """Dataset folder (LeRobot v3 layout)."""
    out: Path
    """Folder for the checkpoint and train.jsonl."""
    learner: Literal["iql", "bc"] = "iql"
    """iql: implicit Q-learning; bc: behaviour cloning."""
    reward: str = "true"
    """Name of a reward sidecar, or `true` (simulated progress), or `constant` (the control). BC uses none."""
    updates: int = 10_000
    """Gradient updates."""
    seed: int = 0
    """Seeds the weights and the batches; with one thread, runs are bit-identical on one machine."""
    batch_size: int = 256
    """Transitions per update."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of the hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size; the actor's decays to zero by a cosine."""
    gamma: float = 0.99
    """Discount per control step."""
    tau: float = 0.7
    """Expectile of the value, in (0.5, 1)."""
    beta: float = 3.0
    """Inverse temperature of the advantage weights exp(beta A)."""
    advantage_cap: float = 100.0
    """Upper bound of an advantage weight."""
    polyak: float = 0.005
    """Rate of the target Q networks."""
    reward_normalisation: Literal["standardise", "return-range", "none"] = "standardise"
    """standardise: zero mean, unit deviation over the dataset; return-range: r * 1000 / (R_max - R_min)."""
    reward_scale: float = 1.0
    """Factor on the standardised reward."""
    spread_penalty: float = 0.0
    """Use mean - penalty * spread of the reward ensemble."""
    bc_loss: Literal["gaussian", "mse"] = "gaussian"
    """What BC minimises: -log pi(a|s), or the squared error of the mean."""
    log_every: int = 250
    """Updates between lines of train.jsonl."""
    checkpoint_every: int = 2_000
    """Updates between checkpoints; the last update always writes one."""
    evaluate_every: int = 0
    """Updates between evaluations in simulation; 0 for none."""
    evaluate_episodes: int = 20
    """Episodes of such an evaluation."""
    evaluate_seed: int = 5_000
    """Seed of its first episode."""
    resume: bool = False
    """Go on from the checkpoint in `out`, bit-exact."""
    overwrite: bool = False
    """Replace the training that `out` already holds."""
    tensorboard: bool = False
    """Also write TensorBoard scalars into OUT/tensorboard."""


@dataclass(frozen=True)
class RewardConfig:
    """Learn a reward from preferences and write it beside the dataset."""

    dataset: Path
    """Dataset folder (LeRobot v3 layout)."""
    labels: str
    """Name of the label set (DATASET/labels/NAME.parquet)."""
    name: str
    """Name of the reward sidecar (DATASET/rewards/NAME.parquet)."""
    inputs: Literal["state", "frames", "both"] = "state"
    """What the reward sees: the observation vector, camera frames, or both."""
    cameras: tuple[str, ...] = ("front",)
    """Cameras whose frames the reward sees, stacked as channels."""
    members: int = 3
    """Networks in the ensemble."""
    hidden: tuple[int, ...] = (128, 128)
    """Units of the hidden layers behind the inputs."""
    image_size: int = 64
    """Frames are resized to this many pixels, squared."""
    learning_rate: float = 1e-3
    """Adam's step size; RL-VLM-F has 3e-4."""
    weight_decay: float = 1e-4
    """AdamW's decoupled weight decay."""
    batch_size: int = 128
    """Pairs per update and member."""
    epochs: int = 60
    """Most passes over the pairs."""
    stop_accuracy: float = 1.0
    """Stop when every member agrees with this share of its training pairs. RL-VLM-F stops at 0.97, which suits hard
    labels of a noisy judge; soft labels of a good one still teach something there."""
    patience: int = 8
    """Stop after this many epochs without a better held-out loss; the best epoch's weights are kept."""
    held_out_fraction: float = 0.1
    """Share of the episodes whose pairs measure and never train."""
    seed: int = 0
    """Seeds weights, split and batches."""
