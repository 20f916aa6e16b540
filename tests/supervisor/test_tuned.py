"""The profile that a tune wrote, as engines are started with it: reader and writer agree, half a match is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import EngineSettings, Settings, load_settings
from appliance.supervisor import tuned
from appliance_bench import fingerprint, profiles

MODEL = "indictrans2-embedded"
ENGINE = EngineSettings(kind="translate", task="translate", model=MODEL, extra_args=["--beams", "4"])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    (tmp_path / "models" / MODEL).mkdir(parents=True)
    manifest = {"files": [{"path": "model.bin", "sha256": "ab" * 32}]}
    (tmp_path / "models" / MODEL / "manifest.json").write_text(json.dumps(manifest))
    return load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/run/appliance"})


def wrote(settings: Settings, **changed: Any) -> Path:
    import ctranslate2

    table: dict[str, Any] = {
        "task": "translate",
        "kind": "translate",
        "revision": profiles.revision(settings.models_dir, MODEL),
        "args": ["--max-batch", "8"],
        "threads": 2,
        "slo": {"e2e_p95_ms": 400.0},
        "goodput_per_s": 120.0,
        "against_default": [1.5, 1.2, 1.8],
        "versions": {"ctranslate2": ctranslate2.__version__},
    }
    return profiles.write(settings.home / "profiles", MODEL, {**table, **changed})


def test_what_a_tune_writes_is_what_an_engine_starts_with(settings: Settings) -> None:
    path = wrote(settings)
    found = tuned.tuned(settings, ENGINE)
    assert found.matches
    started = found.apply(ENGINE)
    assert list(started.extra_args) == ["--max-batch", "8", "--beams", "4"]  # the operator's own come last and win
    assert started.threads == 2
    assert path.stem in found.said
    assert "1.50x as shipped" in found.said


def test_a_division_of_the_machine_is_taken_where_the_operator_says_nothing(settings: Settings) -> None:
    wrote(settings, gpu_percent=40, kv_cache_bytes=1 << 30)
    found = tuned.tuned(settings, ENGINE)
    started = found.apply(ENGINE)
    assert (started.gpu_percent, started.kv_cache_bytes) == (40, 1 << 30)
    granted = ENGINE.model_copy(update={"kv_cache_bytes": 1 << 28})  # by the memory plan, which gives way
    assert found.apply(granted, ENGINE).kv_cache_bytes == 1 << 30
    own = ENGINE.model_copy(update={"gpu_percent": 90, "kv_cache_bytes": 1 << 29})
    assert (found.apply(own).gpu_percent, found.apply(own).kv_cache_bytes) == (90, 1 << 29)


def test_machines_are_named_alike_on_both_sides() -> None:
    assert tuned.this_machine() == profiles.machine()
    assert tuned.digest(tuned.this_machine()) == fingerprint.digest(profiles.machine())


def test_without_a_profile_nothing_is_said(settings: Settings) -> None:
    assert tuned.tuned(settings, ENGINE) == tuned.Tuned()
    assert tuned.Tuned().apply(ENGINE) is ENGINE


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"revision": "0" * 16}, "revision 0000000000000000"),
        ({"versions": {"ctranslate2": "0.1"}}, "ctranslate2 0.1"),
        ({"kind": "fake"}, "kind fake"),
    ],
)
def test_half_a_match_is_none_and_says_what_differs(settings: Settings, changed: Mapping[str, Any], said: str) -> None:
    wrote(settings, **changed)
    found = tuned.tuned(settings, ENGINE)
    assert found.apply(ENGINE) is ENGINE
    assert found.said.startswith("runs as shipped")
    assert said in found.said


def test_another_machines_profile_says_what_is_other_here(settings: Settings) -> None:
    wrote(settings)
    machine = tuned.this_machine()
    other = {**machine, "hardware": {**machine["hardware"], "cores": 96}}
    found = tuned.tuned(settings, ENGINE, lambda: other)
    assert not found.matches
    assert "cores" in found.said
    assert "96" in found.said


def test_a_damaged_profile_does_not_keep_an_engine_from_starting(settings: Settings) -> None:
    wrote(settings).write_text("[models", encoding="utf-8")
    found = tuned.tuned(settings, ENGINE)
    assert not found.matches
    assert "cannot be read" in found.said
