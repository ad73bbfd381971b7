"""What to train and how: plain frozen dataclasses, importable without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from sealegs_contract.errors import LearningError
from sealegs_learning.files import settled
from sealegs_learning.learners.settings import (
    BCSettings,
    FinetuneSettings,
    IQLSettings,
    PPOSettings,
    Rule,
    UniO4Settings,
    finite,
    hidden_rule,
    whole,
)
from sealegs_learning.policies.settings import InputSettings

HIDDEN = (256, 256)
_SEEDS = range(1 << 32)


@dataclass(frozen=True)
class TrainConfig:
    """One training run: what every learner shares, and each learner's own settings under its name."""

    out: Path
    """Folder of the run: checkpoint, learning curve, best policy."""
    dataset: Path | None = None
    """Dataset folder (LeRobot v3 layout) to learn from."""
    task: str = ""
    """Task whose simulation evaluates the policy while it trains, or in which it learns; by default the dataset's."""
    robot: str = ""
    """Robot: a shipped profile's name, or a profile file; by default that of init or of the dataset, else so101."""
    delays: Path | None = None
    """timing.json of a policy node: in simulation the policy sees and acts as late as was measured there. Evaluations
    while training have the same delays."""
    learner: Literal["iql", "bc", "ppo", "unio4"] = "iql"
    """iql: implicit Q-learning; bc: behaviour cloning; ppo: proximal policy optimisation, in simulation; unio4: PPO
    steps from the logs alone, on the policy of `init`, gated by FQE."""
    init: Path | None = None
    """Checkpoint that training starts from (ppo, unio4, or iql with finetune.steps), its normalisation frozen."""
    reward: str = "true"
    """Name of a reward sidecar, or `true` (simulated progress), or `constant` (the control). BC uses none."""
    updates: int = 10_000
    """Gradient updates; ppo and fine-tuning count environment steps instead."""
    seed: int = 0
    """Seeds the weights and the batches; with one thread, runs are bit-identical on one machine."""
    batch_size: int = 256
    """Transitions per update."""
    device: str = "cpu"
    """Where iql and bc compute on a dataset: cpu (one thread), or cuda (data resident, each update one CUDA graph)."""
    hidden: tuple[int, ...] = ()
    """Units of the hidden layers of every network; by default those of `init`, else 256 256."""
    learning_rate: float = 3e-4
    """Adam's step size; the actor's decays to zero by a cosine."""
    reward_normalisation: Literal["standardise", "return-range", "none"] = "standardise"
    """standardise: zero mean, unit deviation over the dataset; return-range: r * 1000 / (R_max - R_min)."""
    reward_scale: float = 1.0
    """Factor on the standardised reward."""
    spread_penalty: float = 0.0
    """Use mean - penalty * spread of the reward ensemble."""
    inputs: InputSettings = field(default_factory=InputSettings)
    """What the policy sees of the dataset's observation."""
    iql: IQLSettings = field(default_factory=IQLSettings)
    """Settings of IQL."""
    bc: BCSettings = field(default_factory=BCSettings)
    """Settings of behaviour cloning."""
    ppo: PPOSettings = field(default_factory=PPOSettings)
    """Settings of PPO, which counts environment steps where the others count updates."""
    unio4: UniO4Settings = field(default_factory=UniO4Settings)
    """Settings of offline improvement."""
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    """Settings of IQL's fine-tuning in simulation."""
    log_every: int = 250
    """Updates between lines of train.jsonl."""
    checkpoint_every: int = 0
    """Updates, or environment steps, between checkpoints; the end always writes one. 0: 2,000 updates, or 50,000
    environment steps."""
    evaluate_every: int = 0
    """Updates between evaluations in simulation; the end always has one; 0 for none."""
    evaluate_episodes: int = 20
    """Episodes of such an evaluation."""
    evaluate_seed: int = 5_000
    """Seed of its first episode."""
    stop_success: float = 0.0
    """Stop at the first evaluation with at least this success rate; 0 for never."""
    patience: int = 0
    """Stop after this many evaluations in a row that are no better than the best before them; 0 for never."""
    resume: bool = False
    """Go on from the checkpoint in `out`, bit-exact; without one, start."""
    overwrite: bool = False
    """Replace the training that `out` already holds."""
    tensorboard: bool = False
    """Also write TensorBoard scalars into OUT/tensorboard."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Hidden units of a policy that starts anew."""
        return self.hidden or HIDDEN


# What may differ between a run and its continuation; all else decides the weights. What lies in files and tasks is
# compared by what it holds, of which each session says what it learned from.
_NOT_DECISIVE = {"dataset", "out", "task", "log_every", "checkpoint_every", "resume", "overwrite", "tensorboard"} | {
    "delays",
    "init",
    "robot",
    "evaluate_every",
    "evaluate_episodes",
    "evaluate_seed",
    "stop_success",
    "patience",
}
LEARNERS: tuple[str, ...] = get_args(get_type_hints(TrainConfig)["learner"])


def is_online(config: TrainConfig) -> bool:
    """Whether the run acts in simulation, and counts environment steps."""
    return config.learner == "ppo" or (config.learner == "iql" and config.finetune.steps > 0)


def total_of(config: TrainConfig) -> int:
    """Units of work of a run, rounded up to whole rollouts, rounds, or steps of all envs."""
    if config.learner == "ppo":
        return whole(config.ppo.steps, config.ppo.envs * config.ppo.horizon)
    if is_online(config):
        return whole(config.finetune.steps, config.finetune.envs)
    if config.learner == "unio4":
        return whole(config.updates, config.unio4.round_of(config.batch_size)[1])
    return config.updates


def checkpoint_period(config: TrainConfig) -> int:
    """Units between checkpoints: some seconds of training either way."""
    return config.checkpoint_every or (50_000 if is_online(config) else 2_000)


def unused(config: TrainConfig) -> set[str]:
    """Names of the settings that this run does not look at: other learners', and updates where steps are counted."""
    names = {name for name in LEARNERS if name != config.learner}
    if config.learner == "unio4":
        names.discard("ppo")  # its candidates take PPO's steps
    names.add("updates" if is_online(config) else "finetune")
    return names | {"finetune"} if config.learner != "iql" else names


def decisive(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide the weights, as JSON has them; of the learners' own, only those of the one that runs."""
    left_out = _NOT_DECISIVE | unused(config)
    kept = {name: value for name, value in asdict(config).items() if name not in left_out} | {"hidden": config.layers}
    found: dict[str, Any] = json.loads(json.dumps(kept))
    return found


def check_config(config: TrainConfig) -> None:
    """LearningError on a setting outside its range, and where `out` would lose an earlier training."""
    for owner, prefix, found in _owners(config):
        for name, holds, expected in found:
            if not holds:
                raise LearningError(f"{prefix}{name} must be {expected}, got {getattr(owner, name)}")
    if (config.stop_success or config.patience) and not config.evaluate_every:
        raise LearningError("stop_success and patience look at evaluations: set evaluate_every")
    _check_init(config)
    _check_inputs(config)
    if config.delays is not None and not (is_online(config) or config.evaluate_every):
        raise LearningError(f"delays are drawn in simulation: learner {config.learner} on logs alone would ignore them")
    if config.device.partition(":")[0] != "cpu" and (config.learner == "unio4" or is_online(config)):
        raise LearningError(
            f"device {config.device!r} is for iql and bc on a dataset alone; ppo, unio4 and fine-tuning compute on the "
            "cpu: leave out --device"
        )
    if settled(config.out / "checkpoint").exists() and not (config.resume or config.overwrite):
        raise LearningError(
            f"{config.out} already holds a training: go on with --resume, or replace it with --overwrite"
        )


def _owners(config: TrainConfig) -> Iterator[tuple[Any, str, Iterator[Rule]]]:
    """What has rules for this run: the settings, the prefix of their names, and the rules."""
    yield config, "", _rules(config)
    yield config.inputs, "inputs.", config.inputs.rules()
    yield config.finetune, "finetune.", config.finetune.rules()
    settings = getattr(config, config.learner)
    yield settings, f"{config.learner}.", settings.rules()
    if config.learner == "unio4":
        yield config.ppo, "ppo.", config.ppo.rules()
        yield config.unio4.fqe, "unio4.fqe.", config.unio4.fqe.rules()


def _rules(config: TrainConfig) -> Iterator[Rule]:
    """What must hold of the settings that all learners share."""
    for name in ("updates", "batch_size", "log_every", "evaluate_episodes"):
        yield name, getattr(config, name) >= 1, "at least 1"
    for name in ("checkpoint_every", "evaluate_every", "patience"):
        yield name, getattr(config, name) >= 0, "at least 0"
    for name in ("seed", "evaluate_seed"):
        yield name, getattr(config, name) in _SEEDS, "from 0 to 2^32 - 1"
    for name in ("reward_scale", "spread_penalty"):
        yield name, finite(getattr(config, name)), "finite"
    yield hidden_rule(config.hidden)
    yield "learning_rate", config.learning_rate > 0.0, "positive"
    yield "stop_success", 0.0 <= config.stop_success <= 1.0, "in [0, 1]"


def _check_inputs(config: TrainConfig) -> None:
    """LearningError where the choice of inputs would be ignored."""
    if config.inputs.cameras and config.learner != "bc":
        raise LearningError(f"inputs.cameras are for learner bc, which clones from images; {config.learner} cannot")
    if config.inputs == InputSettings():
        return
    if config.learner == "ppo":
        raise LearningError("inputs choose from a dataset's observation; ppo sees the whole of its simulation's")
    if config.init is not None:
        raise LearningError("inputs are chosen where training starts anew; the policy of --init has its own")


def _check_init(config: TrainConfig) -> None:
    """LearningError where a start is missing, or would be ignored."""
    if config.finetune.steps and config.learner != "iql":
        raise LearningError(f"finetune is for learner iql; {config.learner} has settings of its own")
    if config.init is None and (config.learner == "unio4" or config.finetune.steps):
        raise LearningError("fine-tuning goes on from a policy that there is: give --init CHECKPOINT")
    if config.init is not None and config.learner != "unio4" and not is_online(config):
        raise LearningError(
            f"learner {config.learner} starts anew from its dataset: --init is for ppo, unio4, and iql with "
            "finetune.steps"
        )


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
