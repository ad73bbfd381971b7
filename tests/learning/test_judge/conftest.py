"""Frames whose progress shows in their brightness, and a chat server that really looks at them."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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


@dataclass
class ChatServer:
    """An OpenAI-compatible server. `faults` are spent first, one per request; then it answers by brightness.

    Stage one: prose that states both brightnesses. Stage two: the verdict read from the prose it is given.
    """

    faults: list[str] = field(default_factory=list)
    logprobs: bool = True
    answer: str | None = None
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    base_url: str = ""

    def verdict(self, text: str) -> str:
        found = re.findall(r"brightness (\d+)", text)
        if self.answer is not None:
            return self.answer
        a, b = int(found[0]), int(found[1])
        return "-1" if a == b else ("1" if b > a else "0")

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        content = body["messages"][0]["content"]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if isinstance(content, list):
            levels = [brightness(part) for part in content if part["type"] == "image_url"]
            text = f"Image 0 has brightness {levels[0]}. Image 1 has brightness {levels[1]}."
        else:
            text = self.verdict(content)
            if body.get("logprobs") and self.logprobs:
                other = "1" if text == "0" else "0"
                top = [
                    {"token": text[0], "logprob": float(np.log(0.8))},
                    {"token": other, "logprob": float(np.log(0.2))},
                ]
                choice["logprobs"] = {
                    "content": [{"token": text[0], "logprob": top[0]["logprob"], "top_logprobs": top}]
                }
        choice["message"] = {"role": "assistant", "content": text}
        return {"choices": [choice], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}}


def brightness(part: dict[str, Any]) -> int:
    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
    return round(float(np.asarray(Image.open(io.BytesIO(data))).mean()))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def chat(self) -> ChatServer:
        return self.server.chat  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        chat = self.chat
        with chat.lock:
            chat.requests.append(body)
            chat.headers.append({name.lower(): value for name, value in self.headers.items()})
            chat.times.append(time.monotonic())
            chat.running += 1
            chat.most_running = max(chat.most_running, chat.running)
            fault = chat.faults.pop(0) if chat.faults else ""
        try:
            time.sleep(chat.delay_s)
            self.respond(fault, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with chat.lock:
                chat.running -= 1

    def respond(self, fault: str, body: dict[str, Any]) -> None:
        kind, _, argument = fault.partition(":")
        match kind:
            case "":
                self.send(200, json.dumps(self.chat.completion(body)).encode())
            case "status":
                self.send(int(argument), b'{"error": {"message": "no luck"}}')
            case "retry-after":
                self.send(429, b"{}", {"Retry-After": argument})
            case "garbage":
                self.send(200, b"<html>gateway</html>")
            case "shape":
                self.send(200, b'{"choices": []}')
            case "refuses":
                message = f"unsupported parameter: {argument}".encode()
                self.send(400, b'{"error": {"message": "' + message + b'"}}')
            case "truncated":
                whole = json.dumps(self.chat.completion(body)).encode()
                self.send(200, whole[: len(whole) // 2], length=len(whole))
                self.close_connection = True
            case "slow":
                time.sleep(float(argument))
                self.send(200, json.dumps(self.chat.completion(body)).encode())
            case "drip":
                whole = json.dumps(self.chat.completion(body)).encode()
                self.send(200, b"", length=len(whole))
                for byte in whole:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(float(argument))
                self.close_connection = True

    def send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A running server on a free port of this host."""
    chat = ChatServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.chat = chat  # type: ignore[attr-defined]
    chat.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield chat
    server.shutdown()
    server.server_close()
    thread.join()


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
