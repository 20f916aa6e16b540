"""``appliance models`` as an operator meets it: what is printed, what is refused, and with which code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main
from appliance.supervisor.files import write_state
from appliance.types import EngineState
from appliance_models.fake_hub import FakeHub

OWN = """\
name = "{name}"
title = "Our model"
task = "chat"
engine = "vllm"
licence = "LicenseRef-Ours"
licence_url = "https://example.invalid/licence"
must_accept = {must_accept}
languages = ["hin_Deva", "eng_Latn"]
unverified = ["nobody measured its memory"]

[hub]
repo = "us/ours"
include = ["config.json"]
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.repo("us/ours", {"config.json": b"{}"})
        yield hub


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ap-"))  # pytest's own directories are too long for sockets
    (path / "models").mkdir()
    (path / "models" / "ours.toml").write_text(OWN.format(name="ours", must_accept="false"))
    (path / "models" / "bound.toml").write_text(OWN.format(name="bound", must_accept="true"))
    yield path
    shutil.rmtree(path)


def models(home: Path, *arguments: str, hub: FakeHub | None = None, answer: str | None = None) -> Result:
    environ = {
        "APPLIANCE_HOME": str(home),
        "APPLIANCE_RUN": "",
        "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9",
        "HF_TOKEN": "",
        "HF_TOKEN_PATH": "",
    }
    return CliRunner().invoke(main, ["models", *arguments], env=environ, input=answer)


def listed(home: Path, *more: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(models(home, "list", "--json", *more).stdout)}


def test_the_list_has_shipped_models_and_ones_own(home: Path) -> None:
    rows = listed(home)
    assert {"ours", "qwen3-8b", "whisper-base"} <= set(rows)
    assert (rows["ours"]["state"], rows["ours"]["own"], rows["qwen3-8b"]["own"]) == ("-", True, False)
    assert set(listed(home, "--task", "transcribe")) == {
        "indic-conformer-600m-multilingual", "whisper-base", "whisper-large-v3", "whisper-large-v3-turbo",
    }  # fmt: skip
    table = models(home, "list").stdout
    assert table.splitlines()[0].split() == ["NAME", "TASK", "ENGINE", "SIZE", "LICENCE", "LANGUAGES", "STATE"]
    assert listed(home, "--installed") == {}


def test_show_says_what_nobody_verified(home: Path) -> None:
    text = models(home, "show", "ours").stdout
    assert "ours (your own entry)" in text and "hub us/ours at main" in text
    assert "not verified    nobody measured its memory" in text
    shown = json.loads(models(home, "show", "gemma-3-4b-it", "--json").stdout)
    assert shown["memory"]["kv_window_tokens"] == 1024 and shown["must_accept"] is True


def test_a_pull_says_where_it_is_and_what_was_trusted(home: Path, hub: FakeHub) -> None:
    pulled = models(home, "pull", "ours", hub=hub)
    assert pulled.exit_code == 0, pulled.output
    assert f"ours is there: {home / 'models' / 'ours'} (0.0 kB, LicenseRef-Ours)" in pulled.stdout
    assert "SHA-256 of 1 files: the hub's word at commit" in pulled.stdout
    assert "models: ours: downloading 1 file" in pulled.stderr
    assert listed(home, "--installed")["ours"]["state"] == "installed"
    again = models(home, "pull", "ours", "--json", hub=hub)
    assert [(r["name"], r["was_there"]) for r in json.loads(again.stdout)] == [("ours", True)]
    assert "came from       hub us/ours at " in models(home, "show", "ours").stdout


def test_an_unknown_name_comes_before_the_first_byte(home: Path, hub: FakeHub) -> None:
    refused = models(home, "pull", "ours", "qwen3-8", hub=hub)
    assert refused.exit_code == 1
    assert refused.stderr == "error: the catalogue has no model 'qwen3-8'; did you mean 'qwen3-8b'?\n"
    assert listed(home)["ours"]["state"] == "-"


def test_a_licence_is_read_accepted_and_kept(home: Path, hub: FakeHub) -> None:
    refused = models(home, "pull", "bound", hub=hub)
    assert refused.exit_code == 1 and "run `appliance models accept bound`" in refused.stderr
    assert models(home, "accept", "bound", answer="n\n").exit_code == 1
    assert models(home, "pull", "bound", hub=hub).exit_code == 1
    accepted = models(home, "accept", "bound", "--by", "Asha Rao, counsel", answer="y\n")
    assert accepted.exit_code == 0 and "https://example.invalid/licence" in accepted.stderr
    assert "accepted for bound by Asha Rao, counsel at 20" in accepted.stdout
    assert models(home, "pull", "bound", hub=hub).exit_code == 0
    row = next(r for r in json.loads(models(home, "licences", "--json").stdout) if r["model"] == "bound")
    assert (row["who"], row["must_accept"]) == ("Asha Rao, counsel", True)
    lines = models(home, "licences").stdout.splitlines()
    assert any(line.startswith("gemma-3-4b-it ") and "needed, not yet" in line for line in lines)
    assert "nobody has to accept" in models(home, "accept", "ours", "--yes").stderr


def test_damage_is_found_refused_and_mended(home: Path, hub: FakeHub) -> None:
    models(home, "pull", "ours", hub=hub)
    assert models(home, "verify").stdout == "ours: every byte is as installed\n"
    (home / "models" / "ours" / "config.json").write_text("[]")
    found = models(home, "verify", "ours")
    assert found.exit_code == 1
    assert found.stdout == "ours: config.json has other bytes than were installed\n"
    assert "run `appliance models pull ours`" in found.stderr
    assert listed(home)["ours"]["state"] == "damaged"
    assert models(home, "pull", "ours", hub=hub).exit_code == 0
    assert json.loads(models(home, "verify", "--json").stdout) == {"ours": []}


def test_import_from_a_directory(home: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    assert "has no config.json, which ours needs" in models(home, "pull", "ours", "--from", str(stick)).stderr
    (stick / "config.json").write_text("{}")
    pulled = models(home, "pull", "ours", "--from", str(stick))
    assert pulled.exit_code == 0, pulled.output
    assert f"SHA-256 of 1 files are pinned as they came from {stick}" in pulled.stdout


def state(home: Path, phase: str, pid: int) -> None:
    (home / "run").mkdir(exist_ok=True)
    made = msgspec.convert(
        {
            "name": "chat", "kind": "vllm", "task": "chat", "phase": phase, "address": "/x", "models": ["ours"],
            "detail": "", "since_unix_s": 0.0, "supervisor_pid": pid, "engine_pid": 0,
        },
        EngineState,
    )  # fmt: skip
    write_state(home / "run" / "chat.json", made)


def test_what_a_running_engine_uses_stays(home: Path, hub: FakeHub) -> None:
    models(home, "pull", "ours", hub=hub)
    state(home, "ready", os.getpid())
    refused = models(home, "remove", "ours", "--yes")
    assert refused.exit_code == 1
    assert refused.stderr == "error: ours is in use by a running engine; stop that engine first\n"
    assert models(home, "remove", "ours", answer="n\n").exit_code == 1
    state(home, "ready", 2**22 - 1)  # the pid of nobody: its supervisor died
    assert models(home, "remove", "ours", "--yes").stdout.startswith("removed ours: 0.")
    assert not (home / "models" / "ours").exists()


def test_a_model_whose_entry_was_deleted_is_listed_and_can_be_removed(home: Path, hub: FakeHub) -> None:
    models(home, "pull", "ours", hub=hub)
    (home / "models" / "ours.toml").unlink()
    assert listed(home)["ours"]["state"] == "in no catalogue"
    assert "in no catalogue" in models(home, "list").stdout
    assert models(home, "remove", "ours", "--yes").exit_code == 0


def test_a_mistake_in_an_own_entry_names_file_line_and_key(home: Path) -> None:
    path = home / "models" / "ours.toml"
    path.write_text(path.read_text().replace("languages", "langauges"))
    refused = models(home, "list")
    assert refused.exit_code == 1
    assert f"{path} cannot be used" in refused.stderr
    assert "(line 8); did you mean 'languages'?" in refused.stderr


def test_a_token_file_that_is_not_there_is_one_sentence(home: Path) -> None:
    environ = {"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": "", "HF_TOKEN": "", "HF_TOKEN_PATH": "/nowhere/token"}
    refused = CliRunner().invoke(main, ["models", "pull", "ours"], env=environ)
    assert refused.exit_code == 1 and "HF_TOKEN_PATH names /nowhere/token, which cannot be read" in refused.stderr


def test_listing_imports_neither_the_hub_nor_a_runtime(home: Path) -> None:

    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom appliance.cli.main import main\n"
        "assert CliRunner().invoke(main, ['models', 'list']).exit_code == 0\n"
        "print([n for n in ('torch', 'transformers', 'huggingface_hub', 'sqlalchemy') if n in sys.modules])"
    )
    environ = {**os.environ, "APPLIANCE_HOME": str(home), "APPLIANCE_RUN": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environ)
    assert done.stdout == "[]\n", done.stderr
