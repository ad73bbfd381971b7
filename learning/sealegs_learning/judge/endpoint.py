"""Any OpenAI-compatible chat server (vLLM, Gemini, OpenAI, `transformers serve`) as a judge.

Soft labels from top_logprobs where the server gives them; else votes. A request that the server answered with
something unreadable is quarantined as malformed; a server that does not answer ends the run with an error.
"""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from sealegs_contract.errors import JudgeError
from sealegs_contract.robot import canonical_json
from sealegs_learning.judge.base import Pair, Preference, Provenance, abstention
from sealegs_learning.judge.budget import Budget, Prices
from sealegs_learning.judge.client import ChatClient, RejectedRequestError, RetryPolicy, UnreadableResponseError
from sealegs_learning.judge.prompts import PROMPT_VERSION, clean, parse_verdict, stage_one, stage_two
from sealegs_learning.judge.soft import hard_preference, soft_preference, vote

# A guess of an image's prompt tokens, used only to reserve money before the first answer tells.
TOKENS_PER_IMAGE = 1500
# Parts of a request that some servers refuse (HTTP 400 or 422 naming them).
_OPTIONAL = ("logprobs", "top_logprobs", "temperature", "max_tokens", "structured_outputs")


@dataclass(frozen=True)
class EndpointConfig:
    """Where the server is and how it is asked.

    votes: answers sampled per question when the server gives no logprobs (1 asks once, at temperature 0)
    answer_choices: pass vLLM's structured_outputs so that the answer can only be 0, 1 or -1
    """

    base_url: str
    model: str
    api_key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    votes: int = 1
    logprobs: bool = True
    answer_choices: bool = False
    prose_tokens: int = 300
    answer_tokens: int = 16
    maximum_queries: int | None = None
    maximum_cost_usd: float | None = None
    prices: Prices = field(default_factory=Prices)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    allow_plain_http: bool = False


class EndpointJudge:
    """Keeps up to `concurrency` questions in flight and yields answers as they come; a context manager.

    After an error no new question starts, and those in flight are still yielded before it is raised.
    """

    prompt_version = PROMPT_VERSION
    order_sensitive = True
    paid = True
    supported_tasks: tuple[str, ...] | None = None

    def __init__(self, config: EndpointConfig) -> None:
        if not config.model:
            raise JudgeError("the endpoint judge needs the name of a model: --model")
        if config.concurrency < 1 or config.votes < 1:
            raise JudgeError(f"concurrency and votes must be at least 1, got {config.concurrency} and {config.votes}")
        if config.maximum_cost_usd is not None and config.prices == Prices():
            raise JudgeError(
                "--max-cost needs prices: --price-prompt and --price-completion, in USD per million tokens"
            )
        self.config = config
        self.budget = Budget(config.maximum_queries, config.maximum_cost_usd)
        self._client = ChatClient(
            config.base_url,
            config.retry,
            self.budget,
            config.api_key_variable,
            config.allow_plain_http,
        )
        self._soft = config.logprobs
        self._refused: set[str] = set()
        content = {
            "base_url": config.base_url.rstrip("/"),
            "model": config.model,
            "votes": config.votes,
            "logprobs": config.logprobs,
            "answer_choices": config.answer_choices,
            "tokens": [config.prose_tokens, config.answer_tokens],
        }
        mark = hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
        self.identity = f"endpoint:{config.model}:{mark}"

    def __enter__(self) -> EndpointJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        """Answers as they arrive."""
        waiting = iter(enumerate(pairs))
        running: dict[Future[Preference], int] = {}
        failure: Exception | None = None
        pool = ThreadPoolExecutor(self.config.concurrency, thread_name_prefix="judge")
        try:
            while True:
                while failure is None and len(running) < self.config.concurrency:
                    position, pair = next(waiting, (-1, None))
                    if pair is None:
                        break
                    running[pool.submit(self._compare, task_text, pair)] = position
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    position = running.pop(future)
                    error = future.exception()
                    if error is None:
                        yield position, future.result()
                    elif not isinstance(error, Exception):
                        raise error
                    elif failure is None:
                        failure = error
            if failure is not None:
                raise failure
        finally:
            if running:
                self._client.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._client.stop.clear()

    def _compare(self, task_text: str, pair: Pair) -> Preference:
        """Both stages for one pair."""
        meter = _Meter(self.config.prices)
        prose = ""
        try:
            prose = _text(self._ask(meter, _image_message(stage_one(task_text), pair), self.config.prose_tokens))
            question = [{"role": "user", "content": stage_two(task_text, prose)}]
            answers: list[Preference] = []
            while len(answers) < self._votes_wanted():
                answers.append(self._answer(meter, question, prose))
            return answers[0] if len(answers) == 1 else vote(answers, meter.provenance(prose))
        except UnreadableResponseError as error:
            return abstention("malformed", clean(str(error), 500), meter.provenance(prose))
        except RejectedRequestError as error:
            if error.status == 400 and any(
                word in error.body.lower() for word in ("content_filter", "content policy", "safety")
            ):
                return abstention("refusal", clean(str(error), 500), meter.provenance(prose))
            raise

    def _votes_wanted(self) -> int:
        return 1 if self._soft_wanted() else self.config.votes

    def _soft_wanted(self) -> bool:
        return self._soft and not self._refused & {"logprobs", "top_logprobs"}

    def _answer(self, meter: _Meter, question: list[dict[str, Any]], prose: str) -> Preference:
        completion = self._ask(meter, question, self.config.answer_tokens, answer=True)
        text, provenance = _text(completion), meter.provenance(prose)
        mass = _first_token_mass(completion)
        if mass is None:
            self._soft = False
        soft = soft_preference(mass, text, provenance) if mass else None
        return soft or hard_preference(parse_verdict(text), text, provenance)

    def _ask(self, meter: _Meter, messages: list[dict[str, Any]], maximum: int, answer: bool = False) -> dict[str, Any]:
        """One request. What this server refuses to take is left out from then on, and the request is repeated."""
        estimate = self.config.prices.cost_usd(_prompt_estimate(messages), maximum)
        while True:
            refused = frozenset(self._refused)
            body = self._body(messages, maximum, answer, refused)
            try:
                completion = self._client.post(body, estimate)
            except RejectedRequestError as error:
                new = {name for name in _OPTIONAL if name in body and name in error.body}
                if error.status not in {400, 422} or not new:
                    raise
                self._refused |= new
                continue
            self.budget.settle(estimate, meter.add(completion))
            return completion

    def _body(
        self, messages: list[dict[str, Any]], maximum: int, answer: bool, refused: frozenset[str]
    ) -> dict[str, Any]:
        """The request; newer OpenAI models take max_completion_tokens instead of max_tokens, and no temperature."""
        votes = answer and self._votes_wanted() > 1
        limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
        body: dict[str, Any] = {"model": self.config.model, "messages": messages, limit: maximum}
        body["temperature"] = 1.0 if votes else 0.0
        if answer and self.config.answer_choices:
            body["structured_outputs"] = {"choice": ["0", "1", "-1"]}
        if answer and self._soft_wanted():
            body |= {"logprobs": True, "top_logprobs": 5}
        return {name: value for name, value in body.items() if name not in refused}


class _Meter:
    """What one pair took; used by one thread."""

    def __init__(self, prices: Prices) -> None:
        self._prices, self._started = prices, time.perf_counter()
        self._prompt = self._completion = self._queries = 0

    def add(self, completion: dict[str, Any]) -> float:
        """Count one completion's usage; returns its cost in USD."""
        usage = completion.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        prompt, done = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        self._prompt, self._completion, self._queries = (
            self._prompt + prompt,
            self._completion + done,
            self._queries + 1,
        )
        return self._prices.cost_usd(prompt, done)

    def provenance(self, prose: str) -> Provenance:
        cost = self._prices.cost_usd(self._prompt, self._completion)
        return Provenance(
            time.perf_counter() - self._started, self._prompt, self._completion, self._queries, cost, prose
        )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _prompt_estimate(messages: list[dict[str, Any]]) -> int:
    """Upper guess of prompt tokens: a token per two characters, and a fixed amount per image."""
    parts = [
        part
        for m in messages
        for part in (m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}])
    ]
    return sum(TOKENS_PER_IMAGE if "image_url" in part else len(part["text"]) // 2 for part in parts) + 50


def _image_message(text: str, pair: Pair) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for i, frame in enumerate(pair):
        kind = "png" if frame.jpeg.startswith(b"\x89PNG") else "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(frame.jpeg).decode()}"
        content += [{"type": "text", "text": f"Image {i}:"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def _text(completion: dict[str, Any]) -> str:
    """The message's text; a server that returns none answers with an empty one."""
    message = completion["choices"][0]["message"]
    content = message.get("content") or message.get("refusal") or ""
    return content if isinstance(content, str) else ""


def _first_token_mass(completion: dict[str, Any]) -> dict[str, float] | None:
    """Probabilities of the first answer token's alternatives; None when the server gives no logprobs."""
    logprobs = completion["choices"][0].get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return None
    mass: dict[str, float] = {}
    for entry in content[0].get("top_logprobs") or [content[0]]:
        if not isinstance(entry, dict):
            continue
        token, logprob = entry.get("token"), entry.get("logprob")
        if isinstance(token, str) and isinstance(logprob, int | float) and logprob <= 1e-6:
            mass[token] = mass.get(token, 0.0) + math.exp(min(0.0, logprob))
    return mass
