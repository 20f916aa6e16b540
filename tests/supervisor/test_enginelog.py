"""Engines' logs through a pipe: whole, rotated, and in the format that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from appliance.settings import LogSettings
from appliance.supervisor.enginelog import EngineLog
from appliance.supervisor.exits import last_error


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def everything(logs: Path, name: str = "e") -> list[str]:
    """All lines in the order they were written."""
    files = sorted(logs.glob(f"{name}.log*"), key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)
    return [line for path in files for line in written(path).splitlines()]


def test_an_engine_that_keeps_its_output_open_loses_no_line_to_rotation(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "e", LogSettings(max_bytes=4096, keep=1000))
    code = "import os\nfor n in range(5000): os.write(1, f'{n:06d} {\"x\" * (n % 50)}\\n'.encode())"
    processes = [subprocess.Popen((sys.executable, "-c", code), stdout=log.fd, stderr=log.fd) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    log.close()
    found = sorted(int(line.split()[0]) for line in everything(tmp_path))
    assert found == sorted([*range(5_000)] * 2)
    assert len(list(tmp_path.iterdir())) > 50


def test_the_last_words_are_there_when_close_returns(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "e", LogSettings())
    os.write(log.fd, b"RuntimeError: half a line, and dead")
    log.close()
    log.close()
    assert written(tmp_path / "e.log") == "RuntimeError: half a line, and dead\n"


def test_a_run_begins_with_a_file_of_its_own(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n", b"third\n"):
        log = EngineLog(tmp_path, "e", LogSettings(keep=1))
        os.write(log.fd, text)
        log.close()
    assert (written(tmp_path / "e.log"), written(tmp_path / "e.log.1")) == ("third\n", "second\n")
    assert not (tmp_path / "e.log.2").exists()


def test_json_has_level_and_engine_and_the_error_is_still_found_in_it(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "chat", LogSettings(format="json"))
    os.write(log.fd, b"(EngineCore pid=7) WARNING 11-25 [x.py:1] careful\nValueError: no memory\n")
    log.close()
    first, second = (json.loads(line) for line in written(tmp_path / "chat.log").splitlines())
    assert (first["level"], first["process"]) == ("warning", "chat")
    assert second["message"] == "ValueError: no memory"
    assert last_error(tmp_path / "chat.log") == "ValueError: no memory"


def test_a_line_without_end_is_cut_and_bytes_that_are_no_text_pass(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "e", LogSettings())
    with os.fdopen(os.dup(log.fd), "wb") as file:
        file.write(b"a" * 200_000 + b"\n\xff\xfe progress\r\n")
    log.close()
    lines = written(tmp_path / "e.log").split("\n")
    assert "".join(lines[:-2]) == "a" * 200_000 and max(map(len, lines)) <= 2 * 64 * 1024
    assert lines[-2].endswith(" progress")


def test_a_key_that_an_engine_prints_is_blotted_out(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "e", LogSettings())
    os.write(log.fd, b"Authorization: Bearer ak-abcdefghijkl\n")
    log.close()
    assert written(tmp_path / "e.log") == "Authorization: Bearer [secret]\n"


def test_a_process_that_will_not_die_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    log = EngineLog(tmp_path, "e", LogSettings())
    other = os.dup(log.fd)
    os.write(other, b"here\n")
    log.close()  # returns although another still has the pipe open
    assert log.fd == -1
    os.close(other)
