"""Talking to a running process over its socket: the gateway (``run/control.sock``), an engine's supervisor
(``run/NAME.ctl``), ``appliance serve`` (``run/serve.ctl``).

What it is: one request, one answer, each a JSON object on a line.
What it refuses to be: asynchronous; a command asks one thing and ends.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

_TIMEOUT_S = 10.0


class Refused(Exception):
    """The gateway understood and said no; the text is its sentence."""


def ask(
    path: Path, op: str, *, timeout_s: float = _TIMEOUT_S, who: str = "the gateway", **fields: object
) -> dict[str, Any] | None:
    """The answer of ``who``, or None when nobody listens. Raises Refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(bytes(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as e:
            raise Refused(f"{who} did not answer on {path} ({e}); see whether it is overloaded") from None
    if not line:
        raise Refused(f"{who} closed {path} without an answer; try again")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok", False):
        raise Refused(str(answer.get("error", f"{who} refused without a reason")))
    return answer
