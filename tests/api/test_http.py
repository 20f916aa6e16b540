"""One exchange without a server: how long a body may take, who cancelled it, and the first of two headers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.api.http import Exchange
from appliance.errors import TooLarge, UploadTooSlow


def exchange(*parts: bytes | None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Exchange:
    """Its body comes in ``parts``; None never comes."""
    coming = list(parts)

    async def receive() -> dict[str, Any]:
        part = coming.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(coming)}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    return Exchange({"type": "http", "headers": headers}, receive, send)


async def test_a_body_that_comes_in_time() -> None:
    assert await exchange(b"a", b"b").body_within(5, 10, "x") == b"ab"
    with pytest.raises(TooLarge, match=r"raise x in appliance\.toml"):
        await exchange(b"a" * 6, b"b" * 6).body_within(5, 10, "x")


async def test_a_body_that_does_not_come_is_given_up() -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(UploadTooSlow, match=r"within 0\.01 s; send less"):
        await exchange(b"a", None).body_within(0.01, 10, "x")
    assert task.cancelling() == 0  # and the request goes on to answer


async def test_a_request_cancelled_while_its_body_comes_is_cancelled() -> None:
    waiting = asyncio.ensure_future(exchange(b"a", None).body_within(60, 10, "x"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_first_of_two_headers_counts() -> None:
    one = exchange(headers=((b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")))
    assert (one.header(b"x-a"), one.header(b"x-b"), one.header(b"x-c")) == ("1", "2", "")
