"""Configuration of the embedded judge."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class SealegsJudgeConfig(PretrainedConfig):
    """Sizes of both towers, the tasks that the model was trained on, and the calibration of its answers.

    tasks:            task sentences in training order; class len(tasks) of the task head means "none of these"
    task_names:       their short names
    score_temperature: P(B better) = sigmoid((score_b - score_a) / score_temperature), fitted on validation episodes
    minimum_confidence: the judge abstains where max(P, 1 - P) is below this
    minimum_task_probability: a sentence is recognised where the task head gives one task at least this much
    """

    model_type = "sealegs_judge"

    def __init__(
        self,
        image_height: int = 60,
        image_width: int = 80,
        channels: tuple[int, ...] = (32, 64, 128, 192),
        pooled_channels: int = 32,
        vocabulary_size: int = 512,
        text_width: int = 96,
        text_layers: int = 2,
        text_heads: int = 4,
        maximum_tokens: int = 32,
        embedding_width: int = 128,
        tasks: tuple[str, ...] = (),
        task_names: tuple[str, ...] = (),
        score_temperature: float = 0.05,
        minimum_confidence: float = 0.6,
        minimum_task_probability: float = 0.8,
        **kwargs: Any,
    ) -> None:
        self.image_height, self.image_width = image_height, image_width
        self.channels, self.pooled_channels = list(channels), pooled_channels
        self.vocabulary_size, self.maximum_tokens = vocabulary_size, maximum_tokens
        self.text_width, self.text_layers, self.text_heads = text_width, text_layers, text_heads
        self.embedding_width = embedding_width
        self.tasks, self.task_names = list(tasks), list(task_names)
        self.score_temperature = score_temperature
        self.minimum_confidence = minimum_confidence
        self.minimum_task_probability = minimum_task_probability
        super().__init__(**kwargs)
