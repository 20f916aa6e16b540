"""Two stand-in speech hosts on Unix sockets: what each says is set by the test, what each was asked is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from support import wait_until

from appliance.hosts.serving import listen

SETTINGS = """
[engines.whisper]
kind = "whisper"
task = "transcribe"
model = "whisper-tiny"

[engines.conformer]
kind = "conformer"
model = "conformer-tiny"
"""


class SpeechHost:
    """``text``: what it hears. ``language``: what it detects (None: nobody speaks). ``status``: of its answers."""

    def __init__(self, home: Path, name: str) -> None:
        self.text, self.language, self.probability, self.status = "hello there", "en", 0.9, 200
        self.hold = threading.Event()  # a job is held at 42 %
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.socket = home / f"{name}-standin.sock"
        routes = [Route(path, self._answer, methods=["POST"]) for path in ("/v1/transcribe", "/v1/detect")]
        self._server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None))
        listener = listen(self.socket)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        state = {
            "name": name,
            "kind": name,
            "task": "transcribe",
            "phase": "ready",
            "address": str(self.socket),
            "models": [f"{name}-tiny"],
            "detail": "",
            "since_unix_s": 0.0,
            "supervisor_pid": os.getpid(),
            "engine_pid": os.getpid(),
            "preferred_for": ["hin_Deva", "ory_Orya"] if name == "conformer" else [],
        }
        self.state_file, self.state = home / "run" / f"{name}.json", state
        self.say_ready()

    def say_ready(self, phase: str = "ready") -> None:
        """The state a supervisor would write."""
        part = self.state_file.with_suffix(".part")
        part.write_text(json.dumps({**self.state, "phase": phase}))
        part.replace(self.state_file)

    async def _answer(self, request: Request) -> Response:
        params = json.loads(request.headers["x-appliance-params"])
        self.calls.append((request.url.path, params))
        body = await request.body()
        if self.status != 200:
            return JSONResponse({"error": {"message": "broken", "code": "engine_failed"}}, self.status)
        if request.url.path == "/v1/detect":
            likeliest = [] if self.language is None else [[self.language, self.probability], ["ne", 0.05]]
            found = {"language": self.language, "language_probability": self.probability, "languages": likeliest}
            return JSONResponse({**found, "duration_s": len(body) / 32000, "text": ""})
        segment = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 1.0,
            "text": self.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        result = {
            "language": params["language"] or self.language,
            "language_probability": 1.0 if params["language"] else self.probability,
            "duration_s": 1.0,
            "text": self.text,
            "segments": [segment],
            "words": None,
        }
        if params.get("progress"):
            return StreamingResponse(self._progressing(result), media_type="application/x-ndjson")
        if not params["stream"]:
            return JSONResponse(result)
        lines = [{"type": "delta", "text": self.text}, {"type": "done", "result": result}]
        return Response("".join(json.dumps(line) + "\n" for line in lines), media_type="application/x-ndjson")

    async def _progressing(self, result: dict[str, Any]) -> AsyncIterator[str]:
        yield json.dumps({"type": "progress", "done": 0.42}) + "\n"
        while self.hold.is_set():  # noqa: ASYNC110 - it is set by a thread
            await asyncio.sleep(0.01)
        yield json.dumps({"type": "done", "result": result}) + "\n"

    def forget(self) -> None:
        """As new."""
        self.text, self.language, self.probability, self.status = "hello there", "en", 0.9, 200
        self.calls.clear()

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(10)


@contextlib.contextmanager
def speech_hosts(home: Path) -> Iterator[tuple[SpeechHost, SpeechHost]]:
    """Whisper's stand-in and IndicConformer's."""
    both = SpeechHost(home, "whisper"), SpeechHost(home, "conformer")
    try:
        for host in both:
            wait_until(lambda host=host: host._server.started, 10, "the stand-in listens")  # type: ignore[misc]
        yield both
    finally:
        for host in both:
            host.stop()
