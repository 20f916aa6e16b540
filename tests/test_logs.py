"""Logs that rotate, that programs can read, and that hold nothing they must not."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance import logs
from appliance.errors import BadRequest
from appliance.logs import RotatingLog, SafeFormatter, blotted, described, level_of, plain, traced

PROMPT = "my PAN is ABCDE1234F"


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as it was."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("appliance.x", logging.WARNING, "x.py", 1, message, args, info)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as e:
        return e


# what must not be in a log


@pytest.mark.parametrize(
    "text",
    [
        "the key ak-Xy12_34-abcdefgh was refused",
        "Authorization: Bearer abc.def-ghi",
        "postgresql://appliance:s3cret@db.local/ledger",
        "sk-proj-abcdefghijklmnop",
        "key=AIzaSyA1234567890abcdefghijkl",
    ],
)
def test_secrets_are_blotted_out(text: str) -> None:
    shown = blotted(text)
    assert "[secret]" in shown
    for part in ("Xy12", "abc.def", "s3cret", "abcdefghijklm", "A1234567"):
        assert part not in shown


def test_what_only_looks_like_a_secret_stays() -> None:
    for text in ("http://db.local:5432/x", "see /home/a@b", "ak-47", "the bearer of bad news"):
        assert blotted(text) == text or "bearer" in text


def test_an_exceptions_message_is_written_only_where_it_quotes_nobody() -> None:
    assert PROMPT not in described(ValueError(PROMPT))
    assert described(OSError(errno.ENOSPC, "No space left on device")).endswith("No space left on device")
    assert described(BadRequest("too long")) == "BadRequest: too long"
    assert described(RuntimeError("CUDA failed"), (RuntimeError,)) == "RuntimeError: CUDA failed"


def test_a_database_error_does_not_bring_its_parameters() -> None:
    engine = sa.create_engine("sqlite://")
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, engine.connect() as connection:
        connection.execute(sa.text("INSERT INTO nowhere VALUES (:x)"), {"x": PROMPT})
    engine.dispose()
    assert PROMPT in str(caught.value)  # or this would test nothing
    shown = SafeFormatter("text", "gateway").format(record("failed (%s)", caught.value, error=caught.value))
    assert PROMPT not in shown and "no such table: nowhere" in shown


def test_a_trace_tells_where_and_through_which_causes_but_no_values() -> None:
    try:
        try:
            int(PROMPT)
        except ValueError as e:
            raise sqlite3.OperationalError("disk I/O error") from e
    except sqlite3.OperationalError as e:
        shown = traced(e)
    assert PROMPT not in shown
    assert shown.count(f"{__file__}:") == 2
    assert "OperationalError: disk I/O error\ncaused by\n" in shown


def test_causes_that_form_a_ring_end() -> None:
    one, two = raised(OSError("one")), raised(OSError("two"))
    one.__cause__, two.__cause__ = two, one
    assert traced(one).count("caused by") == 2


# formats


def test_json_is_one_object_a_line_also_with_a_trace() -> None:
    line = SafeFormatter("json", "gateway").format(record("हिन्दी %s", "x\ny", error=raised(OSError("z"))))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["process"], found["logger"]) == ("warning", "gateway", "appliance.x")
    assert found["message"] == "हिन्दी x\ny" and found["trace"].endswith("OSError: z")
    assert found["ts"].endswith("Z")


def test_text_is_for_people() -> None:
    line = SafeFormatter("text", "gateway").format(record("%d %s", 3, "things"))
    assert line.endswith("Z WARNING appliance.x: 3 things")


def test_a_mistake_in_a_log_line_does_not_hide_it() -> None:
    assert "%d things" in SafeFormatter("text", "g").format(record("%d things", "three"))
    assert "{'a': 1} b" in SafeFormatter("text", "g").format(record("%s b", {"a": 1}))


def test_plain_undoes_json_and_leaves_text() -> None:
    line = logs.json_line(0.0, "chat", "ERROR", "ValueError: é").encode()
    assert plain(line) == "ValueError: é".encode()
    for other in (b"text", b'{"ts"broken', b'{"ts": 1}', b""):
        assert plain(other) == other


def test_levels_of_an_engines_lines() -> None:
    assert level_of("(EngineCore pid=28283) INFO 11-25 19:48:54 [utils.py:347] Using ERROR") == "INFO"
    assert level_of("ERROR 11-25") == "ERROR"
    assert level_of("Traceback (most recent call last):") == "INFO"


# files


def test_nothing_is_lost_when_files_rotate_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "x.log", 1000, 3)
    for n in range(550):
        log.write(f"line {n:04d}\n".encode())
    log.close()
    files = [tmp_path / name for name in ("x.log.3", "x.log.2", "x.log.1", "x.log")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)
    assert all(path.stat().st_size <= 1000 for path in files)
    numbers = [int(line.split()[1]) for path in files for line in path.read_text().splitlines()]
    assert numbers == list(range(200, 550))  # 100 a file, the two oldest files are gone


def test_a_line_larger_than_a_file_is_kept_whole(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "x.log", 100, 1)
    log.write(b"a\n")
    log.write(b"b" * 500 + b"\n")
    log.close()
    assert (tmp_path / "x.log").stat().st_size == 501 and (tmp_path / "x.log.1").read_bytes() == b"a\n"


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"before\n")
    log = RotatingLog(tmp_path / "x.log", 1000, 1)
    log.write(b"after\n")
    log.close()
    assert (tmp_path / "x.log").read_bytes() == b"before\nafter\n"


def test_a_full_disk_loses_lines_and_says_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RotatingLog(tmp_path / "x.log", 1000, 1)
    log.write(b"one\n")
    real = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(b"two\n")
    log.write(b"three\n")
    monkeypatch.setattr(os, "write", real)
    log.write(b"four\n")
    log.close()
    assert (tmp_path / "x.log").read_bytes() == b"one\n[2 lines were lost here: the disk was full]\nfour\n"


def test_a_log_that_nobody_writes_to_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    logs.set_aside(path, 3)
    path.write_bytes(b"abc")
    logs.set_aside(path, 3)
    assert path.exists()
    path.write_bytes(b"abcd")
    logs.set_aside(path, 3)
    assert not path.exists() and (tmp_path / "x.log.1").read_bytes() == b"abcd"


# a process


def test_set_up_writes_to_the_stream_and_the_file(tmp_path: Path, restored: None) -> None:
    stream = io.StringIO()
    logs.set_up("gateway", "json", tmp_path / "logs/gateway.log", 10_000, 2, stream)
    logging.getLogger("appliance.x").warning("hello")
    logging.getLogger("uvicorn.error").info("too chatty")
    assert json.loads(stream.getvalue())["message"] == "hello"
    assert (tmp_path / "logs/gateway.log").read_text() == stream.getvalue()
    logs.set_up("gateway", "text", stream=stream)  # again: no line twice
    logging.getLogger("appliance.x").warning("again")
    assert stream.getvalue().count("again") == 1


def test_a_file_that_cannot_be_written_is_no_reason_to_be_down(tmp_path: Path, restored: None) -> None:
    (tmp_path / "logs").write_text("a file, not a directory")
    stream = io.StringIO()
    logs.set_up("gateway", "text", tmp_path / "logs/gateway.log", 10_000, 2, stream)
    assert "cannot be written" in stream.getvalue()
