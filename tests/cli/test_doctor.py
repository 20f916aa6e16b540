"""``appliance doctor`` and ``appliance bundle`` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main


@pytest.fixture
def at_home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "appliance.toml").write_text('[engines.e]\nkind = "fake"\nmodel = "m"\n')
    return {"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": f"/tmp/ap-{tmp_path.name}"[:60]}


def typed(environ: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(main, list(words), env=environ)


def test_what_does_not_run_is_red_and_says_what_to_do(at_home: dict[str, str]) -> None:
    done = typed(at_home, "doctor")
    assert done.exit_code == 1
    assert "fix: systemctl start appliance-engine@e" in done.output


def test_the_gate_asks_less_and_json_is_for_programs(at_home: dict[str, str]) -> None:
    done = typed(at_home, "doctor", "--gate", "--json")
    assert done.exit_code == 1
    found = json.loads(done.output)["checks"]
    assert [one["name"] for one in found] == ["models", "ledger", "gateway", "engine e"]


def test_an_archive_for_support(at_home: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "support.tar.gz"
    assert "look into it before you send it" in typed(at_home, "doctor", "--bundle", str(target)).output
    assert "exists already" in typed(at_home, "doctor", "--bundle", str(target)).output


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_bundles_from_the_command_line(at_home: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "k"
    assert typed(at_home, "bundle", "key", str(key)).exit_code == 0
    assert "never overwritten" in typed(at_home, "bundle", "key", str(key)).output
    done = typed(at_home, "bundle", "verify", str(tmp_path / "none"), "--trust", f"{key}.pub")
    assert done.exit_code == 1 and "is not there" in done.output
    create = ("bundle", "create", "--target", "cpu", "--key", str(key), "-o", str(tmp_path / "b"))
    assert "make dist" in typed(at_home, *create, "--archive", str(tmp_path / "none")).output
