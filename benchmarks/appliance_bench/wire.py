"""HTTP/1.1 to an engine's socket or an address, with as little as possible between the bytes and the clock.

What it is: a pool of kept-alive connections; ``post`` sends a body and returns status and answer, and says when each
part of a streamed answer came. About 100 µs a request on one slow core, a tenth of httpx: on a machine of two cores
the client must not be what is measured.
What it refuses to be: a browser. No redirects, no compression, no TLS: engines and gateways are on this site.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from appliance_bench.records import RecordError

_LIMIT = 4 * 1024 * 1024


class Unanswered(Exception):
    """No answer: refused, cut, or no HTTP."""


class Client:
    """``address``: a socket's path, or ``http://host:port``. Any number of requests may be under way."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        url = urlsplit(address) if not address.startswith("/") else None
        if url is not None and (url.scheme != "http" or not url.hostname):
            raise RecordError(f"{address!r} is no address of an engine; give http://host:port or a socket's path")
        self._socket = address if url is None else ""
        self._host, self._port = (url.hostname or "", url.port or 80) if url is not None else ("", 0)
        self._headers = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(
        self, path: str, body: bytes, headers: str = "", on_part: Callable[[bytes], None] | None = None
    ) -> tuple[int, bytes]:
        """Raises Unanswered. ``headers`` are lines with their ends."""
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{self._headers}{headers}\r\n"
        return await self._ask(head.encode() + body, on_part)

    async def get(self, path: str) -> tuple[int, bytes]:
        """Raises Unanswered."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: bench\r\n{self._headers}\r\n".encode(), None)

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _ask(self, data: bytes, on_part: Callable[[bytes], None] | None) -> tuple[int, bytes]:
        kept = self._kept()
        while True:
            try:
                reader, writer = kept or await self._connect()
            except OSError as e:
                raise Unanswered(f"nothing answers at {self._socket or f'{self._host}:{self._port}'} ({e})") from None
            done = False
            try:
                writer.write(data)
                status, answer, keep = await _read(reader, on_part)
                done = keep
                return status, answer
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as e:
                if kept is not None and _unheard(e):
                    kept = None  # the server closed it as idle while this was on its way: no answer of its engine
                    continue
                raise Unanswered(f"the connection ended before the answer did ({type(e).__name__})") from None
            finally:
                if done:
                    self._idle.append((reader, writer))
                else:
                    writer.close()

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """An open connection that is idle. Servers close them after some seconds, which is at the end of its reader."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and reader.exception() is None:
                return reader, writer
            writer.close()
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket:
            return await asyncio.open_unix_connection(self._socket, limit=_LIMIT)
        return await asyncio.open_connection(self._host, self._port, limit=_LIMIT)


def _unheard(e: Exception) -> bool:
    """Whether the connection ended before a byte of the answer."""
    return isinstance(e, ConnectionError) or (isinstance(e, asyncio.IncompleteReadError) and not e.partial)


async def _read(reader: asyncio.StreamReader, on_part: Callable[[bytes], None] | None) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    keep = fields.get("connection", "").lower() != "close"
    if "chunked" in fields.get("transfer-encoding", ""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            part = await reader.readexactly(size + 2)
            parts.append(part[:-2])
            if on_part is not None:
                on_part(part[:-2])
        await reader.readuntil(b"\r\n")
        return status, b"".join(parts), keep
    if "content-length" not in fields:
        return status, await reader.read(-1), False
    return status, await reader.readexactly(int(fields["content-length"])), keep
