"""One HTTP exchange on bare ASGI: read a body, answer, fail, notice a client that left.

What it is: what every route needs. Routes are coroutine functions of one ``Exchange``; ``Endpoint`` wraps
one as an ASGI application that turns every error into OpenAI's envelope.
What it refuses to be: a framework. Routing is Starlette's.
What it costs: Starlette's Request and Response objects cost 60 µs on the hot path, this costs 10.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.api import whole
from appliance.errors import ApplianceError, EngineUnavailable, TooLarge, UploadTooSlow
from appliance.metrics import Metrics
from appliance.pipeline import CLIENT_LEFT, LEFT
from appliance.within import Within

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# A watcher for every request would cost a task; an answer this quick needs none.
_WATCH_AFTER_S = 0.02
_LAST_WORD_S = 1.0
_log = logging.getLogger("appliance.api")


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.request_id = ""
        self.status = 0
        self.error_code: str | None = None
        self.left = False
        self._send = send
        self._streaming = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # the first of a name counts

    def header(self, name: bytes) -> str:
        """One request header, empty when absent. ``name`` in lower case."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    async def body_within(self, seconds: float, limit: int, setting: str) -> bytes:
        """``body``, and UploadTooSlow where it takes longer than ``seconds``."""
        try:
            with Within(seconds):
                return await self.body(limit, setting)
        except TimeoutError:
            raise UploadTooSlow(upload_too_slow(seconds)) from None

    async def body(self, limit: int, setting: str) -> bytes:
        """The whole request body. Raises TooLarge past ``limit`` bytes, naming the ``setting``."""
        self.refuse_declared(limit, setting)
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise self.gone()
        first: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(first) > limit:
                raise _too_large(limit, setting)
            return first
        parts, size = [first], len(first)
        while message.get("more_body", False):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise self.gone()
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit, setting)
            parts.append(part)
        return b"".join(parts)

    def refuse_declared(self, limit: int, setting: str) -> None:
        """Refuse by Content-Length, before a byte of the body was read. Raises TooLarge."""
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit, setting)

    # a client that leaves

    def gone(self) -> asyncio.CancelledError:
        """To be raised where the request itself was cut off."""
        self.left = True
        return asyncio.CancelledError(LEFT)

    def watch(self) -> None:
        """From now on, a client that leaves cancels the current task. Call after the body was read."""
        task = asyncio.current_task()
        assert task is not None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start_watching, task)

    def _start_watching(self, task: asyncio.Task[Any]) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait_for_leaving(task))

    async def _wait_for_leaving(self, task: asyncio.Task[Any]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        task.cancel(LEFT)

    def unwatch(self) -> None:
        """Stop watching: the answer is complete."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    # answers

    async def respond(
        self, status: int, body: bytes, content_type: bytes = b"application/json", headers: dict[str, str] | None = None
    ) -> None:
        """Answer whole."""
        raw = self._headed(status, content_type, headers, len(body))
        if status == 200 and whole.write(self._send, raw, body):
            return
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, content_type: bytes, headers: dict[str, str] | None = None) -> None:
        """Send status 200 and headers; ``write`` follows."""
        self._streaming = True
        raw = self._headed(200, content_type, headers, None)
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes, more: bool = True) -> None:
        """Send a piece of a streamed answer."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def fail(self, error: ApplianceError) -> None:
        """The envelope; in a stream that has begun, an error event that no client takes for a clean stop."""
        self.error_code = error.code
        if self._streaming:
            with contextlib.suppress(TimeoutError):  # a caller that stopped reading is not waited for
                async with asyncio.timeout(_LAST_WORD_S):
                    await self.write(b"data: " + error.envelope() + b"\n\n", more=False)
            return
        headers = dict(error.headers)
        if error.status == 413:  # the rest of the body was not read
            headers["connection"] = "close"
        await self.respond(error.status, error.envelope(), headers=headers)

    def _headed(
        self, status: int, content_type: bytes, headers: dict[str, str] | None, length: int | None
    ) -> list[tuple[bytes, bytes]]:
        self.status = status
        raw = [(b"content-type", content_type), (b"x-request-id", self.request_id.encode())]
        if length is not None:
            raw.append((b"content-length", str(length).encode()))
        if headers:
            raw += [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        return raw


def upload_too_slow(seconds: float) -> str:
    """What a caller is told whose request took longer than that to arrive."""
    return f"the request did not arrive within {seconds:g} s; send less at a time"


def _too_large(limit: int, setting: str) -> TooLarge:
    return TooLarge(f"the request is larger than {limit} bytes; send less, or raise {setting} in appliance.toml")


class Endpoint:
    """A route as an ASGI application: counts, times, and lets no error out but in the envelope."""

    def __init__(
        self,
        route: str,
        handler: Callable[[Exchange], Awaitable[None]],
        metrics: Metrics,
        new_id: Callable[[], str],
    ) -> None:
        self._route = route
        self._handler = handler
        self._metrics = metrics
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        exchange.request_id = self._new_id()
        started_s = time.perf_counter()
        self._metrics.in_flight += 1
        try:
            await self._handler(exchange)
        except ApplianceError as e:
            await exchange.fail(e)
        except asyncio.CancelledError:
            if exchange.left:
                exchange.status = exchange.status or CLIENT_LEFT
            else:  # drain_s is over; uvicorn cancels what still runs
                await exchange.fail(
                    EngineUnavailable(
                        "the appliance is stopping; send the request again",
                        code="shutting_down",
                        headers={"retry-after": "5"},
                    )
                )
        except Exception:
            _log.exception("request %s failed inside the gateway", exchange.request_id)
            await exchange.fail(
                ApplianceError(
                    f"the gateway failed on request {exchange.request_id}; its log says why, please report it"
                )
            )
        finally:
            exchange.unwatch()
            self._metrics.in_flight -= 1
            self._metrics.request(self._route, exchange.status, time.perf_counter() - started_s)
            if exchange.error_code is not None:
                self._metrics.error(self._route, exchange.error_code)
