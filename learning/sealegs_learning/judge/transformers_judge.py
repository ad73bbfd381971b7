"""Any image-text-to-text model of the Hugging Face hub, or of a local folder, as a judge.

Loaded through AutoProcessor and AutoModelForImageTextToText only, never with remote code. Two questions a pair:
describe and compare, then 0 / 1 / -1, whose token probabilities give a soft label.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealegs_contract.errors import JudgeError, ObservationError
from sealegs_contract.pixels import decode_rgb
from sealegs_contract.robot import canonical_json
from sealegs_learning.judge.base import Frame, Pair, Preference, Provenance
from sealegs_learning.judge.prompts import PROMPT_VERSION, parse_verdict, stage_one, stage_two
from sealegs_learning.judge.quiet import no_transformers_bars
from sealegs_learning.judge.soft import hard_preference, soft_preference

ANSWER_TEXTS = ("0", "1", "-", "-1", " 0", " 1", " -", " -1")


@dataclass(frozen=True)
class TransformersConfig:
    """Which model, and how it is asked.

    model:           hub id or local folder
    revision:        branch, tag or commit on the hub; pin a commit for labels that can be reproduced
    device, dtype:   where and in what precision it runs ("auto" takes the checkpoint's own precision)
    prose_tokens:    longest stage-one comparison
    answer_tokens:   longest stage-two answer, where it has to be read as text
    """

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    prose_tokens: int = 160
    answer_tokens: int = 8


class TransformersJudge:
    """Asks the model about one pair at a time, greedily, so that equal questions get equal answers."""

    prompt_version = PROMPT_VERSION
    order_sensitive = True
    paid = True
    supported_tasks: tuple[str, ...] | None = None

    def __init__(self, config: TransformersConfig) -> None:
        self.config = config
        self._processor, self._model = _load(config)
        self._answer_ids = _answer_ids(self._processor.tokenizer)
        content = {
            "model": _model_mark(config, self._model),
            "prose_tokens": config.prose_tokens,
            "answer_tokens": config.answer_tokens,
            "dtype": str(self._model.dtype),
        }
        self.identity = f"transformers:{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]}"

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        """Answer pair by pair."""
        for position, pair in enumerate(pairs):
            yield position, self._compare(task_text, pair)

    def _compare(self, task_text: str, pair: Pair) -> Preference:
        started = time.perf_counter()
        first = self._inputs(stage_one(task_text), pair)
        prose, used = self._generate(first, self.config.prose_tokens)
        second = self._inputs(stage_two(task_text, prose), ())
        tokens = first["input_ids"].shape[1] + second["input_ids"].shape[1]
        mass = self._answer_mass(second)

        def provenance(completion: int) -> Provenance:
            return Provenance(time.perf_counter() - started, tokens, completion, 2, 0.0, prose)

        raw = " ".join(f"P({text.strip()})={p:.4f}" for text, p in mass.items() if p >= 1e-4)
        soft = soft_preference(mass, raw, provenance(used + 1))
        if soft is not None:
            return soft
        answer, more = self._generate(second, self.config.answer_tokens)
        return hard_preference(parse_verdict(answer), answer, provenance(used + more))

    def _inputs(self, text: str, frames: Sequence[Frame]) -> Any:
        """Model inputs of one user message: the images in order, then the text."""
        content: list[dict[str, Any]] = []
        for i, frame in enumerate(frames):
            content += [{"type": "text", "text": f"Image {i}:"}, {"type": "image", "image": _decode(frame)}]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        if getattr(self._processor, "chat_template", None) is None:
            raise JudgeError(
                f"model {self.config.model} has no chat template, so it cannot be asked two-image questions"
            )
        inputs = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        return inputs

    def _generate(self, inputs: Any, maximum: int) -> tuple[str, int]:
        """Greedy continuation as text, and its length in tokens."""
        import torch

        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=maximum, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        return self._processor.tokenizer.decode(new, skip_special_tokens=True).strip(), len(new)

    def _answer_mass(self, inputs: Any) -> dict[str, float]:
        """Probabilities of the answer texts as the next token, where they are single tokens."""
        import torch

        with torch.inference_mode():
            logits = self._model(**inputs).logits[0, -1].float()
        probabilities = torch.softmax(logits, dim=-1)
        return {text: float(probabilities[i]) for text, i in self._answer_ids.items()}


def _load(config: TransformersConfig) -> tuple[Any, Any]:
    """Processor and model, or one sentence about what is missing."""
    try:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise JudgeError(
            f"judge transformers needs torch and transformers: pip install 'sealegs[learning]' ({error})"
        ) from error
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise JudgeError(f"device {config.device} was asked for, but torch sees no CUDA device; use --device cpu")
    try:
        processor = AutoProcessor.from_pretrained(config.model, revision=config.revision, trust_remote_code=False)
        with no_transformers_bars():
            model = AutoModelForImageTextToText.from_pretrained(
                config.model,
                revision=config.revision,
                trust_remote_code=False,
                dtype=config.dtype,
                use_safetensors=True,
            )
    except ImportError as error:
        if "torchvision" in str(error).lower():
            raise JudgeError(
                f"model {config.model}: its processor needs torchvision; install the build that fits your torch "
                "(pip install torchvision), or choose a model without a video processor "
                "(Idefics3, LLaVA, Gemma3, PaliGemma)"
            ) from error
        raise JudgeError(f"model {config.model}: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise JudgeError(
            f"model {config.model} does not load as an image-text-to-text model: {_first_line(error)}; "
            "give a hub id or a folder with config, processor and safetensors weights"
        ) from error
    if not hasattr(processor, "tokenizer"):
        raise JudgeError(f"model {config.model}: {type(processor).__name__} is no processor of images and text")
    return processor, model.to(config.device).eval()


def _answer_ids(tokenizer: Any) -> dict[str, int]:
    """Those answer texts that are a single token of this tokenizer, each token once."""
    found: dict[str, int] = {}
    for text in ANSWER_TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id and ids[0] not in found.values():
            found[text] = ids[0]
    return found


def _model_mark(config: TransformersConfig, model: Any) -> str:
    """Which weights these are: the hub commit, or for a folder a digest of its configuration and weight files."""
    folder = Path(config.model)
    if not folder.is_dir():
        return f"{config.model}@{getattr(model.config, '_commit_hash', None) or config.revision or 'unknown'}"
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".jinja", ".model"}):
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _decode(frame: Frame) -> Any:
    try:
        return decode_rgb(frame.jpeg)
    except ObservationError as error:
        raise JudgeError(
            f"frame {frame.index if frame.index is not None else frame.digest[:12]}: not an image"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
