"""The host's command line: what it passes on, and how it ends without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.hosts.serving import bounds
from appliance.hosts.whisper_app import AppLimits
from appliance.hosts.whisper_serve import main, parser
from appliance.supervisor.exits import Exit, should_restart


def arguments(tmp_path: Path, *more: str) -> list[str]:
    return ["--socket", str(tmp_path / "s"), "--model-dir", str(tmp_path), "--model-name", "w", *more]


def test_the_largest_upload_is_what_the_command_line_says(tmp_path: Path) -> None:
    said = bounds(parser().parse_args(arguments(tmp_path, "--max-audio-bytes", "4096", "--max-queued-audio-s", "9")))
    assert (said.max_body_bytes, said.max_held_audio_s) == (4096, 9.0)
    assert bounds(parser().parse_args(arguments(tmp_path))) == AppLimits()


def test_a_missing_model_ends_it_for_good_and_names_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # main takes SIGTERM and SIGINT
    (tmp_path / "config.json").touch()
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path))
    assert ended.value.code == Exit.MODEL_MISSING
    assert not should_restart(Exit.MODEL_MISSING)
    assert capsys.readouterr().err == f"{tmp_path} has no model.bin, tokenizer.json; run `appliance models pull w`\n"
