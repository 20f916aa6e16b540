"""The translation host's HTTP: one ask in, a result or its lines out, over a Unix socket.

What it is: the contract with the gateway (``translate_wire``), admission, deadlines, and leaving work undone when its
caller left.
What it refuses to be: public. No keys, no other spellings of languages: the gateway has those.
Cost: the text of an ask once, and what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineUnavailable, TooLarge
from appliance.hosts.attended import ClientGone, attended
from appliance.hosts.progress import progress_text
from appliance.hosts.translate_job import Job
from appliance.hosts.translate_metrics import Metrics, Together
from appliance.hosts.translate_model import Queue, Way
from appliance.hosts.translate_wire import Ask, Delta, Done, Failure, Line, Result, parse

MOST_BODY_BYTES = 16 * 1024 * 1024
MOST_HELD_CHARACTERS = 32_000_000
_log = logging.getLogger(__name__)


class Host:
    """The parts of a running host."""

    def __init__(self, job: Job, batchers: Mapping[Way, Queue], metrics: Metrics, models: tuple[str, ...]) -> None:
        self.job = job
        self.batchers = batchers
        self.metrics = metrics
        self.models = models
        self.work = Together(batchers.values())
        self._held = 0

    async def body(self, request: Request) -> bytes:
        """The ask's bytes. Raises TooLarge."""
        parts, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MOST_BODY_BYTES:
                raise TooLarge(f"the text is larger than {MOST_BODY_BYTES} bytes; send it in parts", param="input")
            parts.append(chunk)
        return b"".join(parts)

    async def translate(self, ask: Ask, send: Callable[[Line], None]) -> Result:
        """The whole job under its deadline; ``send`` gets the deltas."""
        size = sum(len(item.text) for item in ask.items)
        if self._held and self._held + size > MOST_HELD_CHARACTERS:
            raise EngineUnavailable(
                f"the translation queue is full ({self._held} characters); try again later",
                code="overloaded",
                headers={"retry-after": "5"},
            )
        self._hold(size)
        try:
            async with asyncio.timeout(ask.deadline_s):
                result = await self.job.run(ask, send)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the translation was not done within {ask.deadline_s:g} s; send less text or allow more time"
            ) from None
        finally:
            self._hold(-size)
        self.metrics.used(result.usage)
        return result

    def _hold(self, size: int) -> None:
        self._held += size
        self.metrics.held.set(self._held)


def create_app(host: Host) -> Starlette:
    """The ASGI application; starts and stops the host's batchers with its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for batcher in host.batchers.values():
            batcher.start()
        try:
            yield
        finally:
            for batcher in host.batchers.values():
                await batcher.close()

    async def translate(request: Request) -> Response:
        try:
            ask = parse(await host.body(request))
            if ask.stream:
                return await _streamed(host, request, ask)
            result = await attended(request.receive, host.translate(ask, lambda line: None))
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
        status = 200 if all(batcher.alive for batcher in host.batchers.values()) else 503
        ways = {way: direction.model for way, direction in host.job.have.items()}
        said = {"status": "ok" if status == 200 else "stopping", "models": host.models, "directions": ways}
        return JSONResponse(said, status)

    async def metrics(_: Request) -> Response:
        return Response(host.metrics.text() + progress_text(host.work), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/v1/translate", translate, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


async def _streamed(host: Host, request: Request, ask: Ask) -> Response:
    """Lines as they come. What fails before the first line is an ordinary error: it raises here."""
    lines: asyncio.Queue[Line | None] = asyncio.Queue()
    job = asyncio.ensure_future(host.translate(ask, lines.put_nowait))
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
        self._metrics, self._job, self._lines, self._line = metrics, job, lines, first

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


def _encode(line: Line | Delta) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _visible(e: Exception) -> ApplianceError:
    """What may be said of ``e``; what was not foreseen is logged, and named only as a failure."""
    if isinstance(e, ApplianceError):
        return e
    _log.error("a translation failed", exc_info=e)
    return EngineFailed("the translation engine failed on this request; see its log on the appliance and try again")
