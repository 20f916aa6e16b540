"""Work that ends when its caller leaves.

What it is: ``attended(receive, job)`` runs a job beside the ASGI channel on which a disconnect is announced.
What it refuses to be: a timeout. It neither knows nor sets one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

V = TypeVar("V")


class ClientGone(Exception):
    """The caller closed the connection before the answer."""


async def attended(receive: Receive, job: Coroutine[Any, Any, V]) -> V:
    """The result of ``job``, which is cancelled (and has ended) when the caller leaves first: ClientGone."""
    task = asyncio.ensure_future(job)
    watch = asyncio.ensure_future(_leaves(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
