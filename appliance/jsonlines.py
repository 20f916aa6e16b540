"""One JSON object a line each way, on a Unix socket that only its owner can open.

What it is: the loop behind ``run/control.sock`` (gateway), ``run/NAME.ctl`` (an engine's supervisor) and
``run/serve.ctl``: ``{"op": "status"}`` gives ``{"ok": true, …}`` or ``{"ok": false, "error": …}``.
What it refuses to be: reachable over the network, or an HTTP surface.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

Message = dict[str, Any]
Operation = Callable[[Message], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
LINE_LIMIT_BYTES = 64 * 1024


class Refusal(Exception):
    """An operation that will not be done; the text is the sentence for whoever asked."""


def understood(line: bytes, operations: Mapping[str, Operation]) -> tuple[Operation, Message]:
    """The operation that ``line`` asks for. Raises Refusal."""
    try:
        message = msgspec.json.decode(line, type=Message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal("send one JSON object a line") from None
    operation = operations.get(str(message.get("op")))
    if operation is None:
        known = ", ".join(sorted(operations))
        raise Refusal(f"unknown operation {message.get('op')!r}; known: {known}")
    return operation, message


def yes(answer: Mapping[str, Any]) -> bytes:
    """The line of an operation that was done."""
    return msgspec.json.encode({"ok": True, **answer}) + b"\n"


def no(sentence: str) -> bytes:
    """The line of one that was not."""
    return msgspec.json.encode({"ok": False, "error": sentence}) + b"\n"


@contextlib.contextmanager
def owner_only() -> Any:
    """Sockets bound inside are created with mode 0600."""
    old = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(old)


class LineServer:
    """Answers ``operations`` until closed. ``explain`` turns what an operation raised into a sentence, or raises."""

    def __init__(
        self, path: Path, operations: Mapping[str, Operation], explain: Callable[[Exception], str] | None = None
    ) -> None:
        self._path = path
        self._operations = operations
        self._explain = explain
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket in the way is a dead one's: whoever may listen here holds a lock or a port."""
        self._path.unlink(missing_ok=True)
        with owner_only():
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_LIMIT_BYTES)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line over the limit
            while line := await reader.readline():
                writer.write(await self._answer(line))
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            operation, message = understood(line, self._operations)
            answer = operation(message)
            return yes(await answer if inspect.isawaitable(answer) else answer)
        except Refusal as e:
            return no(str(e))
        except Exception as e:
            if self._explain is None:
                raise
            return no(self._explain(e))
