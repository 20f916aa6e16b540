"""A scripted engine on a Unix socket, for the adapters' tests."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A socket server that runs one handler a connection and counts connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.closed_by_client = asyncio.Event()

    async def start(self, handler: Handler) -> None:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.closed_by_client.set()
            finally:
                writer.close()

        self._server = await asyncio.start_unix_server(run, str(self.path))

    async def stop(self) -> None:
        self._server.close()

    def address(self) -> str:
        """The socket path."""
        return str(self.path)

    async def answer(self, status: str, content_type: str, body: bytes, headers: str = "") -> list[bytes]:
        """Answer every request the same; gives the list that collects the requests."""
        requests: list[bytes] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
                )
                requests.append(head + await reader.readexactly(length))
                fixed = (
                    f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{headers}content-length: {len(body)}\r\n\r\n"
                )
                writer.write(fixed.encode() + body)

        await self.start(handler)
        return requests


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    directory = tempfile.mkdtemp(prefix="ap-")
    server = Server(Path(directory) / "s")
    yield server
    await server.stop()
    shutil.rmtree(directory)
