"""Commands of the appliance's own hosts."""

from __future__ import annotations

from pathlib import Path

from appliance.hosts.conformer_serve import parser as conformer_parser
from appliance.hosts.whisper_serve import parser
from appliance.settings import EngineSettings, ServerSettings, Settings
from appliance.supervisor.whisper import conformer_command, fake_command, whisper_command


def settings(tmp_path: Path, **engine: object) -> Settings:
    found = EngineSettings.model_validate({"kind": "whisper", "task": "transcribe", "model": "w", **engine})
    server = ServerSettings(max_audio_bytes=4096)
    return Settings(home=tmp_path, run=tmp_path / "run", engines={"e": found}, server=server)


def test_whisper(tmp_path: Path) -> None:
    found = whisper_command(settings(tmp_path, threads=2, extra_args=("--x",)), "e", tmp_path / "m", {"PATH": "/bin"})
    assert found.argv[1:] == (
        *("-m", "appliance.hosts.whisper"),
        *("--socket", str(tmp_path / "run/e.sock")),
        *("--model-dir", str(tmp_path / "m")),
        *("--model-name", "w"),
        *("--max-audio-bytes", "4096"),
        *("--threads", "2"),
        "--x",
    )
    assert found.env["HF_HUB_OFFLINE"] == "1" and found.env["PATH"] == "/bin"
    assert found.cwd == tmp_path / "cache/e/cwd"


def test_the_host_takes_every_argument_it_is_given(tmp_path: Path) -> None:
    found = whisper_command(settings(tmp_path, threads=2), "e", tmp_path / "m", {})
    args = parser().parse_args(found.argv[3:])
    assert (args.max_audio_bytes, args.threads, args.model_name) == (4096, 2, "w")


def test_fake_serves_every_name_it_is_given(tmp_path: Path) -> None:
    found = fake_command(settings(tmp_path, kind="fake", models=("a", "b")), "e", {})
    assert found.argv[5:] == ("--model", "a", "--model", "b")


def test_conformer(tmp_path: Path) -> None:
    chosen = settings(tmp_path, kind="conformer", threads=3)
    found = conformer_command(chosen, "e", tmp_path / "m", {"PATH": "/bin"})
    assert found.argv[1:3] == ("-m", "appliance.hosts.conformer")
    args = conformer_parser().parse_args(found.argv[3:])
    assert (args.model_dir, args.model_name, args.threads, args.device) == (tmp_path / "m", "w", 3, "auto")


def test_a_conformer_transcribes_without_being_told_to() -> None:
    assert EngineSettings.model_validate({"kind": "conformer", "model": "w"}).task == "transcribe"
