"""`train_judge`: make the embedded judge in simulation, where privileged state knows every frame's progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sealegs_contract.errors import JudgeError
from sealegs_learning.files import replaced_file, write_json
from sealegs_learning.judge.embedded import (
    SealegsJudgeConfig,
    SealegsJudgeImageProcessor,
    SealegsJudgeModel,
    SealegsJudgeProcessor,
)
from sealegs_learning.judge.embedded.processing import build_tokenizer
from sealegs_learning.judge.quiet import no_transformers_bars
from sealegs_learning.judge.training import losses
from sealegs_learning.judge.training.bank import Bank, augment, to_float
from sealegs_learning.judge.training.calibrate import calibrate
from sealegs_learning.judge.training.frames import FrameRequest, View, block_count, block_paths, frames
from sealegs_learning.judge.training.sentences import other_sentences, training_sentences

OnProgress = Callable[[str, int, int, str], None]
PADDING_TOKEN, UNKNOWN_TOKEN = 0, 1


@dataclass(frozen=True)
class JudgeTrainConfig:
    """Sizes of the data and of the training run. The defaults made the shipped model."""

    episodes: int = 480
    frames_per_episode: int = 10
    views: tuple[View, ...] = ("front", "looks", "training_camera")
    tune_episodes: int = 80
    image_height: int = 60
    image_width: int = 80
    steps: int = 800
    setups_per_batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    sentences_per_step: int = 3
    seed: int = 0
    checkpoint_every: int = 200


def train_judge(
    out: Path, work: Path, config: JudgeTrainConfig, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Train, calibrate and save to `out` (Hugging Face format); returns what it took, also saved as training.json.

    `work` keeps rendered frames and the newest checkpoint: a run that was stopped goes on from there.
    `on_progress(stage, done, total, text)`.
    """
    torch.set_num_threads(1)
    report = on_progress or (lambda *_: None)
    cached = sum(path.is_file() for name in training_sentences() for path in _all_blocks(name, config, work))
    started, cpu_started = time.monotonic(), time.process_time()
    banks = {name: _bank(name, "train", config, work, report) for name in training_sentences()}
    tune = {name: _bank(name, "tune", config, work, report) for name in banks}
    rendered = (time.monotonic() - started, time.process_time() - cpu_started)
    torch.manual_seed(config.seed)
    trainer = Trainer(config, banks)
    checkpoint = work / "training.pt"
    first = trainer.resume(checkpoint)
    for step in range(first, config.steps):
        figures = trainer.step(step)
        if (step + 1) % config.checkpoint_every == 0:
            trainer.save(checkpoint, step + 1)
        if step % 10 == 0:
            report("train", step + 1, config.steps, " ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    report("train", config.steps, config.steps, "done")
    tuned = calibrate(trainer.model, trainer.tokenizer, tune)
    out.mkdir(parents=True, exist_ok=True)
    with no_transformers_bars():
        trainer.model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    processor = SealegsJudgeProcessor(
        SealegsJudgeImageProcessor(config.image_height, config.image_width), trainer.tokenizer
    )
    processor.save_pretrained(out)
    result = {
        "config": asdict(config),
        "frames": {name: len(bank.progress) for name, bank in banks.items()},
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "resumed_from_step": first,
        "frame_blocks_from_cache": cached,
        "seconds": {"frames_wall": rendered[0], "frames_cpu": rendered[1]}
        | {"all_wall": time.monotonic() - started, "all_cpu": time.process_time() - cpu_started},
        **tuned,
    }
    write_json(out / "training.json", result)
    checkpoint.unlink(missing_ok=True)
    return result


def _request(task: str, split: Literal["train", "tune"], config: JudgeTrainConfig) -> FrameRequest:
    """Training frames from every view, tuning frames from the deployed camera."""
    if split == "tune":
        return FrameRequest(task, split, config.tune_episodes, config.frames_per_episode, ("front",), config.seed)
    return FrameRequest(task, split, config.episodes, config.frames_per_episode, config.views, config.seed)


def _all_blocks(task: str, config: JudgeTrainConfig, work: Path) -> list[Path]:
    train, tune = _request(task, "train", config), _request(task, "tune", config)
    return [*block_paths(train, work / "frames"), *block_paths(tune, work / "frames")]


def _bank(task: str, split: Literal["train", "tune"], config: JudgeTrainConfig, work: Path, report: OnProgress) -> Bank:
    """Frames of one task, rendered or read from the cache."""
    request = _request(task, split, config)
    total, done = block_count(request), [0]

    def on_block() -> None:
        done[0] += 1
        report(f"frames {split} {task}", done[0], total, "")

    return Bank.of(frames(request, work / "frames", on_block), config.image_height, config.image_width)


class Trainer:
    """Model, optimiser and batches. Step t draws everything from (seed, t), so a resumed run equals an unbroken one."""

    def __init__(self, config: JudgeTrainConfig, banks: Mapping[str, Bank]) -> None:
        self.config, self.banks = config, banks
        self.sentences, self.others = training_sentences(), other_sentences()
        everything = [s for ours in self.sentences.values() for s in ours] + self.others
        self.tokenizer = build_tokenizer(everything, maximum_tokens=32)
        names = list(self.sentences)
        model_config = SealegsJudgeConfig(
            image_height=config.image_height,
            image_width=config.image_width,
            vocabulary_size=len(self.tokenizer),
            tasks=tuple(self.sentences[name][0] for name in names),
            task_names=tuple(names),
        )
        self.model = SealegsJudgeModel(model_config).to(memory_format=torch.channels_last)
        width = self.model.image_tower.features_width
        # Where things are, from the same features: it teaches the tower geometry, and is not shipped.
        self.position_heads = nn.ModuleDict({name: nn.Linear(width, 9) for name in names})
        parameters = [*self.model.parameters(), *self.position_heads.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(self, step: int) -> dict[str, float]:
        """One update; returns the losses."""
        rng = np.random.default_rng([self.config.seed, step])
        torch.manual_seed(int(rng.integers(2**31)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * schedule(step, self.config.steps)
        self.model.train()
        figures = self._losses(rng)
        total = figures["rank"] + 2.0 * figures["progress"] + 0.5 * figures["position"] + 0.3 * figures["task"]
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in figures.items()}

    def _losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = {name: bank.draw(self.config.setups_per_batch, rng) for name, bank in self.banks.items()}
        pixels = torch.cat([self.banks[name].pixels[index] for name, index in rows.items()])
        images = augment(to_float(pixels), rng).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.image_features(images)
        features = features.float()
        embeds = nn.functional.normalize(self.model.image_projection(features), dim=-1)
        texts, task_loss = self._texts(rng)
        rank, progress, position = [], [], []
        start = 0
        for k, (name, index) in enumerate(rows.items()):
            part = slice(start, start + len(index))
            start += len(index)
            truth = self.banks[name].progress[index]
            scores = self.model.score(embeds[part], texts[k])
            rank.append(losses.bradley_terry(scores, truth, scale=0.1, margin=0.02))
            progress.append(losses.progress_regression(scores, truth))
            predicted = self.position_heads[name](features[part])
            position.append(losses.position_regression(predicted, self.banks[name].positions[index]))
        mean = {"rank": rank, "progress": progress, "position": position}
        return {name: torch.stack(values).mean() for name, values in mean.items()} | {"task": task_loss}

    def _texts(self, rng: np.random.Generator) -> tuple[list[Tensor], Tensor]:
        """Embeddings (K, E) of K random sentences for each task, and the task head's cross-entropy."""
        number, names = self.config.sentences_per_step, list(self.sentences)
        drawn = [str(s) for name in names for s in rng.choice(self.sentences[name], number)]
        drawn += [str(s) for s in rng.choice(self.others, number * len(names))]
        batch = self.tokenizer(drawn, padding=True, truncation=True, return_tensors="pt")
        lost = torch.from_numpy(rng.random(batch["input_ids"].shape) < 0.05) & (batch["input_ids"] != PADDING_TOKEN)
        ids = torch.where(lost, UNKNOWN_TOKEN, batch["input_ids"])
        embeds, logits = self.model.get_text_features(ids, batch["attention_mask"])
        classes = torch.tensor(
            [k for k in range(len(names)) for _ in range(number)] + [len(names)] * (number * len(names))
        )
        ours = [embeds[k * number : (k + 1) * number] for k in range(len(names))]
        return ours, nn.functional.cross_entropy(logits, classes)

    def save(self, path: Path, step: int) -> None:
        """Write everything that the next step depends on."""
        content = {
            "step": step,
            "config": str(self.config),
            "model": self.model.state_dict(),
            "heads": self.position_heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with replaced_file(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path) -> int:
        """Next step: 0, or where the checkpoint of the same configuration stopped."""
        if not path.is_file():
            return 0
        try:
            content = torch.load(path, weights_only=True)
        except Exception as error:  # a damaged file makes torch's reader raise anything
            raise JudgeError(
                f"{path}: not a readable training checkpoint; remove it to start over ({error})"
            ) from error
        if content["config"] != str(self.config):
            return 0
        self.model.load_state_dict(content["model"])
        self.position_heads.load_state_dict(content["heads"])
        self.optimiser.load_state_dict(content["optimiser"])
        return int(content["step"])


def schedule(step: int, steps: int) -> float:
    """Factor on the learning rate: a linear warm-up over 5%, then a cosine to zero."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def quick(config: JudgeTrainConfig) -> JudgeTrainConfig:
    """A run of seconds for tests and first looks: the same path with little data."""
    from dataclasses import replace

    return replace(
        config, episodes=24, tune_episodes=8, frames_per_episode=6, steps=60, views=("front",), checkpoint_every=30
    )
