"""One HTTP client for OpenAI-compatible chat servers: total deadlines, retries with backoff and Retry-After.

The client library's own retries are off: every attempt is counted against the budget here. The API key comes from an
environment variable, goes into one header, and appears in no error, ledger or file.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.budget import Budget

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAXIMUM_RESPONSE_BYTES = 4 * 1024 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts in all, and waits: `first_wait_s` doubling up to `maximum_wait_s`, with jitter of +-25%.

    Retry-After is honoured up to `maximum_retry_after_s`; a server that asks for more ends the run.
    """

    attempts: int = 6
    timeout_s: float = 60.0
    first_wait_s: float = 1.0
    maximum_wait_s: float = 30.0
    maximum_retry_after_s: float = 300.0

    def wait_s(self, attempt: int, jitter: float) -> float:
        """Wait after failed attempt number `attempt` (from 0); `jitter` in [0, 1)."""
        return min(self.first_wait_s * 2.0**attempt, self.maximum_wait_s) * (0.75 + 0.5 * jitter)


class RejectedRequestError(JudgeError):
    """The server refused the request itself (4xx): asking again would not help. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, message


class UnreadableResponseError(JudgeError):
    """The server answered 200, but after all attempts with something that is no chat completion."""


class _RetryError(Exception):
    """This attempt failed in a way that may pass; `after_s` is the server's wish, if any."""

    def __init__(self, reason: str, after_s: float | None = None, unreadable: bool = False) -> None:
        super().__init__(reason)
        self.after_s, self.unreadable = after_s, unreadable


@dataclass
class ChatClient:
    """Posts JSON to `base_url`/chat/completions. Thread-safe; `stop` ends waits and further attempts early."""

    base_url: str
    policy: RetryPolicy
    budget: Budget
    api_key_variable: str = "OPENAI_API_KEY"
    allow_plain_http: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.password:
            raise JudgeError(f"the endpoint needs a base URL such as http://localhost:8000/v1, got {self.base_url!r}")
        key = os.environ.get(self.api_key_variable, "").strip()
        if key and url.scheme == "http" and url.hostname not in LOOPBACK and not self.allow_plain_http:
            raise JudgeError(
                f"refusing to send the key of ${self.api_key_variable} unencrypted to {url.hostname}: use https, unset "
                "the variable, or pass --allow-plain-http"
            )
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Without TLS there is nobody to verify, and the authorities take long to load: an empty context trusts no one.
        secure = url.scheme == "https"
        self._verify = httpx.create_ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._idle: list[httpx.Client] = []
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._url = f"{self.base_url.rstrip('/')}/chat/completions"
        self._random = random.Random(0)

    def close(self) -> None:
        """End waits, then close every connection."""
        self.stop.set()
        while self._idle:
            self._idle.pop().close()

    def post(self, body: dict[str, Any], estimate_usd: float) -> dict[str, Any]:
        """The decoded completion. `estimate_usd` is reserved for every attempt; the caller settles the cost of success.

        Raises BudgetSpentError, RejectedRequestError, UnreadableResponseError, or JudgeError after the last attempt.
        """
        for attempt in range(self.policy.attempts):
            self._rest()
            if self.stop.is_set():
                raise JudgeError("the run was stopped")
            self.budget.reserve(estimate_usd)
            try:
                return self._attempt(body)
            except _RetryError as failure:
                self.budget.settle(estimate_usd, 0.0)
                last = failure
            except BaseException:
                self.budget.settle(estimate_usd, 0.0)
                raise
            pause_s = self._pause(last, attempt)
            if attempt + 1 < self.policy.attempts:
                self.stop.wait(pause_s)
        message = f"endpoint {self.base_url} failed {self.policy.attempts} times; last: {last}"
        raise UnreadableResponseError(message) if last.unreadable else JudgeError(message)

    def _rest(self) -> None:
        """Wait while the server wants to be left alone, whichever request it said that to."""
        while (left := self._not_before - time.monotonic()) > 0 and not self.stop.wait(left):
            pass

    def _pause(self, failure: _RetryError, attempt: int) -> float:
        """Seconds until this request's next attempt, beside the rest that the server asked for."""
        if failure.after_s is None:
            return self.policy.wait_s(attempt, self._random.random())
        if failure.after_s > self.policy.maximum_retry_after_s:
            raise JudgeError(
                f"endpoint {self.base_url} asks to come back in {failure.after_s:.0f} s ({failure}); run again then"
            )
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + failure.after_s)
        return 0.0

    @contextmanager
    def _connection(self) -> Iterator[httpx.Client]:
        """A connection of its own for one attempt, closed when the time for that is over.

        A server that drips its headers byte by byte never trips a read timeout; a closed connection ends that.
        """
        with self._lock:
            http = self._idle.pop() if self._idle else self._connect()
        timer = threading.Timer(self.policy.timeout_s, http.close)
        timer.daemon = True
        timer.start()
        try:
            yield http
        finally:
            timer.cancel()
            timer.join()
            with self._lock:
                if not http.is_closed:
                    self._idle.append(http)

    def _connect(self) -> httpx.Client:
        timeout = httpx.Timeout(self.policy.timeout_s, connect=min(10.0, self.policy.timeout_s))
        return httpx.Client(timeout=timeout, headers=self._headers, verify=self._verify)

    def _attempt(self, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self.policy.timeout_s
        try:
            with self._connection() as http, http.stream("POST", self._url, json=body) as response:
                content = self._read(response, deadline)
        except httpx.TimeoutException as error:
            raise _RetryError(f"no answer within {self.policy.timeout_s:g} s ({type(error).__name__})") from error
        except httpx.TransportError as error:
            if time.monotonic() >= deadline:
                raise _RetryError(f"no whole answer within {self.policy.timeout_s:g} s") from error
            raise _RetryError(f"{type(error).__name__}: {error}") from error
        if response.status_code in RETRIED_STATUS:
            raise _RetryError(
                f"HTTP {response.status_code}", retry_after_s(response.headers.get("retry-after"), time.time())
            )
        if response.status_code != 200:
            text = " ".join(content[:500].decode("utf-8", "replace").split())
            raise RejectedRequestError(
                response.status_code, f"endpoint {self.base_url}: HTTP {response.status_code}: {text}"
            )
        return decode_completion(content)

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        """The body, within the total deadline: a server that drips byte by byte never trips a read timeout."""
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAXIMUM_RESPONSE_BYTES:
                raise _RetryError(f"the answer exceeds {MAXIMUM_RESPONSE_BYTES} bytes", unreadable=True)
            if time.monotonic() > deadline:
                raise _RetryError(f"no whole answer within {self.policy.timeout_s:g} s")
        return bytes(content)


def decode_completion(content: bytes) -> dict[str, Any]:
    """A chat completion with at least one choice, or a retry."""
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _RetryError(f"HTTP 200 with a body that is no JSON: {content[:80]!r}", unreadable=True) from error
    choices = value.get("choices") if isinstance(value, dict) else None
    if not (
        isinstance(choices, list)
        and choices
        and isinstance(choices[0], dict)
        and isinstance(choices[0].get("message"), dict)
    ):
        raise _RetryError(f"HTTP 200 with JSON that is no chat completion: {content[:80]!r}", unreadable=True)
    completion: dict[str, Any] = value
    return completion


def retry_after_s(header: str | None, now: float) -> float | None:
    """Retry-After as seconds from `now`: delta seconds or an HTTP date; None when absent or unreadable."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (TypeError, ValueError):
        return None
