"""The Whisper host's HTTP: one upload in, a transcript or its lines out, over a Unix socket.

What it is: the contract with the gateway (``whisper_wire``), admission, deadlines, and leaving work undone
when its caller left.
What it refuses to be: public. No keys, no OpenAI shapes: the gateway has those.
Cost: an upload's bytes once while it is decoded, then its samples.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineUnavailable, TooLarge
from appliance.hosts.audio import AudioDecoder, Samples, no_audio
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher
from appliance.hosts.whisper_job import Transcriber
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import Window
from appliance.hosts.whisper_text import Decode
from appliance.hosts.whisper_wire import PARAMS_HEADER, Delta, Done, Failure, Line, Params, Result, parse_params

V = TypeVar("V")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppLimits:
    """What is held at once. One request alone always fits its own size, within ``max_body_bytes``."""

    max_body_bytes: int = 100 * 1024 * 1024
    max_held_bytes: int = 512 * 1024 * 1024
    max_held_audio_s: float = 4 * 3600.0


class ClientGone(Exception):
    """The caller closed the connection before the answer."""


class Budget:
    """A bound on the sum of what is held; what does not fit is refused, not queued."""

    def __init__(self, limit: float, what: str, changed: Callable[[float], Any] = lambda held: None) -> None:
        self._limit = limit
        self._what = what
        self._changed = changed
        self.held = 0.0

    @contextmanager
    def hold(self, amount: float) -> Iterator[None]:
        """Raises EngineUnavailable ``overloaded`` when others hold so much that ``amount`` does not fit."""
        if self.held and self.held + amount > self._limit:
            raise EngineUnavailable(
                f"the transcription queue is full ({self.held:.0f} of {self._limit:.0f} {self._what}); try again later",
                code="overloaded",
                headers={"retry-after": "5"},
            )
        self.held += amount
        self._changed(self.held)
        try:
            yield
        finally:
            self.held -= amount
            self._changed(self.held)


class Host:
    """The parts of a running host; ``clock`` is the batcher's."""

    def __init__(
        self,
        decoder: AudioDecoder,
        batcher: Batcher[Window, Decode],
        transcriber: Transcriber,
        metrics: Metrics,
        *,
        model: str,
        clock: Callable[[], float],
        limits: AppLimits = AppLimits(),
    ) -> None:
        self.decoder = decoder
        self.batcher = batcher
        self.transcriber = transcriber
        self.metrics = metrics
        self.model = model
        self.clock = clock
        self.limits = limits
        self.bytes = Budget(limits.max_held_bytes, "bytes of uploads")
        self.audio = Budget(limits.max_held_audio_s, "seconds of audio", metrics.held.set)

    async def body(self, request: Request) -> bytes:
        """The upload; raises TooLarge as soon as it is, ``no_audio`` when it is empty."""
        parts, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limits.max_body_bytes:
                raise TooLarge(
                    f"the upload is larger than {self.limits.max_body_bytes} bytes; compress or split it", param="file"
                )
            parts.append(chunk)
        if not size:
            raise no_audio()
        return b"".join(parts)

    @asynccontextmanager
    async def samples(self, body: bytes) -> AsyncIterator[Samples]:
        """Decoded samples, held against the budget until the block ends."""
        with self.bytes.hold(len(body)):
            samples = await self.decoder.decode(body)
        with self.audio.hold(len(samples) / RATE):
            yield samples

    async def transcribe(self, body: bytes, params: Params, send: Callable[[Line], None]) -> Result:
        """The whole job under its deadline; ``send`` gets the deltas."""
        deadline = self.clock() + params.deadline_s
        self.transcriber.language(params.language)
        try:
            async with asyncio.timeout(params.deadline_s), self.samples(body) as samples:
                return await self.transcriber.transcribe(
                    samples, params, deadline=deadline, on_text=lambda text: send(Delta(text))
                )
        except TimeoutError:
            raise DeadlineExceeded(
                f"the transcript was not done within {params.deadline_s:g} s; send shorter audio or allow more time"
            ) from None


def create_app(host: Host) -> Starlette:
    """The ASGI application; starts and stops the host's batcher and decoder with its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await host.decoder.start()
        host.batcher.start()
        try:
            yield
        finally:
            await host.batcher.close()
            await host.decoder.close()

    async def transcribe(request: Request) -> Response:
        try:
            params = parse_params(request.headers.get(PARAMS_HEADER))
            body = await host.body(request)
            if params.stream:
                return await _streamed(host, request, body, params)
            result = await attended(request.receive, host.transcribe(body, params, lambda line: None))
        except (ClientGone, ClientDisconnect):
            host.metrics.ended("cancelled")
            return Response(status_code=499)  # nobody reads it
        except Exception as e:
            host.metrics.ended("failed")
            error = _visible(e)
            return Response(error.envelope(), error.status, error.headers, "application/json")
        host.metrics.ended("ok")
        return Response(msgspec.json.encode(result), media_type="application/json")

    async def health(_: Request) -> Response:
        status = 200 if host.batcher.alive else 503
        return JSONResponse({"status": "ok" if status == 200 else "stopping", "model": host.model}, status)

    async def metrics(_: Request) -> Response:
        return Response(host.metrics.text(), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/v1/transcribe", transcribe, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


async def attended(receive: Receive, job: Coroutine[Any, Any, V]) -> V:
    """The result of ``job``, which is cancelled (and has ended) when the caller leaves first: ClientGone."""
    task = asyncio.ensure_future(job)
    watch = asyncio.ensure_future(_leaves(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _streamed(host: Host, request: Request, body: bytes, params: Params) -> Response:
    """Lines as they come. What fails before the first line is an ordinary error: it raises here."""
    lines: asyncio.Queue[Line | None] = asyncio.Queue()
    job = asyncio.ensure_future(host.transcribe(body, params, lines.put_nowait))
    job.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        first = await attended(request.receive, lines.get())
        if first is None:
            job.result()
    except BaseException:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        raise
    return _Lines(host.metrics, job, lines, first)


class _Lines(Response):
    """NDJSON: the first line, the others, and how it ended."""

    media_type = "application/x-ndjson"

    def __init__(
        self, metrics: Metrics, job: asyncio.Future[Result], lines: asyncio.Queue[Line | None], first: Line | None
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._metrics = metrics
        self._job = job
        self._lines = lines
        self._line = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the job ends or the caller leaves; the job never outlives this call."""
        outcome = "cancelled"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while self._line is not None:
                await send({"type": "http.response.body", "body": _encode(self._line), "more_body": True})
                self._line = await attended(receive, self._lines.get())
            last = self._last()
            await send({"type": "http.response.body", "body": _encode(last), "more_body": False})
            outcome = "ok" if isinstance(last, Done) else "failed"
        except (ClientGone, OSError):
            pass
        finally:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
            self._metrics.ended(outcome)

    def _last(self) -> Line:
        try:
            return Done(self._job.result())
        except Exception as e:
            error = _visible(e)
            return Failure(error.status, error.code, error.message)


def _encode(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _visible(e: Exception) -> ApplianceError:
    """What may be said of ``e``; what was not foreseen is logged, and named only as a failure."""
    if isinstance(e, ApplianceError):
        return e
    _log.error("a transcription failed", exc_info=e)
    return EngineFailed("the speech engine failed on this request; see its log on the appliance and try again")
