"""``appliance status`` over files alone, and the table it makes of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from appliance.cli.main import main
from appliance.cli.status import look, table
from appliance.settings import Settings, load_settings
from appliance.supervisor import files, history
from appliance.supervisor.history import Ending
from appliance.types import EngineState


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: Unix sockets end at 108 bytes."""
    tmp_path = Path(tempfile.mkdtemp(prefix="ap-"))
    (tmp_path / "appliance.toml").write_text(
        '[engines.chat]\nkind = "fake"\nmodel = "m"\n'
        '[engines.far]\nkind = "openai"\nurl = "http://127.0.0.1:9"\nmodels = ["x"]\n'
    )
    (tmp_path / "run").mkdir()
    yield tmp_path
    shutil.rmtree(tmp_path)


def settings_of(home: Path) -> Settings:
    return load_settings({"APPLIANCE_HOME": str(home)})


def status(home: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["status", *options], env={"APPLIANCE_HOME": str(home), "COLUMNS": "200"})


def write(home: Path, **changes: Any) -> None:
    state = EngineState("chat", "fake", "chat", "ready", "/s", ("m",), "", time.time() - 90, os.getpid(), os.getpid())
    files.write_state(home / "run/chat.json", msgspec.structs.replace(state, **changes))


def rendered(found: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table(found))
    return out.getvalue()


def test_what_was_never_started_is_said_to_be(home: Path) -> None:
    result = status(home, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert (found["ready"], found["gateway"]["phase"], found["served_by"]) == (False, "stopped", None)
    assert (found["engines"]["chat"]["phase"], found["engines"]["chat"]["models"]) == ("stopped", ["m"])
    assert found["engines"]["chat"]["detail"] == "has not been started yet"
    assert found["engines"]["far"]["phase"] == "unknown"


def test_a_running_engine_with_its_memory(home: Path) -> None:
    write(home)
    found = look(settings_of(home))["engines"]["chat"]
    assert (found["phase"], found["engine_pid"]) == ("ready", os.getpid())
    assert found["memory_bytes"] > 1_000_000
    assert "2 min" in rendered(look(settings_of(home)))


def test_a_state_whose_writer_is_dead_is_not_believed(home: Path) -> None:
    write(home, supervisor_pid=2**22 + 1)
    found = look(settings_of(home))["engines"]["chat"]
    assert (found["phase"], found["detail"], found["memory_bytes"]) == ("failed", "its supervisor is gone", 0)


def test_the_last_ends_are_told_newest_first_without_those_that_were_asked_for(home: Path) -> None:
    settings = settings_of(home)
    past = history.read(settings, "chat")
    now = time.time()
    for ago, what in ((7200, "out_of_memory"), (300, "stopped"), (60, "hung")):
        past = past.ended(Ending(now - ago - 5, now - ago, what, 0, "m", 0, ""))
    history.write(settings, "chat", past)
    write(home, phase="failed", detail="hung: why; starting it again in 4 s", exit="hung", next_start_unix_s=now + 4)
    text = rendered(look(settings))
    assert "hung 1 min ago, out of memory 2 h ago" in text
    assert "chat: hung: why; starting it again in 4 s (in " in text
    assert [end["what"] for end in look(settings)["engines"]["chat"]["last_ends"]] == [
        "out_of_memory",
        "stopped",
        "hung",
    ]


def test_off_a_terminal_it_prints_once(home: Path) -> None:
    result = status(home)
    assert result.exit_code == 1
    assert result.output.count("ENGINE") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["engine", "start", "chat"], "no `appliance serve` runs in"),
        (["engine", "stop", "nobody"], "no engine 'nobody' in appliance.toml; configured: chat, far"),
        (["engine", "restart", "far"], "engine 'far' runs elsewhere"),
        (["reload"], "nothing runs in"),
        (["logs", "nobody"], "no engine 'nobody'"),
        (["logs", "chat"], "chat has not been started yet"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(home: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(main, arguments, env={"APPLIANCE_HOME": str(home)})
    assert result.exit_code in (1, 64)
    assert says in result.stderr and result.stderr.count("\n") == 1
