"""A home for commands, and how they are run."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ledger.conftest import postgres_server, postgres_template, template, url  # noqa: F401 (fixtures)

from appliance.cli.main import main

Run = Callable[..., Result]


@pytest.fixture
def ledger_home(template: tuple[Path, str]) -> Iterator[Path]:  # noqa: F811
    """A home with a ledger that has one client key."""
    path = Path(tempfile.mkdtemp(prefix="ap-"))
    shutil.copy(template[0], path / "ledger.db")
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, ledger_home: Path) -> dict[str, str]:
    """Of a command, on each of the two databases."""
    found = {"APPLIANCE_HOME": str(ledger_home), "APPLIANCE_RUN": "", "LOGNAME": "mallory", "COLUMNS": "200"}
    if request.param == "postgresql":
        found["APPLIANCE_LEDGER_URL"] = request.getfixturevalue("url")
    return found


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs a command; what it prints and its exit code."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], env=environment)

    return call


@pytest.fixture
def ok(run: Run) -> Callable[..., Any]:
    """Runs a command that must succeed, with --json; what it says."""

    def call(*arguments: object) -> Any:
        result = run(*arguments, *(() if arguments[:2] == ("subjects", "export") else ("--json",)))
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return call
