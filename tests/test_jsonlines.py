"""The JSON-lines loop: what is understood, what is refused, who may connect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.jsonlines import LineServer, Message, Refusal


async def later(message: Message) -> Mapping[str, Any]:
    await asyncio.sleep(0)
    return {"heard": message["text"]}


def refuse(_: Message) -> Mapping[str, Any]:
    raise Refusal("not now")


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    found = tmp_path / "s"
    found.write_text("a dead one's")
    operations = {"now": lambda _: {"n": 1}, "later": later, "refuse": refuse, "broken": lambda m: m["absent"]}
    server = LineServer(found, operations, lambda e: f"explained {type(e).__name__}")
    await server.start()
    yield found
    await server.close()
    assert not found.exists()


async def ask(path: Path, *lines: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    return answers


async def test_several_lines_on_one_connection(path: Path) -> None:
    assert await ask(path, b'{"op": "now"}', b'{"op": "later", "text": "x"}') == [
        {"ok": True, "n": 1},
        {"ok": True, "heard": "x"},
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"[1", "send one JSON object a line"),
        (b"7", "send one JSON object a line"),
        pytest.param(b'{"op": ' + b"[" * 60_000, "send one JSON object a line", id="nested"),
        (b'{"op": "dance"}', "unknown operation 'dance'; known: broken, later, now, refuse"),
        (b'{"op": "refuse"}', "not now"),
        (b'{"op": "broken"}', "explained KeyError"),
    ],
)
async def test_what_is_not_done_says_why_and_the_connection_lives_on(path: Path, line: bytes, error: str) -> None:
    assert await ask(path, line, b'{"op": "now"}') == [{"ok": False, "error": error}, {"ok": True, "n": 1}]


async def test_only_the_owner_can_connect(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
