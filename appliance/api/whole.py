"""A whole answer in one write, where uvicorn's own way takes two and reads every header once more.

What it is: what ``RequestResponseCycle.send`` comes to for a complete 200 on a connection that stays open, without
what an answer built here does not need: two ASGI messages, two coroutines, two writes to the socket, two regular
expressions a header.
What it refuses to be: a server. Whatever is out of the ordinary (another server, a uvicorn whose code nobody here
has read, a caller that reads slowly or has left, a connection about to close) goes by ASGI, as everything did.
"""

from __future__ import annotations

from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# this writes past uvicorn's interface: read `RequestResponseCycle.send` of a new version before adding it
READ_VERSIONS = frozenset({"0.54.0"})

_READ = uvicorn.__version__ in READ_VERSIONS
_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])


def write(send: Any, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
    """Write status 200, ``headers`` and ``body`` and end the exchange. False: nothing was done, ASGI has to do it.

    ``headers`` hold content-length, which is the body's, and neither connection nor transfer-encoding; names are in
    lower case. A control character in a value is left to uvicorn, which refuses it.
    """
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or not _READ:
        return False
    if (
        cycle.response_started
        or cycle.disconnected
        or not cycle.keep_alive
        or cycle.flow.write_paused
        or cycle.access_log
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    lines = [b"HTTP/1.1 200 OK"]
    lines += [b"%b: %b" % header for header in cycle.default_headers]
    lines += [b"%b: %b" % header for header in headers]
    head = b"\r\n".join(lines)
    if len(head.translate(None, _CONTROLS)) != len(head) - 2 * (len(lines) - 1):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"%b\r\n\r\n%b" % (head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True
