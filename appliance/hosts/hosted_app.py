"""The hosted process' HTTP: OpenAI's chat completions in, with a permit, over a Unix socket.

What it is: the contract with the gateway (``engines/hosted``): check the permit, translate, ask Gemini, translate back;
a caller that leaves ends the hosted generation. ``/health`` says ready once Google has taken the key.
What it refuses to be: a way out for anything but ``POST /v1/chat/completions`` with a permit, a retrier, or a log of
what was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance.errors import ApplianceError, BadRequest, EngineFailed, EngineUnavailable, TooLarge
from appliance.hosts.attended import ClientGone, attended
from appliance.hosts.gemini_answer import Reader, Streamed, whole
from appliance.hosts.gemini_request import GeminiRequest, gemini_request
from appliance.hosts.hosted_client import Gemini
from appliance.hosts.hosted_errors import mapped
from appliance.hosts.hosted_metrics import Metrics
from appliance.hosts.hosted_permits import Checks
from appliance.hosts.hosted_signatures import Signatures
from appliance.hosts.progress import progress_text
from appliance.policy.egress import EgressPermit

PERMIT_HEADER = "x-appliance-permit"
MOST_BODY_BYTES = 64 * 1024 * 1024
LOOK_AGAIN_S = 5.0
_log = logging.getLogger(__name__)


class Shape(Struct, frozen=True):
    """How it serves: models and their place, bounds of an answer, and how many at once."""

    models: tuple[str, ...]
    region: str
    max_output_tokens: int = 8192
    max_at_once: int = 64
    deadline_s: float = 600.0
    check: bool = True


class _Job:
    """One admitted request."""

    def __init__(self, permit: EgressPermit, body: bytes, request: GeminiRequest, reader: Reader, id_: str) -> None:
        self.permit = permit
        self.body = body
        self.request = request
        self.reader = reader
        self.id = id_


class Host:
    """The parts of a running host. ``connect`` opens the client; ``clock_s`` is Unix seconds, for ``created``."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Gemini]],
        checks: Checks,
        shape: Shape,
        clock_s: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._checks = checks
        self._signatures = Signatures()
        self._clock_s = clock_s
        self._gemini: Gemini | None = None
        self.shape = shape
        self.metrics = Metrics()
        self.ready = not shape.check
        self.why = "its key has not been tried yet"
        self.context_tokens = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With the client open; looks at the first model until Google says yes."""
        async with self._connect() as gemini:
            self._gemini = gemini
            looking = asyncio.create_task(self._look(gemini)) if self.shape.check else None
            try:
                yield
            finally:
                if looking is not None:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)

    async def _look(self, gemini: Gemini) -> None:
        while not self.ready:
            try:
                async with asyncio.timeout(30):
                    self.context_tokens = await gemini.look(self.shape.models[0])
                self.ready, self.why = True, ""
            except Exception as e:
                error = mapped(e)
                if error.message != self.why:
                    _log.warning("not ready: %s", error.message)
                self.why = error.message
                await asyncio.sleep(LOOK_AGAIN_S)

    async def body(self, request: Request) -> bytes:
        """The request's bytes, as the permit is for them. Raises TooLarge."""
        parts, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MOST_BODY_BYTES:
                raise TooLarge(f"the request is larger than {MOST_BODY_BYTES} bytes; send less")
            parts.append(chunk)
        return b"".join(parts)

    def admitted(self, request: Request, body: bytes) -> tuple[_Job, dict[str, Any]]:
        """The job that ``body`` is, permit checked. Raises ApplianceError; from here on ``ended`` has to be called."""
        if self.metrics.running >= self.shape.max_at_once:
            raise EngineUnavailable(
                "the hosted process has as many requests as it takes (max_at_once); try again",
                code="overloaded",
                headers={"retry-after": "1"},
            )
        read = _read(body)
        permit = self._checks.admit(request.headers.get(PERMIT_HEADER, ""), body, str(read.get("model", "")))
        self.metrics.began()
        try:
            asked = gemini_request(
                read, permit.max_output_tokens, lambda call_id: self._signatures.of(permit.tenant, call_id)
            )
        except (KeyError, TypeError, AttributeError):  # the gateway checks shapes; this is somebody else's body
            self._release(permit, body, 0, "failed")
            raise BadRequest("the request is not in the shape of a chat completion") from None
        except BaseException:
            self._release(permit, body, 0, "failed")
            raise
        id_ = request.headers.get("x-request-id") or permit.nonce
        reader = Reader(id_, lambda call_id, signature: self._signatures.keep(permit.tenant, call_id, signature))
        return _Job(permit, body, asked, reader, id_), read

    def ended(self, job: _Job, outcome: str) -> None:
        """Count it, and settle what was held back for it with what Google says it took."""
        usage = job.reader.usage or {}
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        self.metrics.used(prompt, completion)
        # recordings cost twice what text does
        audio = (usage.get("prompt_tokens_details") or {}).get("audio_tokens", 0)
        self._release(job.permit, job.body, job.permit.cost_nusd(prompt + audio, completion), outcome)

    def _release(self, permit: EgressPermit, body: bytes, cost_nusd: int, outcome: str) -> None:
        self._checks.settle(permit, body, cost_nusd)
        self.metrics.ended(outcome, self._checks.spent_nusd)

    async def answer(self, job: _Job) -> bytes:
        """The whole completion. Raises ApplianceError."""
        try:
            async with asyncio.timeout(self.shape.deadline_s):
                response = await self._client.generate(job.permit.model, job.request)
            return whole(job.reader, response, job.permit.model, job.id, self._created())
        except Exception as e:
            raise seen(e) from None

    async def events(self, job: _Job, include_usage: bool) -> AsyncGenerator[bytes]:
        """The completion's events. Raises ApplianceError, also after some have gone.

        The deadline is the caller's: each event may be waited for in a task of its own, and a time-out belongs to one.
        """
        streamed = Streamed(job.reader, job.permit.model, job.id, self._created(), include_usage)
        try:
            async with aclosing(self._client.stream(job.permit.model, job.request)) as pieces:
                async for piece in pieces:
                    self.metrics.stepped()
                    if event := streamed.feed(piece):
                        yield event
                yield streamed.end()
        except Exception as e:
            raise seen(e) from None

    @property
    def _client(self) -> Gemini:
        if self._gemini is None:
            raise EngineUnavailable("the hosted process is not connected yet; try again shortly")
        return self._gemini

    def _created(self) -> int:
        return int(self._clock_s())


def create_app(host: Host) -> Starlette:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with host.running():
            yield

    async def chat(request: Request) -> Response:
        try:
            body = await host.body(request)
            job, read = host.admitted(request, body)
        except ClientDisconnect:
            return Response(status_code=499)
        except ApplianceError as e:
            host.metrics.refused(e.code)
            return _failure(e)
        headers = {"x-appliance-dropped": ", ".join(job.request.dropped)} if job.request.dropped else {}
        if read.get("stream"):
            return _Events(host, job, bool((read.get("stream_options") or {}).get("include_usage")), headers)
        return await _whole(host, request.receive, job, headers)

    async def health(_: Request) -> Response:
        said = {"status": "ok" if host.ready else host.why, "region": host.shape.region}
        return JSONResponse(said, 200 if host.ready else 503)

    async def models(_: Request) -> Response:
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "google", "max_model_len": host.context_tokens}
            for name in host.shape.models
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def metrics(_: Request) -> Response:
        host.metrics.stepped()  # one loop does everything here: that it answers is the heartbeat
        return Response(host.metrics.text() + progress_text(host.metrics), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


async def _whole(host: Host, receive: Receive, job: _Job, headers: dict[str, str]) -> Response:
    outcome = "cancelled"
    try:
        answer = await attended(receive, host.answer(job))
        outcome = "ok"
        return Response(answer, headers=headers, media_type="application/json")
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    except ApplianceError as e:
        outcome = "failed"
        return _failure(e)
    finally:
        host.ended(job, outcome)


class _Events(Response):
    """Server-sent events. What fails before the first is an ordinary error, afterwards an error event and no end."""

    media_type = "text/event-stream"

    def __init__(self, host: Host, job: _Job, include_usage: bool, headers: dict[str, str]) -> None:
        super().__init__(headers={**headers, "cache-control": "no-store"})
        del self.headers["content-length"]
        self._host, self._job, self._include_usage = host, job, include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the answer ends or the caller leaves; the generation never outlives this call."""
        begun, outcome = False, "cancelled"
        try:
            deadline_s = self._host.shape.deadline_s
            async with (
                asyncio.timeout(deadline_s),
                aclosing(self._host.events(self._job, self._include_usage)) as events,
            ):
                while (event := await attended(receive, _following(events))) is not None:
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            outcome = "ok"
        except TimeoutError as e:  # an OSError to Python, and not the caller's leaving
            outcome = "failed"
            await self._failed(seen(e), begun, scope, receive, send)
        except (ClientGone, OSError):
            pass
        except ApplianceError as e:
            outcome = "failed"
            await self._failed(e, begun, scope, receive, send)
        finally:
            self._host.ended(self._job, outcome)

    async def _failed(self, error: ApplianceError, begun: bool, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError):
            if not begun:
                await _failure(error)(scope, receive, send)
                return
            # with what Google had counted by then: it is charged for
            body, usage = error.envelope(), self._job.reader.usage
            if usage:
                body = body[:-1] + b',"usage":' + msgspec.json.encode(usage) + b"}"
            event = b"data: " + body + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})


async def _following(events: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(events, None)


def _failure(error: ApplianceError) -> Response:
    return Response(error.envelope(), error.status, error.headers, "application/json")


def seen(error: Exception) -> ApplianceError:
    """``error`` as ours; what nobody foresaw is logged, without what it may quote."""
    found = mapped(error)
    if type(found) is EngineFailed and "see its log" in found.message:
        _log.error("an answer failed", exc_info=error)
    return found


def _read(body: bytes) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise BadRequest("the request is not a JSON object")
    return read
