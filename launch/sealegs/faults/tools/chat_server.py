"""A chat server on this host that looks at the images it is sent, and misbehaves when told to."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import numpy as np
from PIL import Image


@dataclass
class ChatServer:
    """An OpenAI-compatible server. `faults` are spent first, one per request; then it answers by brightness.

    Stage one: prose that states both brightnesses. Stage two: the verdict read from the prose it is given.
    Faults: status:N, retry-after:SECONDS, retry-date:SECONDS, garbage, shape, refuses:PARAMETER, truncated,
    slow:SECONDS, drip:SECONDS and drip-header:SECONDS (between two bytes).
    """

    faults: list[str] = field(default_factory=list)
    logprobs: bool = True
    answer: str | None = None
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    rests: list[tuple[float, float]] = field(default_factory=list)
    """When a rest was asked for, and until when, in seconds of the monotonic clock."""
    aside: str = ""
    """What its prose says besides."""
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    base_url: str = ""

    def verdict(self, text: str) -> str:
        """0, 1 or -1, by the brightnesses that a prompt states."""
        found = re.findall(r"brightness (\d+)", text)
        if self.answer is not None:
            return self.answer
        a, b = int(found[0]), int(found[1])
        return "-1" if a == b else ("1" if b > a else "0")

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        content = body["messages"][0]["content"]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if isinstance(content, list):
            levels = [brightness(part) for part in content if part["type"] == "image_url"]
            text = f"Image 0 has brightness {levels[0]}. Image 1 has brightness {levels[1]}.{self.aside}"
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
    """Mean grey value of the image in a part of a message."""
    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
    return round(float(np.asarray(Image.open(io.BytesIO(data))).mean()))


class Handler(BaseHTTPRequestHandler):
    """One request: it is written down, and then answered or spoiled."""

    protocol_version = "HTTP/1.1"

    @property
    def chat(self) -> ChatServer:
        """Whose requests these are."""
        return cast("_Server", self.server).chat

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Write the request down, and answer or spoil it."""
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
        """Do what `fault` says."""
        kind, _, argument = fault.partition(":")
        match kind:
            case "":
                self.send(200, json.dumps(self.chat.completion(body)).encode())
            case "status":
                self.send(int(argument), b'{"error": {"message": "no luck"}}')
            case "retry-after":
                self.rest(float(argument), argument)
            case "retry-date":
                until = int(time.time() + float(argument)) + 1
                self.rest(until - time.time(), formatdate(until, usegmt=True))
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
            case "drip-header":
                for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(float(argument))
                self.close_connection = True
            case "drip":
                whole = json.dumps(self.chat.completion(body)).encode()
                self.send(200, b"", length=len(whole))
                for byte in whole:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(float(argument))
                self.close_connection = True

    def rest(self, seconds: float, header: str) -> None:
        """Ask to be left alone for `seconds`."""
        with self.chat.lock:
            self.chat.rests.append((time.monotonic(), time.monotonic() + seconds))
        self.send(429, b"{}", {"Retry-After": header})

    def send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        """An answer; `length` is what it claims to be long."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    chat: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed hang up in the middle; that is what they are here for."""


@contextmanager
def serving(chat: ChatServer) -> Iterator[ChatServer]:
    """`chat` on a free port of this host."""
    server = _Server(("127.0.0.1", 0), Handler)
    server.chat = chat
    chat.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
