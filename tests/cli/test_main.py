"""The command itself: version, help, and what it imports to answer."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

import appliance
from appliance.cli.main import main


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"appliance, version {appliance.__version__}\n"


def test_help_lists_every_command_with_what_it_does() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("serve", "gateway", "engine", "plan", "models", "status", "logs", "reload", "keys"):
        assert f"\n  {name} " in result.output


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["dance"])
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


def test_a_bad_setting_is_one_sentence() -> None:
    result = CliRunner().invoke(main, ["keys", "list"], env={"APPLIANCE_HOME": "/nowhere", "APPLIANCE_PORT": "x"})
    assert result.exit_code == 64
    assert result.stderr == "error: APPLIANCE_PORT is 'x'; give a port number between 0 and 65535\n"


def test_supervising_an_engine_imports_no_runtime_and_no_gateway() -> None:
    code = (
        "import sys, appliance.cli.main, appliance.cli.engine, appliance.supervisor.run, appliance.supervisor.serve\n"
        "heavy = ('torch', 'vllm', 'ctranslate2', 'transformers', 'uvicorn', 'sqlalchemy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.stdout == "[]\n", answer.stderr
