"""Pixels and tokens for the embedded judge. Pillow alone resizes, so scores do not depend on torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

PIXEL_MEAN = 0.5
PIXEL_STD = 0.25


def resize(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB; Pillow's bilinear filter, which averages when it shrinks."""
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32: (p / 255 - mean) / std."""
    scaled = (pixels.astype(np.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


class SealegsJudgeImageProcessor(BaseImageProcessor):
    """PIL images (or uint8 arrays (H, W, 3)) to `pixel_values`."""

    model_input_names = ["pixel_values"]  # noqa: RUF012 - transformers' own convention

    def __init__(self, height: int = 60, width: int = 80, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        """`pixel_values` (B, 3, height, width) float32 of one image or a list of them."""
        listed = images if isinstance(images, Sequence) else [images]
        pixels = [
            resize(i if isinstance(i, Image.Image) else Image.fromarray(i), self.height, self.width) for i in listed
        ]
        return BatchFeature({"pixel_values": normalise(np.stack(pixels))}, tensor_type=return_tensors)


class SealegsJudgeProcessor(ProcessorMixin):
    """Image processor and tokenizer together."""

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012 - transformers' own convention

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(
        self, text: str | Sequence[str] | None = None, images: Any = None, return_tensors: str | None = "pt", **_: Any
    ) -> BatchFeature:
        """`input_ids` and `attention_mask` of sentences, `pixel_values` of images; either may be left out."""
        content: dict[str, Any] = {}
        if text is not None:
            sentences = [text] if isinstance(text, str) else list(text)
            content |= self.tokenizer(sentences, padding=True, truncation=True, return_tensors=return_tensors)
            content.pop("token_type_ids", None)
        if images is not None:
            content |= self.image_processor.preprocess(images, return_tensors=return_tensors)
        return BatchFeature(content)


def build_tokenizer(sentences: Sequence[str], maximum_tokens: int) -> PreTrainedTokenizerFast:
    """A lower-case word tokenizer whose vocabulary is the words of `sentences`; other words become [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    words = sorted({w for s in sentences for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(s))})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=maximum_tokens,
        padding_side="right",
    )
