"""Calibration on tuning episodes and sentences: the temperature of answers, and when a sentence is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sealegs_learning.judge.embedded import SealegsJudgeModel
from sealegs_learning.judge.training.bank import Bank, to_float
from sealegs_learning.judge.training.losses import pair_likelihood
from sealegs_learning.judge.training.sentences import other_sentences, tuning_sentences

TEMPERATURES = np.geomspace(0.01, 0.5, 60)
TASK_PROBABILITIES = np.linspace(0.5, 0.95, 10)


def calibrate(model: SealegsJudgeModel, tokenizer: Any, banks: Mapping[str, Bank]) -> dict[str, Any]:
    """Fit and store `score_temperature` and `minimum_task_probability` in the model's config; returns figures."""
    model.eval()
    names = list(model.config.task_names)
    with torch.inference_mode():
        texts, _ = _texts(model, tokenizer, list(model.config.tasks))
        difference, label = zip(*(_pairs(model, banks[n], texts[k : k + 1]) for k, n in enumerate(names)), strict=True)
        d, y = torch.cat(difference), torch.cat(label)
        model.config.score_temperature = fit_temperature(d, y)
        model.config.minimum_task_probability, recognition = _threshold(model, tokenizer)
        accuracy = {
            n: float(((a > 0) == (b > 0.5)).float().mean()) for n, a, b in zip(names, difference, label, strict=True)
        }
    return {
        "tune_accuracy_clearly_apart": accuracy,
        "score_temperature": model.config.score_temperature,
        "minimum_task_probability": model.config.minimum_task_probability,
        "tune_sentences_right": recognition,
    }


def fit_temperature(difference: Tensor, label: Tensor) -> float:
    """The temperature of the grid with the highest likelihood of labels (n,) given score differences (n,)."""
    return float(min(TEMPERATURES, key=lambda t: float(pair_likelihood(difference, label, float(t)))))


def _pairs(model: SealegsJudgeModel, bank: Bank, text: Tensor) -> tuple[Tensor, Tensor]:
    """Score differences and labels of random pairs of one task whose progress differs by more than 0.1."""
    scores = torch.cat(
        [model.score(model.get_image_features(to_float(part)), text)[:, 0] for part in torch.split(bank.pixels, 256)]
    )
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.integers(0, len(scores), 4000)) for _ in range(2))
    apart = (bank.progress[a] - bank.progress[b]).abs() > 0.1
    a, b = a[apart], b[apart]
    return scores[b] - scores[a], (bank.progress[b] > bank.progress[a]).float()


def _texts(model: SealegsJudgeModel, tokenizer: Any, sentences: list[str]) -> tuple[Tensor, Tensor]:
    batch = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
    return model.get_text_features(batch["input_ids"], batch["attention_mask"])


def _threshold(model: SealegsJudgeModel, tokenizer: Any) -> tuple[float, float]:
    """The lowest threshold that refuses every foreign sentence at hand, or the highest if none does; and the share of
    tuning sentences that it has right. A task refused costs a rewording, a wrong task answered costs the dataset.
    """
    tuning = tuning_sentences()
    sentences = [(s, k) for k, name in enumerate(model.config.task_names) for s in tuning[name]]
    sentences += [(s, -1) for s in [*tuning[""], *other_sentences()]]
    _, logits = _texts(model, tokenizer, [s for s, _ in sentences])
    probability, task = logits.softmax(-1)[:, :-1].max(-1)
    truth = torch.tensor([k for _, k in sentences])
    foreign = float(probability[truth < 0].max().item())
    threshold = float(next((t for t in TASK_PROBABILITIES if t > foreign), TASK_PROBABILITIES[-1]))
    right = torch.where(probability >= threshold, task, -1) == truth
    return threshold, float(right[: -len(other_sentences())].float().mean())
