"""Callers: connections that are there before they are needed, and ones the server has closed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance_bench.calling import Ask, Caller, closed_loop, open_loop


class Server:
    """Answers 200; ``close_after`` so many answers a connection is closed."""

    def __init__(self, close_after: int) -> None:
        self.connections = self.answers = 0
        self._close_after = close_after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._close_after):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            self.answers += 1
        writer.close()


@asynccontextmanager
async def served(close_after: int = 1000) -> AsyncIterator[tuple[Server, Caller]]:
    it = Server(close_after)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    caller = Caller("127.0.0.1", server.sockets[0].getsockname()[1], "key")
    try:
        yield it, caller
    finally:
        caller.close()
        await asyncio.sleep(0.01)  # the server sees it
        server.close()


ASK = Ask("/v1/x", b"{}", 1.0)


async def test_an_open_loop_has_its_connections_before_its_first_request() -> None:
    async with served() as (server, caller):
        rows = await open_loop(caller, [ASK] * 40, [0.001 * n for n in range(40)])
        assert all(row.ok for row in rows)
        assert (server.connections, server.answers) == (40, 40)
        assert all(row.e2e_ms >= row.ttft_ms > 0 for row in rows)
        await closed_loop(caller, [ASK] * 9, 3)
        assert (server.connections, server.answers) == (40, 49)  # they are used again


async def test_a_connection_that_was_closed_meanwhile_is_not_an_answer_that_failed() -> None:
    async with served(close_after=1) as (server, caller):
        for _ in range(3):
            _, rows = await closed_loop(caller, [ASK] * 4, 2)
            await asyncio.sleep(0.02)  # the end of the connection arrives
            assert sum(row.ok for row in rows[:2]) == 2
        assert server.answers >= 6


async def test_no_server_is_in_the_row_and_ends_nothing() -> None:
    _, rows = await closed_loop(Caller("127.0.0.1", 1, "key"), [ASK] * 2, 1)
    assert [row.ok for row in rows] == [False, False]
    assert rows[0].error == "ConnectionRefusedError"
