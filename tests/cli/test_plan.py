"""``appliance plan``, on this machine and on recorded ones."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main

RECORDINGS = Path(__file__).resolve().parents[1] / "supervisor/hardware"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path: Unix sockets end at 108 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ap-"))
    (path / "models").mkdir()
    yield path
    shutil.rmtree(path)


def appliance(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments], env={"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": ""})


def big(home: Path, name: str, weights: int) -> None:
    """An entry of the operator's own."""
    (home / f"models/{name}.toml").write_text(
        f'name = "{name}"\ntitle = "x"\ntask = "chat"\nengine = "vllm"\nlicence = "MIT"\nlanguages = ["eng_Latn"]\n'
        f'context_tokens = 32768\n[local]\npath = "/nowhere"\n[memory]\nweights_bytes = {weights}\n'
        "kv_bytes_per_token = 100000\nworkspace_bytes = 1000000000\nhost_bytes = 2000000000\n"
    )


def test_this_machine(home: Path) -> None:
    result = appliance(home)
    assert result.exit_code == 0, result.output
    assert "smollm2-135m-instruct" in result.output
    assert "started one after another: chat, transcribe" in result.output


def test_a_kind_that_does_not_serve_its_model_is_said(home: Path) -> None:
    (home / "appliance.toml").write_text('[engines.chat]\nkind = "vllm"\nmodel = "whisper-base"\n')
    result = appliance(home)
    assert result.exit_code == 64
    assert "error: model 'whisper-base' is served by kind = \"whisper\"" in result.output


def test_json_is_for_programs(home: Path) -> None:
    result = appliance(home, "--json", "--hardware", str(RECORDINGS / "h100-80gb.json"))
    made = json.loads(result.stdout)
    assert made["fits"] is True and made["start_order"] == ["chat", "transcribe", "translate"]
    chat = made["grants"][0]
    assert chat["gpus"] == [0]
    assert chat["budget_bytes"] == chat["weights_bytes"] + chat["workspace_bytes"] + chat["kv_bytes"]


def test_too_small_says_what_fits_and_exits_with_1(home: Path) -> None:
    big(home, "giant", 200_000_000_000)
    big(home, "fair", 9_000_000_000)
    result = appliance(
        home, "--hardware", str(RECORDINGS / "l4-24gb.json"), "--model", "giant", "--model", "whisper-base"
    )
    assert result.exit_code == 1
    assert "giant: left out: needs 201.4 GB" in result.output
    (instead,) = (line for line in result.output.splitlines() if line.startswith("giant: of its kind would fit: "))
    assert "fair" in instead and "whisper" not in instead
    assert "the largest set of engines that does: whisper-base" in result.output


def test_a_stranger_is_named(home: Path) -> None:
    result = appliance(home, "--hardware", str(RECORDINGS / "stranger-24gb.json"))
    assert "used by others: /usr/bin/python3 (pid 4711, 9.9 GB)" in result.output


def test_a_recording_of_this_machine_can_be_planned_for(home: Path) -> None:
    path = home / "here.json"
    assert appliance(home, "--record", str(path)).exit_code == 0
    assert appliance(home, "--hardware", str(path)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "whisper-bas"], "error: the catalogue has no model 'whisper-bas'; did you mean 'whisper-base'?\n"),
        (
            ["--record", "/nowhere/x"],
            "error: /nowhere/x cannot be written (No such file or directory); name another file\n",
        ),
    ],
)
def test_mistakes_are_one_sentence(home: Path, arguments: list[str], sentence: str) -> None:
    result = appliance(home, *arguments)
    assert result.exit_code != 0 and result.stderr == sentence
