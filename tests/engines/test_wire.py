"""The client against a scripted server: keep-alive, cuts, silence, stale connections, back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.engines.address import Address
from appliance.engines.wire import Pool
from appliance.errors import DeadlineExceeded, EngineFailed, EngineUnavailable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(length)


def pool_of(server: Any, silence_s: float = 5.0) -> Pool:
    return Pool(Address(socket_path=str(server.path)), silence_s=silence_s)


async def whole(pool: Pool, body: bytes = b"{}") -> bytes:
    async with await pool.request("POST", "/x", body) as response:
        return await response.read()


def forever(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(answer)

    return handler


async def test_a_connection_is_kept_and_used_again(server: Any) -> None:
    await server.start(forever(OK))
    pool = pool_of(server)
    assert [await whole(pool) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


async def test_a_stale_connection_is_replaced_once(server: Any) -> None:
    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        if server.connections == 1:
            await read_request(reader)  # takes the second request and hangs up without a word
        else:
            await read_request(reader)

    await server.start(one_answer)
    pool = pool_of(server)
    assert await whole(pool) == b"ok"
    assert await whole(pool) == b"ok"
    assert server.connections == 2


async def test_a_new_connection_that_says_nothing_is_an_error_not_a_loop(server: Any) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    await server.start(hang_up)
    with pytest.raises(EngineFailed, match="without answering"):
        await whole(pool_of(server))
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", id="content-length not reached"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", id="chunks without an end"),
        pytest.param(b"\x00\x01garbage\r\n\r\n", id="not HTTP"),
    ],
)
async def test_a_broken_answer_is_an_error(server: Any, answer: bytes) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    await server.start(once)
    with pytest.raises(EngineFailed):
        await whole(pool_of(server))


async def test_more_than_was_promised_never_reaches_the_next_request(server: Any) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await writer.drain()
        await reader.read()

    await server.start(handler)
    pool = pool_of(server)
    assert await whole(pool) == b"ok"
    assert await whole(pool) == b"ok"


async def test_silence_ends_in_its_own_error(server: Any) -> None:
    async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        await reader.readexactly(1)

    await server.start(head_only)
    with pytest.raises(DeadlineExceeded) as caught:
        await whole(pool_of(server, silence_s=0.1))
    assert caught.value.code == "engine_silent"


async def test_no_socket_is_unavailable(server: Any) -> None:
    await server.start(forever(OK))
    with pytest.raises(EngineUnavailable, match="not reachable"):
        await whole(Pool(Address(socket_path=str(server.path) + "-missing")))


async def test_leaving_early_closes_the_connection(server: Any) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4\r\ntick\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    await server.start(endless)
    async with await pool_of(server).request("POST", "/x") as response:
        async for piece in response.pieces():
            assert piece.startswith(b"tick")
            break
    async with asyncio.timeout(5):
        await server.closed_by_client.wait()


async def test_a_slow_reader_stops_the_engine_from_filling_memory(server: Any) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        total = 64 * 1024 * 1024
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    await server.start(flood)
    async with await pool_of(server).request("POST", "/x") as response:
        before = -1
        while before != sent:  # until the writer is blocked by back-pressure
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 16 * 1024 * 1024
        size = 0
        async for piece in response.pieces():
            size += len(piece)
    assert size == 64 * 1024 * 1024
