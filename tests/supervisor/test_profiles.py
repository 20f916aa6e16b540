"""Steps down without a memory plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.profiles import halved


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, run=tmp_path)


def test_each_step_halves_the_cache_and_the_requests(settings: Settings) -> None:
    engine = EngineSettings(kind="vllm", model="m", kv_cache_bytes=1 << 30, extra_args=("--max-model-len", "512"))
    steps = [halved(settings, "e", engine, n) for n in range(5)]
    assert steps[0] is engine and steps[4] is None
    assert [s.kv_cache_bytes for s in steps if s] == [1 << 30, 1 << 29, 1 << 28, 1 << 27]
    assert [s.max_concurrent for s in steps if s] == [0, 128, 64, 32]
    assert steps[1] is not None
    assert steps[1].extra_args == ("--max-model-len", "auto", "--max-model-len", "512")  # the operator's wins


def test_an_engine_without_a_cache_has_nothing_to_step_down_to(settings: Settings) -> None:
    engine = EngineSettings(kind="whisper", task="transcribe", model="m")
    assert halved(settings, "e", engine, 0) is engine
    assert halved(settings, "e", engine, 1) is None
