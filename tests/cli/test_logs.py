"""``appliance logs``: the end of a log, and what is added to it, through a turn-over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.cli.main import main
from appliance.supervisor import files
from appliance.types import EngineState

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: Unix sockets end at 108 bytes."""
    tmp_path = Path(tempfile.mkdtemp(prefix="ap-"))
    (tmp_path / "appliance.toml").write_text('[engines.chat]\nkind = "fake"\nmodel = "m"\n')
    (tmp_path / "logs").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "logs/chat.log").write_text("".join(f"line {n}\n" for n in range(100)))
    yield tmp_path
    shutil.rmtree(tmp_path)


def logs(home: Path, *options: str) -> str:
    return CliRunner().invoke(main, ["logs", "chat", *options], env={"APPLIANCE_HOME": str(home)}).output


def test_the_last_lines(home: Path) -> None:
    assert logs(home, "-n", "2") == "line 98\nline 99\n"
    assert logs(home).startswith("line 50\n")
    assert logs(home, "-n", "0") == ""


def test_a_swapped_engine_is_read_where_it_lives(home: Path) -> None:
    (home / "logs/chat.b.log").write_text("second place\n")
    state = EngineState("chat", "fake", "chat", "ready", str(home / "run/chat.b.sock"), ("m",), "", 0.0, 1, 1)
    files.write_state(home / "run/chat.json", state)
    assert logs(home) == "second place\n"


@pytest.fixture
def following(home: Path) -> Iterator[subprocess.Popen[str]]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
    process = subprocess.Popen(
        (sys.executable, "-m", "appliance", "logs", "chat", "-f", "-n", "1"),
        env={**environ, "APPLIANCE_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_following_goes_on_in_the_file_that_takes_its_place(home: Path, following: subprocess.Popen[str]) -> None:
    assert following.stdout is not None
    path = home / "logs/chat.log"
    assert following.stdout.readline() == "line 99\n"
    with path.open("a") as log:
        log.write("added\n")
    assert following.stdout.readline() == "added\n"
    path.replace(home / "logs/chat.log.1")
    path.write_text("a new start\n")
    assert following.stdout.readline() == "a new start\n"
