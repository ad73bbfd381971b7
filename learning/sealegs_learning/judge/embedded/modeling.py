"""The dual encoder: a residual image tower, a transformer text tower, and a cosine between them.

score = offset + gain * cos(image, text) estimates progress in about [0, 1]; only differences of scores are used.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from sealegs_learning.judge.embedded.configuration import SealegsJudgeConfig


@dataclass
class SealegsJudgeOutput(ModelOutput):
    """`scores` (images, texts), `task_logits` (texts, tasks + 1), and unit `image_embeds`, `text_embeds` (.., E)."""

    scores: Tensor | None = None
    task_logits: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, the first one halving the image, around a 1x1 shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) to (B, Cout, ceil(H/2), ceil(W/2))."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class ImageTower(nn.Module):
    """Stem and residual blocks; the last map is flattened, not averaged, because where things are is the point."""

    def __init__(self, config: SealegsJudgeConfig) -> None:
        super().__init__()
        channels = config.channels
        self.stem = nn.Conv2d(3, channels[0], 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(channels))
        self.narrow = nn.Conv2d(channels[-1], config.pooled_channels, 1)
        height, width = config.image_height, config.image_width
        for _ in channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.features_width = config.pooled_channels * height * width

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels to flat features (B, F)."""
        x = functional.relu(self.stem_norm(self.stem(pixel_values)))
        for block in self.blocks:
            x = block(x)
        return functional.relu(self.narrow(x)).flatten(1)


class TextTower(nn.Module):
    """Token and position embeddings, a pre-norm transformer encoder, mean over the real tokens."""

    def __init__(self, config: SealegsJudgeConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token = nn.Embedding(config.vocabulary_size, width)
        self.position = nn.Embedding(config.maximum_tokens, width)
        layer = nn.TransformerEncoderLayer(
            width, config.text_heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.text_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(T, L) token ids and mask to (T, width)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.token(input_ids) + self.position(places)
        x = self.norm(self.encoder(x, src_key_padding_mask=attention_mask == 0))
        weights = attention_mask.unsqueeze(-1).to(x.dtype)
        mean: Tensor = (x * weights).sum(1) / weights.sum(1).clamp_min(1.0)
        return mean


class SealegsJudgeModel(PreTrainedModel):
    """Dual encoder with a task head on the text side, which tells sentences of its tasks from all others."""

    config_class = SealegsJudgeConfig
    base_model_prefix = "sealegs_judge"
    main_input_name = "pixel_values"

    def __init__(self, config: SealegsJudgeConfig) -> None:
        super().__init__(config)
        self.image_tower = ImageTower(config)
        self.text_tower = TextTower(config)
        self.image_projection = nn.Sequential(
            nn.Linear(self.image_tower.features_width, 256), nn.ReLU(), nn.Linear(256, config.embedding_width)
        )
        self.text_projection = nn.Linear(config.text_width, config.embedding_width)
        self.task_head = nn.Linear(config.text_width, len(config.tasks) + 1)
        self.offset = nn.Parameter(torch.tensor(0.5))
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """He for convolutions and linear layers, wider normals for embeddings: the usual 0.02 learns slowly."""
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5.0**0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Flat features (B, F) of normalised pixels (B, 3, H, W)."""
        features: Tensor = self.image_tower(pixel_values)
        return features

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Unit embeddings (B, E) of normalised pixels (B, 3, H, W)."""
        return functional.normalize(self.image_projection(self.image_features(pixel_values)), dim=-1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings (T, E) of sentences (T, L), and their task logits (T, tasks + 1)."""
        features = self.text_tower(input_ids, attention_mask)
        return functional.normalize(self.text_projection(features), dim=-1), self.task_head(features)

    def score(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """Progress estimates (B, T) of unit embeddings (B, E) and (T, E)."""
        return self.offset + self.gain * image_embeds @ text_embeds.T

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> SealegsJudgeOutput:
        """Scores of every image with every sentence."""
        image = self.get_image_features(pixel_values)
        text, logits = self.get_text_features(input_ids, attention_mask)
        return SealegsJudgeOutput(self.score(image, text), logits, image, text)
