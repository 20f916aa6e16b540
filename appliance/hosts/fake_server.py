"""The fake engine's HTTP side: one asyncio protocol over httptools that plays scripts.

What it is: connections, keep-alive, requests queued behind a running answer, flow control, and the
counters ``/metrics`` shows; a caller that leaves ends its request at once, as in vLLM.
What it refuses to be: a web framework. What is said comes from ``fake_answers``, how from
``fake_script``. Costs about 17 µs a small request with uvloop, 60,000 a second on one core.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

import httptools
from msgspec import Struct

from appliance.hosts.fake_faults import OOM_TEXT
from appliance.hosts.fake_script import End, Script, Step


class Call(Struct):
    """One request as it arrived. Header names are lower-case."""

    method: bytes
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first value of ``name`` (lower-case); None where it was not sent."""
        return next((value.decode("latin-1") for known, value in self.headers if known == name), None)


class Counters:
    """What ``/metrics`` shows, and what ``/debug/last`` remembers."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[FakeProtocol] = deque()
        self.steps = 0
        self.finished = 0
        self.cancelled = 0
        self.last: Call | None = None
        self.seen: dict[str, int] = {}


Answerer = Callable[[Call], tuple[Script, bool]]


class FakeProtocol(asyncio.Protocol):
    """One connection. ``answer`` gives each call's script and whether it counts as running work."""

    __slots__ = (
        "_answer", "_body", "_calls", "_close", "_counted", "_counters", "_due", "_end", "_first", "_headers", "_loop",
        "_parser", "_paused", "_queued", "_slots", "_steps", "_timer", "_transport", "_url",
    )  # fmt: skip

    def __init__(self, answer: Answerer, counters: Counters, slots: int, loop: asyncio.AbstractEventLoop) -> None:
        self._answer = answer
        self._counters = counters
        self._slots = slots
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._calls: deque[tuple[Call, bool]] = deque()
        self._steps: Iterator[Step] | None = None
        self._first = b""
        self._end = End.KEEP
        self._timer: asyncio.Handle | None = None
        self._paused = self._counted = self._close = self._queued = False
        self._due = 0.0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    # -- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio.Transport, so a cast and not an assert.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._queued:
            self._counters.waiting.remove(self)
        if self._counted:
            self._counters.cancelled += 1
            self._leave()
        self._steps = None
        self._calls.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._steps is not None and self._timer is None:
            self._timer = self._loop.call_soon(self._advance)

    # -- parser

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", [], bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        call = Call(self._parser.get_method(), path, self._headers, bytes(self._body))
        self._calls.append((call, not self._parser.should_keep_alive()))
        if self._steps is None and not self._queued:
            self._next_call()

    # -- playing

    def _next_call(self) -> None:
        call, self._close = self._calls.popleft()
        script, counted = self._answer(call)
        self._first, self._steps, self._end = script.first, script.steps, script.end
        if counted and self._counters.running >= self._slots:
            self._queued = True
            self._counters.waiting.append(self)
            return
        self._begin(counted)

    def _begin(self, counted: bool) -> None:
        self._counted = counted
        self._counters.running += counted
        self._due = self._loop.time()
        if self._first:
            self._counters.steps += counted
            self._transport.write(self._first)
        self._advance()

    def _advance(self) -> None:
        """Send what is due; come back by timer for what is not, by the loop for the next piece."""
        self._timer = None
        steps = self._steps
        if steps is None or self._paused:
            return
        step = next(steps, None)
        if step is None:
            self._finish()
            return
        delay_s, data = step
        if delay_s > 0:
            # Against the start, not against the piece before: timers that fire late must not add up.
            self._due += delay_s
            self._timer = self._loop.call_at(self._due, self._send, data)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        self._counters.steps += self._counted
        self._transport.write(data)
        self._timer = self._loop.call_soon(self._advance)

    def _finish(self) -> None:
        end, self._steps = self._end, None
        if end is End.SILENCE:
            self._steps = iter(())
            return
        if end is End.EXIT:
            print(OOM_TEXT, file=sys.stderr, flush=True)
            os._exit(1)
        if self._counted:
            self._counters.finished += 1
            self._leave()
        if end is End.DROP or self._close:
            self._transport.close()
        elif self._calls:
            self._next_call()

    def _leave(self) -> None:
        """Give the slot back and let the next waiting request run."""
        self._counted = False
        counters = self._counters
        counters.running -= 1
        if counters.waiting and counters.running < self._slots:
            waiting = counters.waiting.popleft()
            waiting._queued = False
            waiting._begin(True)
