"""Engines, gateway and ledger as files and fakes tell them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from appliance.doctor import checks
from appliance.ledger.upgrade import prepare
from appliance.settings import EngineSettings, Settings, load_settings
from appliance.supervisor.probe import Answer
from appliance.types import EngineState


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "appliance.toml").write_text('[engines.e]\nkind = "fake"\nmodel = "m"\n')
    (tmp_path / "r").mkdir()
    return load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/tmp"}).model_copy(
        update={"run": tmp_path / "r"}
    )


def write(settings: Settings, **fields: object) -> None:
    values = {
        "name": "e", "kind": "fake", "task": "chat", "phase": "ready", "address": "x", "models": ["m"], "detail": "",
        "since_unix_s": 0.0, "supervisor_pid": os.getpid(), "engine_pid": 1, **fields,
    }  # fmt: skip
    state = msgspec.convert(values, EngineState)
    (settings.run / "e.json").write_bytes(msgspec.json.encode(state))


def only(settings: Settings, answer: Answer | None = None) -> tuple[str, str, str]:
    def ask(*_: object) -> Answer:
        assert answer is not None, "it was asked"
        return answer

    (check,) = checks.engines(settings, ask)
    return check.colour, check.found, check.fix


def test_an_engine_that_answers_and_one_that_does_not(settings: Settings) -> None:
    write(settings)
    assert only(settings, Answer(True)) == ("green", "m answers", "")
    colour, found, fix = only(settings, Answer(False, "no token came"))
    assert (colour, "no token came" in found, fix) == ("red", True, "appliance engine restart e")


def test_engines_that_are_not_asked(settings: Settings) -> None:
    assert only(settings)[:2] == ("red", "has not been started")
    write(settings, phase="failed", detail="crashed")
    assert only(settings)[:2] == ("red", "failed: crashed")
    write(settings, supervisor_pid=2**22 + 1)
    assert only(settings)[:2] == ("red", "its supervisor is gone")


@pytest.mark.parametrize(("phase", "colour"), [("stopped", "red"), ("draining", "yellow"), ("ready", "green")])
def test_gateway(phase: str, colour: str) -> None:
    status = {"gateway": {"phase": phase, "address": "127.0.0.1:8000", "running": 2}}
    assert checks.gateway(status).colour == colour


@pytest.mark.parametrize(("found", "colour"), [
    (None, "yellow"), ({"phase": "failed", "sessions": None}, "yellow"), ({"phase": "ready", "sessions": 2}, "green"),
])  # fmt: skip
def test_live(settings: Settings, found: dict[str, object] | None, colour: str) -> None:
    status = {"live": None if found is None else {"address": "127.0.0.1:8001", **found}}
    engines = {"ear": EngineSettings(kind="fake", task="transcribe")}
    (check,) = checks.live(settings.model_copy(update={"engines": engines}), status)
    assert check.colour == colour
    assert not list(checks.live(settings.model_copy(update={"engines": {}}), status))


def test_ledger(settings: Settings) -> None:
    assert checks.ledger(settings).fix == "appliance db upgrade"
    prepare(settings.home / "ledger.db")
    assert checks.ledger(settings).colour == "green"
    (settings.home / "ledger.db").write_bytes(b"no database")
    assert checks.ledger(settings).colour == "red"
