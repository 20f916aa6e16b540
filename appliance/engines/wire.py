"""A small HTTP/1.1 client for engines: keep-alive over Unix sockets or local TCP, bytes untouched.

What it is: one request at a time on a pooled connection, parsed by httptools, where everything that came
in one read is handed over as one piece. Closing a response early closes the connection, which is how an
engine learns that its client left.
What it refuses to be: a general client. No redirects, no cookies, no proxies, no compression, no retries
but one: a kept connection that the engine had already closed is replaced once, before any byte came back.
What it costs: about 40 µs a request; general-purpose clients measured 150 µs and more on the same core.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

import httptools

from appliance.engines.address import Address, Network, resolve_local, tls_context
from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineGone, EngineUnavailable

CONNECT_TIMEOUT_S = 5.0
_PAUSE_AT_BYTES = 1024 * 1024
_MAX_WHOLE_BYTES = 64 * 1024 * 1024
_MAX_IDLE = 256
_SETTLE_S = 0.02


class StaleConnection(Exception):
    """A kept connection was closed by the engine before it answered anything."""


class Connection(asyncio.Protocol):
    """One connection and the response being read from it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._silence_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._last_read_s = 0.0
        self.closed = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._pieces: deque[bytes] = deque()
        self._fresh: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._seen_bytes = False
        self.head_done = False
        self.complete = False
        self._kept = False
        self.error: ApplianceError | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.complete:  # more than it promised, or talking out of turn: never trust this connection again
            self.close()
            return
        self._seen_bytes = True
        self._last_read_s = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            self._fail(f"the engine sent something that is not HTTP: {e}")
        if self._fresh:
            piece = self._fresh[0] if len(self._fresh) == 1 else b"".join(self._fresh)
            self._fresh.clear()
            self._pieces.append(piece)
            self._buffered += len(piece)
            if self._buffered > _PAUSE_AT_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.complete and self.error is None:
            if self.head_done and b"content-length" not in self.headers and not self._chunked:
                self.complete = True  # a body that ends with the connection (HTTP/1.0 style)
            else:
                self.error = EngineGone("the engine closed the connection before its answer was complete")
        if self._watch is not None:
            self._watch.cancel()
        self._wake()

    # httptools callbacks

    # Whatever follows the end of the answer is somebody else's: it is not taken in, and the connection,
    # which no longer says what belongs to which request, is not used again.

    def on_message_begin(self) -> None:
        if self.complete:
            self._kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.status = self._parser.get_status_code()
            self.head_done = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._fresh.append(body)

    def on_message_complete(self) -> None:
        if not self.complete:
            self.complete = True
            self._kept = self._parser.should_keep_alive()  # only true inside this callback

    @property
    def _chunked(self) -> bool:
        return self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"

    def _fail(self, text: str) -> None:
        if self.error is None:
            self.error = EngineFailed(text)
        self.close()

    def _check_silence(self) -> None:
        """One timer a connection, re-armed only when it fires: a timer a read would cost more than the read."""
        self._watch = None
        if self.complete or self.closed:
            return
        silent_s = self._loop.time() - self._last_read_s
        if silent_s >= self._silence_s and not self._pieces:
            self.error = DeadlineExceeded(f"the engine said nothing for {self._silence_s:g} s", code="engine_silent")
            self.close()
            self._wake()
        else:
            self._watch = self._loop.call_later(max(self._silence_s - silent_s, 0.05), self._check_silence)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # used by Response and Pool

    def send(self, request: bytes, silence_s: float) -> None:
        """Start a new exchange on this idle connection."""
        if self._transport is None or self.closed:
            raise StaleConnection
        self._reset()
        self._last_read_s = self._loop.time()
        if self._watch is not None and silence_s != self._silence_s:
            self._watch.cancel()
            self._watch = None
        self._silence_s = silence_s
        if self._watch is None and silence_s > 0:
            self._watch = self._loop.call_later(silence_s, self._check_silence)
        self._transport.write(request)

    async def wait(self) -> None:
        """Wait until something changed: bytes, the end, or an error."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def head(self) -> None:
        """Wait for status and headers. Raises StaleConnection or EngineFailed."""
        while not self.head_done:
            if self.error is not None:
                if not self._seen_bytes and isinstance(self.error, EngineFailed):
                    raise StaleConnection
                raise self.error
            await self.wait()

    async def piece(self) -> bytes | None:
        """The next bytes of the body, None at its end. Raises EngineFailed when it breaks off."""
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._buffered -= len(piece)
                if self._paused and self._buffered < _PAUSE_AT_BYTES // 2 and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                return piece
            if self.error is not None:
                raise self.error
            if self.complete:
                return None
            await self.wait()

    @property
    def reusable(self) -> bool:
        """The answer was read to its end and the engine keeps the connection open."""
        return self.complete and not self._pieces and self.error is None and not self.closed and self._kept

    def close(self) -> None:
        """Close now; the engine sees its client leave."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class Response:
    """An answer whose head has arrived. Use as ``async with``; leaving early closes the connection."""

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self._connection = connection
        self._pool = pool
        self.status = connection.status
        self.headers = connection.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.give_back(self._connection)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in the pieces it was read in."""
        while (piece := await self._connection.piece()) is not None:
            yield piece

    async def settle(self) -> None:
        """Give the end of the body a moment to arrive, so that the connection can be kept.

        Servers write the terminating chunk apart from the last event; a connection given back before it came
        could only be closed.
        """
        connection = self._connection
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while not connection.complete and connection.error is None:
                    await connection.wait()

    async def read(self) -> bytes:
        """The whole body, bounded at 64 MiB. Raises EngineFailed when it breaks off or is larger."""
        parts: list[bytes] = []
        size = 0
        while (piece := await self._connection.piece()) is not None:
            parts.append(piece)
            size += len(piece)
            if size > _MAX_WHOLE_BYTES:
                raise EngineFailed("the engine's answer is larger than 64 MiB")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Pool:
    """Connections to one engine."""

    def __init__(
        self,
        address: Address,
        networks: tuple[Network, ...] = (),
        authorization: str = "",
        silence_s: float = 120.0,
    ) -> None:
        self.address = address
        self._silence_s = silence_s
        self._networks = networks
        self._idle: list[Connection] = []
        auth = f"authorization: {authorization}\r\n" if authorization else ""
        self._fixed = f"host: {address.host_header}\r\n{auth}".encode("latin-1")
        self._tls = tls_context(address)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: str = "",
        silence_s: float | None = None,
    ) -> Response:
        """Send one request and wait for the head of the answer.

        ``headers`` is ready-made header text, each line ending in CRLF. ``silence_s`` replaces the pool's bound on
        the gap between two reads; 0 is none, for answers made whole before their first byte, which the caller bounds.
        Raises EngineUnavailable (cannot connect) or EngineFailed (answered with something else than HTTP).
        """
        request = b"%s %s HTTP/1.1\r\n%scontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s" % (
            method.encode(),
            (self.address.prefix + path).encode(),
            self._fixed,
            content_type.encode("latin-1"),
            len(body),
            headers.encode("latin-1"),
            body,
        )
        silence_s = self._silence_s if silence_s is None else silence_s
        if self._idle:
            # one kept connection, then a new one: a request that kills its engine must not go down all of them
            with contextlib.suppress(StaleConnection):
                return await self._exchange(self._idle.pop(), request, silence_s)
        try:
            return await self._exchange(await self._connect(), request, silence_s)
        except StaleConnection:
            raise EngineGone("the engine closed the connection without answering") from None

    async def _exchange(self, connection: Connection, request: bytes, silence_s: float) -> Response:
        try:
            connection.send(request, silence_s)
            await connection.head()
        except BaseException:
            connection.close()
            raise
        return Response(connection, self)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        address = self.address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.socket_path:
                    _, connection = await loop.create_unix_connection(Connection, address.socket_path)
                else:
                    ip = await resolve_local(address, self._networks)
                    _, connection = await loop.create_connection(
                        Connection,
                        ip,
                        address.port,
                        ssl=self._tls,
                        server_hostname=address.host if self._tls else None,
                    )
        except TimeoutError:
            raise EngineUnavailable("the engine did not accept a connection within 5 s") from None
        except OSError as e:
            raise EngineUnavailable(f"the engine is not reachable: {e.strerror or e}") from None
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep the connection if its answer was read whole, close it otherwise."""
        if connection.reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use close when given back."""
        while self._idle:
            with contextlib.suppress(OSError):
                self._idle.pop().close()
