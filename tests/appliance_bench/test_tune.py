"""What ``appliance bench tune`` refuses, before any engine starts."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from appliance_bench import rig, tune
from appliance_bench.records import RecordError


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rig, "start", lambda *_: pytest.fail("an engine was started"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--budget", "soon"], "'soon' is no time; write for example 60m"),
        (["--engine", "all", "--slo", "ttft_p95_ms=1"], "are of one engine; name it with --engine"),
        (["--engine", "chat", "--slo", "joy_p95_ms=1"], "joy"),
        (["--engine", "chat", "--workload", "voice-notes"], "voice-notes is for the transcribe engine, not for chat"),
        (["--engine", "chat", "--workload", "voicenotes"], "voice-notes"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(argv: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=said) as error:
        tune.main([*argv, "--out", str(tmp_path / "out"), "--profiles", str(tmp_path / "profiles")])
    assert "\n" not in str(error.value)


def test_another_tune_is_named(own_home: Path) -> None:
    with (
        tune.alone(own_home),
        pytest.raises(RecordError, match=r"another tune runs here \(process \d+\)"),
        tune.alone(own_home),
    ):
        pytest.fail("two at once")
    with tune.alone(own_home):  # and it can be had again
        pass


def test_an_appliance_that_serves_goes_first(own_home: Path) -> None:
    own_home.mkdir()
    with (own_home / "serve.lock").open("w") as serving:
        fcntl.flock(serving, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match="is being served; stop it first, then tune"), tune.alone(own_home):
            pytest.fail("beside it")
        with tune.alone(own_home, serving=True):  # a run against it
            pass


def test_a_stranger_on_the_gpu_is_named(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "strangers", lambda: ["process 12 (miner, 9000 MiB)"])
    with pytest.raises(RecordError, match=r"the GPU is used by process 12 \(miner, 9000 MiB\)"):
        tune.main(["--engine", "chat"])


def test_a_home_that_cannot_be_written_is_said(own_home: Path) -> None:
    own_home.write_text("a file")
    with (
        pytest.raises(RecordError, match=r"takes no lock .*; make room or make it writable first"),
        tune.alone(own_home),
    ):
        pytest.fail("without a lock")
