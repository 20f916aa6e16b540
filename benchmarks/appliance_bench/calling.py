"""Callers of a gateway with a row a request: an open loop on a schedule, or so many that ask again when answered.

What it is: HTTP/1.1 keep-alive over asyncio streams; each request has a body of its own, and its row says when it was
due, how late it was sent, when the first and the last byte of its answer came, and how many events that was.
What it refuses to be: a browser. Plain HTTP, bodies with a length or in chunks. About 0.2 ms of a core a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from msgspec import Struct

# connections that are there before the first request of an open loop
_OPEN = 128


class Ask(Struct, frozen=True):
    """A request. ``units`` and ``prompt`` are what it is reckoned to cost, for the simulation."""

    path: str
    body: bytes
    units: float
    prompt: float = 0.0


class Row(Struct):
    """What came of one. ``at_s`` counts from the start; times from when it was due, in milliseconds."""

    at_s: float
    units: float
    prompt: float
    lag_ms: float = 0.0
    ttft_ms: float = 0.0
    e2e_ms: float = 0.0
    events: int = 0
    status: int = 0
    error: str = ""
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.error


class Caller:
    """Connections to one address, used again; a row a request."""

    def __init__(self, host: str, port: int, key: str, timeout_s: float = 60.0) -> None:
        self._address = (host, port)
        self._head = f"host: {host}:{port}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        self._timeout_s = timeout_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self, count: int) -> None:
        """Open connections until so many wait: a client that has them does not pay for them when a queue grows."""
        while len(self._idle) < count:
            self._idle.append(await asyncio.open_connection(*self._address))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the server closes what it has not heard of for some seconds
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._address)

    async def ask(self, one: Ask, row: Row, due: float) -> None:
        """Fill ``row``; what goes wrong is written into it."""
        try:
            await asyncio.wait_for(self._ask(one, row, due), self._timeout_s)
        except (OSError, ValueError, EOFError, TimeoutError) as e:
            row.error = type(e).__name__
            row.e2e_ms = (time.perf_counter() - due) * 1000

    async def _ask(self, one: Ask, row: Row, due: float) -> None:
        reader, writer = await self._connection()
        good = False
        try:
            row.lag_ms = (time.perf_counter() - due) * 1000
            writer.write(f"POST {one.path} HTTP/1.1\r\n{self._head}content-length: {len(one.body)}\r\n\r\n".encode())
            writer.write(one.body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            row.status = int(head.split(" ", 2)[1])
            pieces: list[bytes] = []
            async for piece in _body(reader, head):
                if not pieces:
                    row.ttft_ms = (time.perf_counter() - due) * 1000
                pieces.append(piece)
            row.e2e_ms = (time.perf_counter() - due) * 1000
            row.body = b"".join(pieces)
            row.events = row.body.count(b"data: {")
            good = True
        finally:
            if good:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        """Leave."""
        for _, writer in self._idle:
            writer.close()


async def _body(reader: asyncio.StreamReader, head: str) -> AsyncIterator[bytes]:
    if "transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return
    length = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:"))
    yield await reader.readexactly(length)


async def open_loop(caller: Caller, asks: Sequence[Ask], schedule: Sequence[float]) -> list[Row]:
    """The nth of ``asks`` at the nth time of ``schedule``, whatever became of those before."""
    await caller.connect(min(len(asks), _OPEN))
    start = time.perf_counter() + 0.05
    tasks, rows = [], []
    for one, at in zip(asks, schedule, strict=False):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        row = Row(at, one.units, one.prompt)
        rows.append(row)
        tasks.append(asyncio.create_task(caller.ask(one, row, start + at)))
    await asyncio.gather(*tasks)
    return rows


async def closed_loop(caller: Caller, asks: Sequence[Ask], callers: int) -> tuple[float, list[Row]]:
    """``callers`` at once until all are answered: seconds, and a row each."""
    start = time.perf_counter()
    rows: list[Row] = []
    todo = iter(asks)

    async def one_after_another() -> None:
        for one in todo:
            due = time.perf_counter()
            row = Row(due - start, one.units, one.prompt)
            rows.append(row)
            await caller.ask(one, row, due)

    await asyncio.gather(*(one_after_another() for _ in range(callers)))
    return time.perf_counter() - start, rows
