"""``run/NAME.ctl``: one JSON object a line each way, to one engine's supervisor.

What it is: ``{"op": "stop"}`` and ``{"op": "status"}``, answered ``{"ok": true, …}`` or ``{"ok": false,
"error": …}``, on a socket only its owner can open (0600 in a 0700 directory).
What it refuses to be: reachable over the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

Operation = Callable[[], Mapping[str, Any]]
_LINE_LIMIT_BYTES = 64 * 1024


class Ctl:
    """Answers ``operations`` on a Unix socket until closed."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; the caller holds the engine's lock, so a socket in the way is a dead one's."""
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=_LINE_LIMIT_BYTES)
        finally:
            os.umask(old)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line over the limit
            while line := await reader.readline():
                writer.write(msgspec.json.encode(self._answer(line)) + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {"ok": False, "error": "send one JSON object a line"}
        operation = self._operations.get(str(message.get("op")))
        if operation is None:
            known = ", ".join(sorted(self._operations))
            return {"ok": False, "error": f"unknown operation {message.get('op')!r}; known: {known}"}
        return {"ok": True, **operation()}
