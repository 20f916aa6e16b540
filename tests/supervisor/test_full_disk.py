"""A full disk under APPLIANCE_HOME: nothing that keeps engines running ends, and all is well when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import START_S, Served, configure
from support import wait_until

from appliance.supervisor import files, history
from appliance.supervisor.child import Child
from appliance.types import EngineState

STATE = EngineState("e", "fake", "chat", "ready", "/s", ("m",), "", 1.5, 2, 3, 4)


@pytest.fixture
def small_home() -> Iterator[Path]:
    """A home on a file system of 4 MB."""
    where = Path(tempfile.mkdtemp(prefix="ap-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(where)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        where.rmdir()
        pytest.skip("a disk of its own can only be mounted by root with CAP_SYS_ADMIN")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
    where.rmdir()


def fill(home: Path) -> Path:
    filler = home / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_serve_and_its_engines_outlive_it(small_home: Path, environ: dict[str, str]) -> None:
    configure(small_home)
    served = Served(small_home, {**environ, "APPLIANCE_HOME": str(small_home)}, {})
    try:
        served.wait_for("base URL")
        filler = fill(small_home)
        before = served.supervisor_of("chat")
        argv = (sys.executable, "-m", "appliance", "engine", "restart", "chat")
        subprocess.run(argv, env={**environ, "APPLIANCE_HOME": str(small_home)}, cwd="/", timeout=60, check=True)
        wait_until(lambda: served.lines.count("chat: starting chat-model") == 2, START_S, "it was started again")
        filler.unlink()
        wait_until(
            lambda: moved(served, before) and served.state("chat")["phase"] == "ready", START_S, "and is back by itself"
        )
        assert served.process.poll() is None
    finally:
        served.close()


def moved(served: Served, before: int) -> bool:
    return served.supervisor_of("chat") != before


def test_a_state_that_cannot_be_written_leaves_the_old_one_and_no_half(small_home: Path) -> None:
    path = small_home / "run" / "e.json"
    assert files.write_state(path, STATE)
    fill(small_home)
    large = EngineState("e", "fake", "chat", "failed", "/s", ("m",), "x" * 100_000, 1.5, 2, 3, 4)
    assert not files.write_state(path, large)
    assert files.read_state(path) == STATE
    assert [one.name for one in path.parent.iterdir()] == ["e.json"]


def test_what_is_no_directory_is_no_end_either(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    assert not files.write_state(tmp_path / "run" / "e.json", STATE)
    assert not files.replace_file(tmp_path / "run" / "deep" / "x", b"")


def test_a_log_that_cannot_be_opened_keeps_no_child_from_starting(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    child = Child("e", ("--version",), dict(os.environ), tmp_path / "logs" / "e.log")
    child.start(0.0)
    assert child.process is not None and child.process.wait(30) == 0


def test_a_child_that_cannot_be_forked_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    child = Child("e", (), {}, tmp_path / "e.log")
    child.start(5.0)
    assert (child.phase, child.pid) == ("waiting", 0) and child.due_at > 5.0


def test_a_history_is_made_with_its_directory(tmp_path: Path) -> None:
    from appliance.settings import Settings

    settings = Settings(home=tmp_path / "new", run=tmp_path / "run")
    assert history.write(settings, "chat", history.History(history.digest(settings.engines["chat"]), profile=2))
    assert history.read(settings, "chat").profile == 2
