"""The embedded judge: a small dual encoder trained in simulation. It knows a few tasks, and refuses all others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError, ObservationError
from sealegs_contract.pixels import decode_rgb
from sealegs_learning.judge.base import Frame, Pair, Preference, abstention
from sealegs_learning.judge.quiet import no_transformers_bars

BATCH = 256
CACHED_FRAMES = 200_000
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json")


def shipped_model() -> Path:
    """The folder of the model that comes with the package."""
    return Path(str(resources.files("sealegs_learning.judge"))) / "embedded_model"


class EmbeddedJudge:
    """Scores each frame once (kept by digest), then compares scores: P(B better) = sigmoid((s_b - s_a) / temperature).

    A sentence is matched to one of the trained tasks by the model's task head, and then scored as that task; a sentence
    of no trained task is refused with JudgeError. Where max(P, 1 - P) < minimum_confidence, the answer is a tie.
    """

    prompt_version = ""
    order_sensitive = False
    paid = False

    def __init__(self, folder: Path | str | None = None, minimum_confidence: float | None = None) -> None:
        path = Path(folder) if folder is not None else shipped_model()
        missing = [name for name in _FILES if not (path / name).is_file()]
        if missing:
            raise JudgeError(f"{path} holds no embedded judge (no {', '.join(missing)}); make one: sealegs judge train")
        self._torch, self._model, self._processor = _load(path)
        config = self._model.config
        self.minimum_confidence = config.minimum_confidence if minimum_confidence is None else minimum_confidence
        if not 0.5 <= self.minimum_confidence < 1.0:
            raise JudgeError(f"minimum_confidence must lie in [0.5, 1), got {self.minimum_confidence}")
        digest = hashlib.sha256(b"".join(hashlib.sha256((path / name).read_bytes()).digest() for name in _FILES))
        self.identity = f"embedded:{digest.hexdigest()[:16]}:{self.minimum_confidence:g}"
        self.supported_tasks: tuple[str, ...] | None = tuple(config.tasks)
        with self._torch.inference_mode():
            self._task_embeds = self._model.get_text_features(**self._processor(text=list(config.tasks)))[0]
        self._embeds: dict[str, NDArray[np.float32]] = {}

    def recognise(self, task_text: str) -> tuple[int | None, float]:
        """Index of the trained task that a sentence means, or None; and the probability of the likeliest task."""
        with self._torch.inference_mode():
            _, logits = self._model.get_text_features(**self._processor(text=[task_text]))
        probability = logits.softmax(-1)[0, :-1]
        best = int(probability.argmax())
        share = float(probability[best])
        return (best if share >= self._model.config.minimum_task_probability else None), share

    def supports(self, task_text: str) -> bool:
        """Whether the sentence is recognised as one of the trained tasks."""
        return self.recognise(task_text)[0] is not None

    def scores(self, task_text: str, frames: Sequence[Frame]) -> NDArray[np.float64]:
        """Progress estimates (n,), about [0, 1]; only their differences are calibrated."""
        task, share = self.recognise(task_text)
        if task is None:
            listed = "; ".join(self.supported_tasks or ())
            raise JudgeError(
                f"the embedded judge does not know the task {task_text!r} (best match {share:.2f}); it knows: {listed}"
            )
        self._encode(frames)
        images = self._torch.from_numpy(np.stack([self._embeds[frame.digest] for frame in frames]))
        with self._torch.inference_mode():
            return np.asarray(self._model.score(images, self._task_embeds[task : task + 1])[:, 0], dtype=np.float64)

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        """Answers in order."""
        if not pairs:
            return
        first = self.scores(task_text, [a for a, _ in pairs])
        second = self.scores(task_text, [b for _, b in pairs])
        for position, (a, b) in enumerate(zip(first, second, strict=True)):
            yield position, self._preference(float(a), float(b))

    def _preference(self, a: float, b: float) -> Preference:
        p = probability_b_better(a, b, self._model.config.score_temperature)
        raw = f"{a:.4f} {b:.4f}"
        # An exact tie says nothing even to a judge that must decide.
        if max(p, 1.0 - p) < self.minimum_confidence or a == b:
            return abstention("tie", raw)
        return Preference(p, raw=raw)

    def _encode(self, frames: Sequence[Frame]) -> None:
        new = list({f.digest: f for f in frames if f.digest not in self._embeds}.values())
        if len(self._embeds) + len(new) > CACHED_FRAMES:
            self._embeds.clear()
            new = list({f.digest: f for f in frames}.values())
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            try:
                images = [decode_rgb(frame.jpeg) for frame in part]
            except ObservationError as error:
                rows = f"rows {part[0].index} to {part[-1].index}"
                raise JudgeError(f"a frame among {rows} is not a readable image: {error}") from error
            with self._torch.inference_mode():
                embeds = self._model.get_image_features(self._processor(images=images)["pixel_values"]).numpy()
            self._embeds.update(zip((frame.digest for frame in part), embeds, strict=True))


def probability_b_better(a: float, b: float, temperature: float) -> float:
    """sigmoid((b - a) / temperature), without overflow."""
    return float(0.5 * (1.0 + np.tanh(0.5 * (b - a) / temperature)))


def _load(path: Path):  # type: ignore[no-untyped-def]
    """(torch, model, processor) through transformers' Auto classes."""
    try:
        import torch
        from transformers import AutoModel, AutoProcessor

        import sealegs_learning.judge.embedded  # noqa: F401 - registers the model with the Auto classes
    except ImportError as error:
        raise JudgeError(
            f"the embedded judge needs torch and transformers: pip install 'sealegs[learning]' ({error})"
        ) from error
    try:
        with no_transformers_bars():
            model = AutoModel.from_pretrained(path, trust_remote_code=False, use_safetensors=True)
        return torch, model.eval(), AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise JudgeError(f"{path}: the embedded judge does not load: {str(error).splitlines()[0]}") from error
