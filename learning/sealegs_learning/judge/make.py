"""`make_judge`: a judge by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sealegs_contract.errors import JudgeError, available
from sealegs_learning.judge.base import Judge
from sealegs_learning.judge.truth import StateDataset, true_progress

JudgeKind = Literal["embedded", "transformers", "endpoint", "oracle"]
KINDS: tuple[JudgeKind, ...] = ("embedded", "transformers", "endpoint", "oracle")


@dataclass(frozen=True)
class JudgeOptions:
    """Settings of all kinds; each kind reads its own."""

    model: str | None = None
    """embedded: folder of another trained model; transformers: hub id or folder; endpoint: model name."""
    revision: str | None = None
    """transformers: branch, tag or commit of the model on the hub."""
    device: str = "cpu"
    """transformers: where the model runs, for example cuda:0."""
    base_url: str | None = None
    """endpoint: base URL of an OpenAI-compatible server, for example http://localhost:8000/v1."""
    api_key_variable: str = "OPENAI_API_KEY"
    """endpoint: environment variable that holds the API key."""
    concurrency: int = 8
    """endpoint: questions in flight at once."""
    votes: int = 1
    """endpoint: answers sampled per question where the server gives no token probabilities."""
    max_queries: int | None = None
    """endpoint: most requests of this run; it stops before sending more."""
    max_cost: float | None = None
    """endpoint: most USD of this run; needs the prices."""
    price_prompt: float = 0.0
    """endpoint: USD per million prompt tokens."""
    price_completion: float = 0.0
    """endpoint: USD per million completion tokens."""
    timeout: float = 60.0
    """endpoint: seconds for one whole answer."""
    attempts: int = 6
    """endpoint: tries per request before the run stops."""
    answer_choices: bool = False
    """endpoint: tell vLLM that only 0, 1 and -1 are answers (structured_outputs)."""
    allow_plain_http: bool = False
    """endpoint: send the API key over http:// to another machine."""
    minimum_confidence: float | None = None
    """embedded: abstain below this confidence; the model's own value unless given."""
    error_curve: str = "perfect"
    """oracle: how it errs: perfect, coin, or the curves of vision-language models: vlm_drawer, vlm_soccer, ..."""
    judge_seed: int = 0
    """oracle: seeds its errors."""


def make_judge(kind: str, options: JudgeOptions | None = None, dataset: StateDataset | None = None) -> Judge:
    """The judge of a kind. `oracle` needs the dataset that it will judge; raises JudgeError otherwise."""
    options = options or JudgeOptions()
    match kind:
        case "embedded":
            from sealegs_learning.judge.embedded_judge import EmbeddedJudge

            return EmbeddedJudge(options.model, options.minimum_confidence)
        case "transformers":
            return _transformers(options)
        case "endpoint":
            return _endpoint(options)
        case "oracle":
            return _oracle(options, dataset)
    raise JudgeError(f"unknown judge {kind!r}; {available(KINDS)}")


def _transformers(options: JudgeOptions) -> Judge:
    from sealegs_learning.judge.transformers_judge import TransformersConfig, TransformersJudge

    if not options.model:
        raise JudgeError("judge transformers needs --model: a hub id such as Qwen/Qwen3-VL-4B-Instruct, or a folder")
    return TransformersJudge(TransformersConfig(options.model, options.revision, options.device))


def _endpoint(options: JudgeOptions) -> Judge:
    from sealegs_learning.judge.budget import Prices
    from sealegs_learning.judge.client import RetryPolicy
    from sealegs_learning.judge.endpoint import EndpointConfig, EndpointJudge

    if not options.base_url or not options.model:
        raise JudgeError("judge endpoint needs --base-url (for example http://localhost:8000/v1) and --model")
    return EndpointJudge(
        EndpointConfig(
            options.base_url,
            options.model,
            options.api_key_variable,
            options.concurrency,
            options.votes,
            answer_choices=options.answer_choices,
            maximum_queries=options.max_queries,
            maximum_cost_usd=options.max_cost,
            prices=Prices(options.price_prompt, options.price_completion),
            retry=RetryPolicy(options.attempts, options.timeout),
            allow_plain_http=options.allow_plain_http,
        )
    )


def _oracle(options: JudgeOptions, dataset: StateDataset | None) -> Judge:
    from sealegs_learning.judge.oracle import OracleJudge, find_curve

    if dataset is None:
        raise JudgeError("judge oracle needs a dataset, whose true progress it tells")
    curve = find_curve(options.error_curve)
    progress = true_progress(dataset)
    if progress is None:
        tasks = sorted({episode.task for episode in dataset.episodes})
        raise JudgeError(
            f"the oracle knows no true progress of task(s) {', '.join(tasks)}: only simulated tasks have it"
        )
    texts = tuple(dict.fromkeys(episode.task_text for episode in dataset.episodes))
    return OracleJudge(progress, texts, curve, options.judge_seed)
