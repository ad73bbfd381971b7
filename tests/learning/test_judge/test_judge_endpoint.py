"""The endpoint judge against a server that misbehaves on purpose."""

from __future__ import annotations

import time

import pytest

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.base import compare_all
from sealegs_learning.judge.budget import Budget, BudgetSpentError, Prices
from sealegs_learning.judge.client import RetryPolicy, retry_after_s
from sealegs_learning.judge.endpoint import EndpointConfig, EndpointJudge

TASK = "make it bright"
FAST = RetryPolicy(attempts=4, timeout_s=5.0, first_wait_s=0.01, maximum_wait_s=0.05)


def judge_of(server, **settings) -> EndpointJudge:
    return EndpointJudge(EndpointConfig(server.base_url, "tiny", **({"retry": FAST, "concurrency": 1} | settings)))


@pytest.fixture
def pair(frames):
    return (frames[2], frames[9])


def test_two_stages_with_images_then_a_soft_label(chat_server, pair):
    with judge_of(chat_server) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
        (swapped,) = compare_all(judge, TASK, [pair[::-1]])
    assert answer.probability_b_better == pytest.approx(0.8)
    assert swapped.probability_b_better == pytest.approx(0.2)
    first, second = chat_server.requests[:2]
    assert [part["type"] for part in first["messages"][0]["content"]] == ["text", "image_url"] * 2 + ["text"]
    assert "brightness" in second["messages"][0]["content"]
    assert second["top_logprobs"] == 5
    assert "logprobs" not in first
    assert (answer.provenance.queries, answer.provenance.prompt_tokens) == (2, 2000)
    assert "brightness" in answer.provenance.detail


@pytest.mark.parametrize("fault", ["status:500", "status:503", "garbage", "shape", "truncated", "retry-after:0"])
def test_passing_faults_are_retried(chat_server, pair, fault):
    chat_server.faults = [fault, fault]
    with judge_of(chat_server) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
        assert judge.budget.queries == 4, "every attempt counts"
    assert answer.probability_b_better == pytest.approx(0.8)


def test_retry_after_is_honoured(chat_server, pair):
    chat_server.faults = ["retry-after:0.7"]
    with judge_of(chat_server) as judge:
        compare_all(judge, TASK, [pair])
    assert chat_server.times[1] - chat_server.times[0] >= 0.7


def test_a_server_that_wants_too_long_a_rest_ends_the_run(chat_server, pair):
    chat_server.faults = ["retry-after:4000"]
    with judge_of(chat_server) as judge, pytest.raises(JudgeError, match="come back in 4000 s"):
        compare_all(judge, TASK, [pair])


def test_retry_after_headers():
    assert retry_after_s("2.5", 0.0) == 2.5
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 50.0) == 10.0
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 90.0) == 0.0
    assert retry_after_s("soon", 0.0) is None
    assert retry_after_s(None, 0.0) is None


def test_waits_double_up_to_their_limit():
    policy = RetryPolicy(first_wait_s=1.0, maximum_wait_s=6.0)
    assert [policy.wait_s(k, 0.5) for k in range(4)] == [1.0, 2.0, 4.0, 6.0]
    assert policy.wait_s(0, 0.0) == 0.75


@pytest.mark.parametrize("fault", ["slow:2", "drip:0.05", "drip-header:0.05"])
def test_a_total_deadline_ends_slow_answers(chat_server, pair, fault):
    chat_server.faults = [fault]
    policy = RetryPolicy(attempts=2, timeout_s=0.6, first_wait_s=0.01)
    started = time.monotonic()
    with judge_of(chat_server, retry=policy) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
    assert not answer.abstain
    assert time.monotonic() - started < 4.0
    assert len(chat_server.requests) == 3


def test_a_dead_server_is_an_error_and_answers_before_it_are_kept(chat_server, frames):
    pairs = [(frames[i], frames[i + 1]) for i in range(4)]
    chat_server.faults = ["", "", "", ""] + ["status:500"] * 4
    seen = []
    with judge_of(chat_server) as judge, pytest.raises(JudgeError, match=r"failed 4 times; last: HTTP 500"):
        seen.extend(position for position, _ in judge.compare_many(TASK, pairs))
    assert seen == [0, 1]
    assert len(chat_server.requests) == 8
    dead = EndpointConfig("http://127.0.0.1:9/v1", "tiny", retry=FAST)
    with EndpointJudge(dead) as judge, pytest.raises(JudgeError, match="failed 4 times"):
        compare_all(judge, TASK, pairs[:1])


def test_unreadable_answers_are_quarantined_one_by_one(chat_server, frames):
    pairs = [(frames[0], frames[1]), (frames[1], frames[2])]
    chat_server.faults = ["garbage"] * 4
    with judge_of(chat_server) as judge:
        answers = compare_all(judge, TASK, pairs)
    assert [a.status for a in answers] == ["malformed", "ok"]


@pytest.mark.parametrize(
    ("text", "status"), [("maybe the second", "malformed"), ("I'm sorry, I can't help.", "refusal"), ("-1", "tie")]
)
def test_malformed_refusal_and_tie_are_kept_apart(chat_server, pair, text, status):
    chat_server.answer, chat_server.logprobs = text, False
    with judge_of(chat_server) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
    assert (answer.status, answer.raw, answer.probability_b_better) == (status, text, 0.5)


def test_a_content_filter_is_a_refusal_and_a_bad_key_an_error(chat_server, pair):
    with judge_of(chat_server) as judge:
        chat_server.faults = ["refuses:content_filter"]
        assert compare_all(judge, TASK, [pair])[0].status == "refusal"
        chat_server.faults = ["status:401"]
        with pytest.raises(JudgeError, match="HTTP 401"):
            compare_all(judge, TASK, [pair])


def test_what_a_server_does_not_take_is_left_out(chat_server, pair):
    chat_server.faults = ["refuses:max_tokens", "refuses:temperature", "", "refuses:logprobs"]
    chat_server.logprobs = False
    with judge_of(chat_server) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
    assert answer.probability_b_better == 1.0
    last = chat_server.requests[-1]
    assert "max_completion_tokens" in last
    assert not {"max_tokens", "temperature", "logprobs", "top_logprobs"} & set(last)


def test_votes_replace_missing_probabilities(chat_server, pair):
    chat_server.logprobs = False
    with judge_of(chat_server, votes=3) as judge:
        (answer,) = compare_all(judge, TASK, [pair])
    assert answer.probability_b_better == 1.0
    assert answer.provenance.queries == 4
    assert [body["temperature"] for body in chat_server.requests] == [0.0, 0.0, 1.0, 1.0]


def test_concurrency_is_used_and_bounded(chat_server, frames):
    chat_server.delay_s = 0.1
    pairs = [(frames[i], frames[j]) for i in range(4) for j in range(4, 7)]
    with judge_of(chat_server, concurrency=4) as judge:
        answers = compare_all(judge, TASK, pairs)
    assert all(a.probability_b_better > 0.5 for a in answers)
    assert chat_server.most_running == 4


def test_a_budget_of_queries_is_never_exceeded(chat_server, frames):
    pairs = [(frames[i], frames[i + 1]) for i in range(8)]
    seen = []
    judge = judge_of(chat_server, maximum_queries=7, concurrency=3)
    with judge, pytest.raises(BudgetSpentError, match="7 queries is spent"):
        seen.extend(judge.compare_many(TASK, pairs))
    assert len(seen) >= 2
    assert len(chat_server.requests) == 7


def test_a_budget_of_money_is_reserved_before_it_is_spent(chat_server, frames):
    pairs = [(frames[i], frames[i + 1]) for i in range(8)]
    # Usage is 1000 + 10 tokens per request: 0.00102 USD. A question about two images reserves more than 0.003 USD.
    prices = Prices(prompt=1.0, completion=2.0)
    with judge_of(chat_server, maximum_cost_usd=0.008, prices=prices, concurrency=2) as judge:
        with pytest.raises(BudgetSpentError, match=r"0\.008 USD is spent"):
            compare_all(judge, TASK, pairs)
        assert judge.budget.cost_usd <= 0.008
        assert judge.budget.cost_usd == pytest.approx(0.00102 * len(chat_server.requests))


def test_the_budget_by_hand():
    budget = Budget(maximum_cost_usd=1.0)
    budget.reserve(0.6)
    with pytest.raises(BudgetSpentError):
        budget.reserve(0.6)
    budget.settle(0.6, 0.1)
    budget.reserve(0.9)
    assert Prices(prompt=2.0, completion=8.0).cost_usd(500_000, 250_000) == pytest.approx(3.0)


def test_the_key_comes_from_the_environment_and_stays_secret(chat_server, pair, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    with judge_of(chat_server, api_key_variable="MY_KEY") as judge:
        compare_all(judge, TASK, [pair])
        assert "secret" not in judge.identity
        assert "secret" not in repr(judge.config)
        chat_server.faults = ["status:401"]
        with pytest.raises(JudgeError) as error:
            compare_all(judge, TASK, [pair])
        assert "secret" not in str(error.value)
    assert chat_server.headers[0]["authorization"] == "Bearer sk-secret-123"
    with pytest.raises(JudgeError, match="unencrypted"):
        EndpointJudge(EndpointConfig("http://example.org/v1", "m", api_key_variable="MY_KEY"))


def test_png_frames_are_sent_as_png(chat_server, frames):
    import io

    from PIL import Image

    from sealegs_learning.judge.base import Frame

    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (250, 250, 250)).save(buffer, format="PNG")
    with judge_of(chat_server) as judge:
        (answer,) = compare_all(judge, TASK, [(frames[3], Frame(buffer.getvalue()))])
    assert answer.probability_b_better == pytest.approx(0.8)
    urls = [
        part["image_url"]["url"] for part in chat_server.requests[0]["messages"][0]["content"] if "image_url" in part
    ]
    assert [url.split(";")[0] for url in urls] == ["data:image/jpeg", "data:image/png"]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://user:pass@localhost/v1"])
def test_bad_urls(url):
    with pytest.raises(JudgeError, match="base URL"):
        EndpointJudge(EndpointConfig(url, "m"))


def test_bad_settings(chat_server):
    with pytest.raises(JudgeError, match="prices"):
        judge_of(chat_server, maximum_cost_usd=1.0)
    with pytest.raises(JudgeError, match="at least 1"):
        judge_of(chat_server, concurrency=0)
