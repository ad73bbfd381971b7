"""Frames whose progress shows in their brightness, and the server that really looks at them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sealegs.faults.tools.chat_server import ChatServer, serving
from sealegs_learning.judge.base import Frame


def bright_frame(level: int, index: int | None = None) -> Frame:
    """A 160x120 JPEG of brightness `level` in 0..255 with a little texture."""
    texture = np.random.default_rng(level).integers(-3, 4, (120, 160, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(level + texture, 0, 255).astype(np.uint8)).save(buffer, format="JPEG")
    return Frame(buffer.getvalue(), index)


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Twelve frames; frame i has brightness 20 i and row i."""
    return [bright_frame(20 * i, i) for i in range(12)]


@dataclass
class BrightDataset:
    """Two episodes of six rows in memory with the attributes of a dataset; task and truth are not simulated ones."""

    path: Path
    frames: list[Frame]
    task_text: str = "make it bright"
    state: np.ndarray = field(default_factory=lambda: np.zeros((12, 1), dtype=np.float32))
    observation_spec: Any = None

    @dataclass(frozen=True)
    class Row:
        start: int
        length: int
        task_text: str
        task: str = "brighten"

    @property
    def episodes(self) -> list[Row]:
        return [self.Row(0, 6, self.task_text), self.Row(6, 6, self.task_text)]

    @property
    def fingerprint(self) -> str:
        return "f" * 64

    def images(self, camera: str, indices: Any) -> list[bytes]:
        assert camera == "front"
        return [self.frames[int(i)].jpeg for i in indices]


@pytest.fixture
def bright_dataset(tmp_path: Path, frames: list[Frame]) -> BrightDataset:
    return BrightDataset(tmp_path / "data", frames)


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A running server on a free port of this host."""
    with serving(ChatServer()) as chat:
        yield chat


WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<image>",
    "USER:",
    "ASSISTANT:",
    "0",
    "1",
    "-",
    "-1",
    "same",
    "better",
    "worse",
]
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )


def save_llava(folder: Path) -> Path:
    """A randomly initialised LLaVA of 40 thousand parameters, as a local folder in Hugging Face format."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.3,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=WORDS.index("<image>"))
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        word_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava"))
