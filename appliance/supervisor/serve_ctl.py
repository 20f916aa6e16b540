"""``run/serve.ctl``: what ``appliance serve`` itself can be asked.

What it is: ``start``, ``stop``, ``status`` and ``reload`` over ``jsonlines``' messages, one line and one answer at a
time, from the loop of ``serve`` (which has one thread and no event loop).
What it refuses to be: a way for a slow client to stop the loop: who has connected has half a second to say its line.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path

from appliance.jsonlines import LINE_LIMIT_BYTES, Operation, Refusal, no, owner_only, understood, yes

_LINE_WITHIN_S = 0.5


class ServeCtl:
    """A listening socket whose ``answer`` is called when ``fileno`` is readable."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = operations
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)  # the caller holds serve.lock
        with owner_only():
            self._listener.bind(bytes(path))
        self._listener.listen(8)

    def fileno(self) -> int:
        """For select."""
        return self._listener.fileno()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def answer(self) -> None:
        """One connection, if there is one."""
        with contextlib.suppress(OSError):  # it left, or was too slow
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_LINE_WITHIN_S)
                if line := _line(connection):
                    connection.sendall(self._reply(line))

    def _reply(self, line: bytes) -> bytes:
        try:
            operation, message = understood(line, self._operations)
            answer = operation(message)
            assert isinstance(answer, Mapping)
            return yes(answer)
        except Refusal as e:
            return no(str(e))
        except Exception as e:  # whoever asked for it, the loop that keeps everything running goes on
            return no(f"that failed here ({type(e).__name__}); this is a fault of the appliance, please report it")


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < LINE_LIMIT_BYTES:
        piece = connection.recv(4096)
        if not piece:
            return b""
        data += piece
    return data
