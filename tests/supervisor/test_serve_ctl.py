"""What ``appliance serve`` is asked: whatever the line is, its loop goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.jsonlines import LINE_LIMIT_BYTES
from appliance.supervisor.serve_ctl import ServeCtl


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[ServeCtl]:
    made = ServeCtl(tmp_path / "s", {"status": lambda _: {"n": 1}, "broken": lambda message: message["absent"]})
    yield made
    made.close()


def ask(ctl: ServeCtl, path: Path, line: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(bytes(path))
        client.sendall(line)
        ctl.answer()
        try:
            said = client.recv(65536)
        except ConnectionError:  # it was not read to its end
            return None
        return json.loads(said) if said else None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"\xff\x00\n", "send one JSON object a line"),
        pytest.param(b'{"op": ' + b"[" * 60_000 + b"\n", "send one JSON object a line", id="nested"),
        (b'{"op": "dance"}\n', "unknown operation 'dance'"),
        (b'{"op": "broken"}\n', "that failed here (KeyError)"),
    ],
)
def test_what_cannot_be_done_is_said(ctl: ServeCtl, tmp_path: Path, line: bytes, says: str) -> None:
    assert says in ask(ctl, tmp_path / "s", line)["error"]
    assert ask(ctl, tmp_path / "s", b'{"op": "status"}\n') == {"ok": True, "n": 1}


def test_a_line_without_end_or_without_a_line_is_left(ctl: ServeCtl, tmp_path: Path) -> None:
    ask(ctl, tmp_path / "s", b"x" * (LINE_LIMIT_BYTES + 1))
    ask(ctl, tmp_path / "s", b"{")  # half a second, and then the next
    assert ask(ctl, tmp_path / "s", b'{"op": "status"}\n') == {"ok": True, "n": 1}
