"""Is the engine ready? Only a real answer says so.

What it is: HTTP over the engine's Unix socket with the standard library: one token from a chat model
(``/health`` answers 200 while an engine hangs: vllm #36451, #39863), ``GET /health`` from the Whisper host,
which decodes real audio before it says 200, and from the hosted process, which has tried its key by then: a token of
a hosted model costs money.
What it refuses to be: the heartbeat of a running engine, which reads the engine's own counters.
What it costs: one token every 0.2 s while the engine starts, nothing afterwards.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.settings import EngineSettings
from appliance.types import Task

Shown = Task | Literal["hosted"]
_CONNECT_S = 2.0
_MEASURING_TOKENS = 600


@dataclass(frozen=True)
class Answer:
    """``ready``, or half a sentence why not. ``context_tokens`` is 0 where it has no meaning."""

    ready: bool
    why: str = ""
    context_tokens: int = 0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_S)
        self.sock.connect(bytes(self._path))
        self.sock.settimeout(self.timeout)


def fetch(path: Path, method: str, target: str, body: object = None, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """One request over the Unix socket ``path``: status and body. Raises OSError or HTTPException."""
    connection = _UnixConnection(path, timeout_s)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def shown_by(engine: EngineSettings) -> Shown:
    """By what an engine shows that it works: its task, and nothing that is charged."""
    return "hosted" if engine.kind == "hosted" else engine.task


def probe(path: Path, task: Shown, model: str, timeout_s: float) -> Answer:
    """Ask once. Blocks up to ``timeout_s``; never raises for an engine that is not there yet."""
    try:
        if task == "chat":
            return _probe_chat(path, model, timeout_s)
        answer = _probe_health(path, timeout_s)
        return _with_context(path, timeout_s) if answer.ready and task == "hosted" else answer
    except (FileNotFoundError, ConnectionRefusedError):
        return Answer(False, "its socket is not there yet")
    except (OSError, http.client.HTTPException, ValueError) as e:
        return Answer(False, f"its socket gave {type(e).__name__}: {e}")


def question(task: Shown, model: str, context_tokens: int) -> Callable[[Path, float], bool]:
    """What an idle engine is asked to show that it works: ``(socket, timeout_s)`` -> whether it did.

    The prompt is long enough for the engine's own prefill speed to be known afterwards.
    """
    if task != "chat":
        return lambda path, timeout_s: _answers(lambda: _probe_health(path, timeout_s).ready)
    words = min(_MEASURING_TOKENS, context_tokens // 2) or 1
    ask = {"model": model, "prompt": "1" + " 1" * (words - 1), "max_tokens": 1, "temperature": 0}
    return lambda path, timeout_s: _answers(lambda: fetch(path, "POST", "/v1/completions", ask, timeout_s)[0] == 200)


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _probe_chat(path: Path, model: str, timeout_s: float) -> Answer:
    ask = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
    status, body = fetch(path, "POST", "/v1/completions", ask, timeout_s)
    if status != 200:
        return Answer(False, f"its first answer was {status}: {body[:200].decode('utf-8', 'replace')}")
    if not json.loads(body)["usage"]["completion_tokens"] >= 1:
        return Answer(False, "it answered without a token")
    return _with_context(path, timeout_s)


def _with_context(path: Path, timeout_s: float) -> Answer:
    """Ready, with the context its model cards name."""
    status, body = fetch(path, "GET", "/v1/models", timeout_s=timeout_s)
    cards = json.loads(body)["data"] if status == 200 else []
    return Answer(True, context_tokens=max((card.get("max_model_len") or 0 for card in cards), default=0))


def _probe_health(path: Path, timeout_s: float) -> Answer:
    status, body = fetch(path, "GET", "/health", timeout_s=timeout_s)
    return Answer(status == 200, f"/health answered {status}: {body[:200].decode('utf-8', 'replace')}")
