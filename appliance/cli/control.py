"""Talking to a running gateway over ``run/control.sock``.

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


def ask(path: Path, op: str, **fields: object) -> dict[str, Any] | None:
    """The gateway's answer, or None when no gateway runs. Raises Refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(bytes(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as e:
            raise Refused(f"the gateway did not answer on {path} ({e}); see whether it is overloaded") from None
    if not line:
        raise Refused(f"the gateway closed {path} without an answer; try again")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok", False):
        raise Refused(str(answer.get("error", "the gateway refused without a reason")))
    return answer
