"""``appliance bench`` passes its arguments on to a process of its own and brings the exit code back."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from appliance.cli import bench as cli
from appliance.cli.main import main
from appliance_bench.__main__ import COMMANDS


def test_both_sides_know_the_same_commands() -> None:
    assert set(cli.COMMANDS) == set(COMMANDS)


def test_everything_after_the_name_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    monkeypatch.setattr(cli, "run", run)
    done = CliRunner().invoke(main, ["bench", "compare", "a", "--fail-below", "5", "b", "--help"])
    assert done.exit_code == 7
    assert seen == [["compare", "a", "--fail-below", "5", "b", "--help"]]


def test_the_process_is_the_bench_s(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["nothing-like-it"]) == 2
    assert "there is no command 'nothing-like-it'" in capfd.readouterr().err
    assert cli.run(["capacity"]) == 1
    assert capfd.readouterr().err == "error: say how many: --conversations-per-day 2000000\n"


def test_a_process_that_was_killed_is_told_as_shells_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_START", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    assert cli.run([]) == 128 + 9


def test_a_name_that_is_none() -> None:
    done = CliRunner().invoke(main, ["bench", "sing"])
    assert done.exit_code == 2
    assert "No such command" in done.output
