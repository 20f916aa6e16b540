"""``appliance demo`` and ``appliance report`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main


def run(home: Path, *arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": "/tmp/r", **environ})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside it lies a demo home."""
    path = tmp_path_factory.mktemp("cli") / "home"
    made = run(path, "demo", "--month", "2026-10", "--conversations", "300", "--json")
    assert made.exit_code == 0, made.output
    data = json.loads(made.stdout)
    assert data["simulated"] is True and data["home"] == f"{path}-demo"
    assert not path.exists()
    return path


def test_three_files_and_a_summary(home: Path, tmp_path: Path) -> None:
    done = run(home, "report", "--demo", "--month", "2026-10", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"simulated-report-2026-10.{kind}" for kind in ("csv", "html", "json")]
    lines = done.stdout.splitlines()
    assert lines[0] == "SIMULATED DATA: nothing of this happened"
    assert "300 conversations" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["marginal", "fully", "all-hosted", "utilisation"]


def test_one_tenants_report_is_named_after_it(home: Path, tmp_path: Path) -> None:
    run(home, "report", "--demo", "--month", "2026-10", "--tenant", "demo-bank", "--out", str(tmp_path))
    assert (tmp_path / "simulated-report-2026-10-demo-bank.html").exists()


def test_json_alone_writes_no_file(home: Path) -> None:
    done = run(home, "report", "--demo", "--month", "2026-10", "--json")
    assert json.loads(done.stdout)["counts"]["conversations"] == 300
    assert not (Path(f"{home}-demo") / "reports").exists()


def test_slos_are_those_of_the_settings(home: Path) -> None:
    toml = Path(f"{home}-demo") / "appliance.toml"
    before = json.loads(run(home, "report", "--demo", "--month", "2026-10", "--json").stdout)["latency"]
    assert {(row["slo_ttft_p95"], row["slo_total_p95"]) for row in before} == {(None, None)}
    intent = next(row["intent"] for row in before if row["intent"])
    toml.write_text(f"[slos.{json.dumps(intent)}]\nttft_p95_ms = 900\n")
    found = json.loads(run(home, "report", "--demo", "--month", "2026-10", "--json").stdout)["latency"]
    toml.unlink()
    assert {row["intent"]: (row["slo_ttft_p95"], row["slo_total_p95"]) for row in found}[intent] == (900.0, None)
    assert sum(row["slo_ttft_p95"] is not None for row in found) == 1


def test_the_real_ledgers_url_does_not_lead_a_demo_astray(home: Path, tmp_path: Path) -> None:
    url = {"APPLIANCE_LEDGER_URL": "postgresql://nobody@127.0.0.1:1/none"}
    assert run(home, "report", "--demo", "--month", "2026-10", "--json", **url).exit_code == 0
    assert run(tmp_path / "h", "demo", "--month", "2026-10", "--conversations", "20", **url).exit_code == 0


def test_a_home_with_a_real_ledger_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "keys", "create", "web").exit_code == 0
    before = (tmp_path / "ledger.db").read_bytes()
    refused = run(tmp_path, "demo", "--home", str(tmp_path), "--conversations", "20")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: there is a real ledger in that home")
    assert (tmp_path / "ledger.db").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--month", "november"], "write it as 2026-11"),
        (["--month", "2099-01"], "there is no ledger in"),
        (["--demo", "--home", "x"], "give --demo or --home, not both"),
        (["--demo", "--month", "2026-10", "--tenant", "nobody"], "there is no tenant 'nobody'"),
        (["--demo", "--month", "2026-10", "--hosted-model", "gemini"], "write PROVIDER/MODEL"),
        (["--demo", "--month", "2026-10", "--out", "/proc/none"], "name another place with --out"),
    ],
)
def test_a_mistake_is_one_sentence(home: Path, options: list[str], says: str) -> None:
    refused = run(home, "report", *options)
    assert refused.exit_code != 0
    assert refused.stderr.startswith("error: ") and says in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_real_month_is_not_called_simulated(tmp_path: Path) -> None:
    assert run(tmp_path, "keys", "create", "web").exit_code == 0
    done = run(tmp_path, "report")
    assert done.exit_code == 0, done.output
    assert "SIMULATED" not in done.stdout and "missing: What the server costs is not set." in done.stdout
    assert all(path.name.startswith("report-") for path in (tmp_path / "reports").iterdir())
