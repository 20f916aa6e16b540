"""Whether a second engine fits: by the memory of its own place, and what others were promised of it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import planned
from appliance.supervisor.beside import MIB, needed_bytes, room_bytes
from appliance.supervisor.hardware import Gpu, GpuProcess, Hardware
from appliance.supervisor.memory import Grant
from appliance.supervisor.planned import Held

GB = 10**9
SMALL = Gpu(0, "u0", "L4", 24 * GB, 14 * GB, 10 * GB)
LARGE = Gpu(1, "u1", "L40S", 48 * GB, 8 * GB, 40 * GB)
VLLM = EngineSettings(kind="vllm", model="m")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, run=tmp_path / "run")


@pytest.fixture(autouse=True)
def nothing_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned, "resident_bytes", lambda pid: GB if pid == os.getpid() else 0)


def machine(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> None:
    found = Hardware(gpus, 64 * GB, 20 * GB, 8)
    monkeypatch.setattr(planned, "measure", lambda environ, on_cpu: found)


def promised(settings: Settings, engine: str, gpus: tuple[int, ...], weights: int, host: int = 0) -> None:
    grant = Grant(engine, "other", "normal", gpus, weights, 0, host)
    (settings.run / "grants").mkdir(parents=True, exist_ok=True)
    held = Held(os.getpid(), planned.started_ticks(os.getpid()), grant)
    (settings.run / f"grants/{engine}.other.{os.getpid()}.json").write_bytes(msgspec.json.encode(held))


def room(settings: Settings, gpus: tuple[int, ...] | None) -> int:
    return room_bytes(settings, "chat", VLLM.model_copy(update={"gpus": gpus}), {})


def test_the_memory_of_its_own_gpu_counts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, SMALL, LARGE)
    assert room(settings, (0,)) == 10 * GB  # and not the 40 that another has
    assert room(settings, (1,)) == 40 * GB
    assert room(settings, (0, 1)) == 2 * 10 * GB
    assert room(settings, ()) == 20 * GB
    assert room(settings, None) == 40 * GB


def test_what_others_were_promised_and_have_not_taken_is_not_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, SMALL, replace(LARGE, processes=(GpuProcess(os.getpid(), "vllm", 5 * GB),)))
    promised(settings, "speech", (1,), 12 * GB, host=3 * GB)
    promised(settings, "chat", (1,), 30 * GB)  # its own: it is what is replaced, or what is asked about
    assert room(settings, (1,)) == 40 * GB - 7 * GB
    assert room(settings, (0,)) == 10 * GB
    assert room(settings, ()) == 20 * GB - 2 * GB
    promised(settings, "speech", (), 12 * GB, host=3 * GB)
    assert room(settings, ()) == 20 * GB - 14 * GB


def test_a_driver_that_does_not_tell_is_taken_at_its_word(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, replace(SMALL, processes=(GpuProcess(os.getpid(), "vllm", None),)))
    promised(settings, "speech", (0,), 12 * GB)
    assert room(settings, (0,)) == 10 * GB


def test_what_an_engine_needs_is_weights_cache_and_its_processes(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    engine = VLLM.model_copy(update={"kv_cache_bytes": 1 << 30})
    assert needed_bytes(engine, tmp_path) == 1000 + (1 << 30) + 2048 * MIB
    on_two = engine.model_copy(update={"gpus": (0, 1)})
    assert needed_bytes(on_two, tmp_path) == 1000 + 2 * ((1 << 30) + 2048 * MIB)
    speech = EngineSettings(kind="whisper", task="transcribe", model="m", kv_cache_bytes=1 << 40)
    assert needed_bytes(speech, tmp_path) == 1000 + 256 * MIB
