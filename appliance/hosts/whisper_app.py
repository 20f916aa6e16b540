"""A speech host's HTTP: one upload in, a transcript or its lines out, over a Unix socket.

What it is: the contract with the gateway (``whisper_wire``), admission, deadlines, and leaving work undone
when its caller left. Whisper and IndicConformer stand behind it alike.
What it refuses to be: public. No keys, no OpenAI shapes: the gateway has those.
Cost: an upload's bytes once while it is decoded, then its samples.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance.errors import ApplianceError, BadRequest, DeadlineExceeded, EngineFailed, EngineUnavailable, TooLarge
from appliance.hosts.attended import ClientGone, attended
from appliance.hosts.audio import AudioDecoder, Samples, Wanted, no_audio
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher
from appliance.hosts.progress import progress_text
from appliance.hosts.transcript import by_turns, nobody_asked
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_wire import (
    PARAMS_HEADER,
    RANKS,
    Delta,
    Detection,
    Done,
    Failure,
    Line,
    Params,
    Progress,
    Result,
    parse_params,
)

V = TypeVar("V")
TRANSCRIBE = "/v1/transcribe"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppLimits:
    """What is held at once. One request alone always fits its own size, within ``max_body_bytes``."""

    max_body_bytes: int = 100 * 1024 * 1024
    max_held_bytes: int = 512 * 1024 * 1024
    max_held_audio_s: float = 4 * 3600.0


class Transcribing(Protocol):
    """What a model's composer offers."""

    def language(self, code: str | None) -> str | None:
        """The model's code for what the caller gave. Raises BadRequest."""
        ...

    async def transcribe(
        self,
        samples: Samples,
        params: Params,
        *,
        deadline: float,
        on_text: Callable[[str], None],
        on_progress: Callable[[float], None] = nobody_asked,
    ) -> Result:
        """The transcript of 16 kHz mono samples."""
        ...


class Detecting(Protocol):
    """What a model's composer offers that can tell languages apart as well."""

    async def detect(self, samples: Samples, params: Params, *, deadline: float) -> Detection:
        """What is spoken in the first window of speech."""
        ...


class Steps:
    """Progress a hundredth at a time, never backwards."""

    def __init__(self, send: Callable[[Line], None]) -> None:
        self._send = send
        self._told = 0

    def reached(self, share: float) -> None:
        """``share`` of the audio is done."""
        hundredths = int(share * 100)
        if hundredths > self._told:
            self._told = hundredths
            self._send(Progress(hundredths / 100))


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
        batcher: Batcher[Any, Any],
        transcriber: Transcribing,
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
    async def samples(self, body: bytes, params: Params) -> AsyncIterator[Samples]:
        """Decoded samples, held against the budget until the block ends."""
        raw = params.raw
        wanted = Wanted(split=params.split)
        if raw is not None:
            wanted = Wanted(raw.codec, raw.rate, raw.channels, params.split)
        with self.bytes.hold(len(body)):
            samples = await self.decoder.decode(body, wanted, RANKS.index(params.rank))
        with self.audio.hold(samples.size / RATE):
            yield samples

    async def transcribe(self, body: bytes, params: Params, send: Callable[[Line], None]) -> Result:
        """The whole job under its deadline; ``send`` gets the deltas, or how far it is."""
        self.transcriber.language(params.language)
        async with self.within(params) as deadline, self.samples(body, params) as samples:
            if params.split:
                return await self._split(samples, params, deadline, send)
            return await self.transcriber.transcribe(
                samples,
                params,
                deadline=deadline,
                on_text=lambda text: send(Delta(text)) if params.stream else None,
                on_progress=Steps(send).reached if params.progress else nobody_asked,
            )

    async def _split(self, samples: Samples, params: Params, deadline: float, send: Callable[[Line], None]) -> Result:
        """Each channel by itself, joined in the order in which was spoken."""
        steps = Steps(send)
        shares = [0.0] * samples.shape[1]

        def reached(channel: int, share: float) -> None:
            shares[channel] = share
            steps.reached(sum(shares) / len(shares))

        jobs = [
            asyncio.ensure_future(
                self.transcriber.transcribe(
                    np.ascontiguousarray(channel),
                    params,
                    deadline=deadline,
                    on_text=lambda text: None,
                    on_progress=partial(reached, number) if params.progress else nobody_asked,
                )
            )
            for number, channel in enumerate(samples.T)
        ]
        try:
            return by_turns(await asyncio.gather(*jobs))
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def detect(self, body: bytes, params: Params) -> Detection:
        """What is spoken. Raises BadRequest where the model cannot tell."""
        detecting = getattr(self.transcriber, "detect", None)
        if detecting is None:
            raise BadRequest(
                "this model cannot tell languages apart; ask one that detects them",
                code="language_required",
                param="language",
            )
        able: Detecting = self.transcriber  # type: ignore[assignment]
        if params.split:
            params = msgspec.structs.replace(params, split=False)
        async with self.within(params) as deadline, self.samples(body, params) as samples:
            return await able.detect(samples, params, deadline=deadline)

    @asynccontextmanager
    async def within(self, params: Params) -> AsyncIterator[float]:
        """The deadline of ``params`` on the batcher's clock; what passes it raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(params.deadline_s):
                yield self.clock() + params.deadline_s
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
        return await answer(request, lambda body, params: host.transcribe(body, params, lambda line: None))

    async def detect(request: Request) -> Response:
        return await answer(request, host.detect)

    async def answer(request: Request, work: Callable[[bytes, Params], Coroutine[Any, Any, Any]]) -> Response:
        try:
            params = parse_params(request.headers.get(PARAMS_HEADER))
            body = await host.body(request)
            if params.stream or (params.progress and request.url.path == TRANSCRIBE):
                return await _streamed(host, request, body, params)
            result = await attended(request.receive, work(body, params))
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
        return Response(host.metrics.text() + progress_text(host.batcher), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route(TRANSCRIBE, transcribe, methods=["POST"]),
            Route("/v1/detect", detect, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


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
