"""The client of the engines: connections that a server has closed as idle are no failed requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance_bench.wire import Client, Unanswered

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


async def one_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))


@asynccontextmanager
async def served(serve: Serve, path: Path) -> AsyncIterator[Client]:
    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(careful, str(path / "s"))
    client = Client(str(path / "s"))
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0.01)
        server.close()


async def test_a_connection_closed_as_idle_is_not_used(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await one_request(reader)
        writer.write(OK)

    async with served(serve, tmp_path) as client:
        for _ in range(3):
            assert await client.post("/x", b"{}") == (200, b"{}")
            await asyncio.sleep(0.02)  # the server's end arrives
    assert connections == 3


async def test_a_connection_closed_under_a_request_is_tried_once_more(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await one_request(reader))
        writer.write(OK)
        if len(bodies) == 1:
            await reader.readuntil(b"\r\n\r\n")  # and closes without an answer

    async with served(serve, tmp_path) as client:
        assert await client.post("/x", b"1") == (200, b"{}")
        assert await client.post("/x", b"2") == (200, b"{}")
    assert bodies == [b"1", b"2"]


async def test_a_connection_that_ends_inside_an_answer_is_no_answer(tmp_path: Path) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await one_request(reader)
            asked += 1
            writer.write(OK if asked == 1 else OK[:-1])
            if asked > 1:
                return

    async with served(serve, tmp_path) as client:
        assert await client.post("/x", b"1") == (200, b"{}")
        with pytest.raises(Unanswered, match="ended before the answer did"):
            await client.post("/x", b"2")
    assert asked == 2  # an answer that had begun is not asked for again


async def test_a_new_connection_that_is_closed_is_not_tried_again(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await one_request(reader)

    async with served(serve, tmp_path) as client:
        with pytest.raises(Unanswered):
            await client.post("/x", b"1")
    assert connections == 1
