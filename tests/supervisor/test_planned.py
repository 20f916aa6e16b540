"""The plan of a machine with settings, and what running engines hold of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import files, hardware, history, planned
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.supervisor.memory import Grant
from appliance.supervisor.planned import Held, Planned, plan_for, plan_machine, resident_bytes
from appliance.types import EngineState

RECORDINGS = Path(__file__).parent / "hardware"


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """The embedded models, which need not be installed to be planned for."""
    return Settings(home=tmp_path, run=tmp_path / "run")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 GB, no GPU, whatever this test runs on."""
    found = hardware.parse(hardware.load(RECORDINGS / "none-24gb.json"))
    monkeypatch.setattr(planned, "measure", lambda environ, on_cpu: found)


@pytest.fixture(autouse=True)
def nothing_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants here are held by the process of the tests, which may have grown to gigabytes by now."""
    monkeypatch.setattr(planned, "resident_bytes", lambda pid: 0)


def held_by(settings: Settings, grant: Grant, pid: int, started: int | None = None) -> Path:
    (settings.run / "grants").mkdir(parents=True, exist_ok=True)
    path = settings.run / "grants" / f"{grant.engine}.{grant.model}.{pid}.json"
    began = planned.started_ticks(pid) if started is None else started
    path.write_bytes(msgspec.json.encode(Held(pid, began, grant)))
    return path


def test_an_engine_gets_what_the_plan_of_all_engines_gives_it(chosen: Settings) -> None:
    whole = plan_machine(chosen, planned.measure({}, True))
    assert plan_for(chosen, "chat", {}, True) == whole.grant("chat")
    assert [each.engine for each in whole.grants] == ["chat", "transcribe", "translate"]


def test_a_grant_is_held_as_long_as_its_process_lives(chosen: Settings) -> None:
    grant = plan_for(chosen, "chat", {}, True)
    (held,) = planned.holders(chosen)
    assert (held.pid, held.grant) == (os.getpid(), grant)
    plan_for(chosen, "chat", {}, True)  # again, by the same process: its own grant is no other's
    assert len(planned.holders(chosen)) == 1


def test_grants_of_the_dead_and_of_a_reused_pid_are_swept(chosen: Settings) -> None:
    grant = plan_for(chosen, "chat", {}, True)
    dead = subprocess.Popen((sys.executable, "-c", ""))
    dead.wait()
    paths = [held_by(chosen, grant, dead.pid, started=5), held_by(chosen, grant, 1, started=5)]
    assert [each.pid for each in planned.holders(chosen)] == [os.getpid()]
    assert not any(path.exists() for path in paths)


def test_two_that_start_at_once_are_not_given_the_same_memory(chosen: Settings) -> None:
    large = Grant("transcribe", "whisper-base", "normal", (), 20_000_000_000, 0, 0)
    held_by(chosen, large, os.getpid())  # granted, and not loaded yet: nothing of it is measured
    grant = plan_for(chosen, "chat", {}, True)
    assert grant.budget_bytes < 4_700_000_000 and grant.concurrent < 32


def test_an_engine_that_has_no_room_is_one_sentence(chosen: Settings) -> None:
    held_by(chosen, Grant("transcribe", "whisper-base", "normal", (), 22_000_000_000, 0, 0), os.getpid())
    with pytest.raises(CannotStart) as caught:
        plan_for(chosen, "chat", {}, True)
    assert caught.value.code == Exit.BAD_ARGUMENTS
    assert str(caught.value).startswith("engine 'chat' (smollm2-135m-instruct) has no room on this machine beside")
    assert "`appliance plan` shows everything" in str(caught.value)


def test_a_smaller_profile_takes_less(chosen: Settings) -> None:
    normal = plan_for(chosen, "chat", {}, True)
    minimal = plan_for(chosen, "chat", {}, True, "minimal")
    assert (minimal.profile, minimal.max_requests) == ("minimal", 4)
    assert minimal.kv_bytes < normal.kv_bytes / 2


def test_steps_are_settings_for_whoever_builds_the_command(chosen: Settings) -> None:
    steps = Planned({}, True)
    engine = chosen.engines["chat"]
    found = [steps(chosen, "chat", engine, step) for step in range(4)]
    assert found[3] is None
    caches = [each.kv_cache_bytes for each in found if each is not None]
    assert caches == sorted(caches, reverse=True) and len(set(caches)) == 3  # type: ignore[type-var]
    fake = EngineSettings(kind="fake", models=("m",))
    assert steps(chosen, "x", fake, 0) is fake  # nothing is planned for it


def test_a_model_that_is_swapped_in_has_the_old_one_beside_it(chosen: Settings) -> None:
    large = Grant("chat", "old", "normal", (), 21_000_000_000, 0, 0)
    served(chosen, "old")
    held_by(chosen, large, os.getpid())
    assert plan_for(chosen, "chat", {}, True).concurrent == 32  # not beside it, so in its place
    held_by(chosen, replace(large, weights_bytes=19_000_000_000), os.getpid())
    assert plan_for(chosen, "chat", {}, True).concurrent < 32
    assert {each.grant.model for each in planned.holders(chosen)} == {"old", "smollm2-135m-instruct"}
    served(chosen, "smollm2-135m-instruct")  # switched: what was replaced holds nothing any more
    assert [each.grant.model for each in planned.holders(chosen)] == ["smollm2-135m-instruct"]


def served(settings: Settings, model: str) -> None:
    settings.run.mkdir(exist_ok=True)
    state = EngineState("chat", "vllm", "chat", "ready", "/x", (model,), "", 0.0, os.getpid(), 0)
    files.write_state(settings.run / "chat.json", state)


def test_a_broken_entry_of_the_operators_stops_no_plan_silently(chosen: Settings) -> None:
    chosen.models_dir.mkdir()
    (chosen.models_dir / "mine.toml").write_text("name = 3\n")
    with pytest.raises(CannotStart, match=r"mine\.toml"):
        plan_machine(chosen, planned.measure({}, True))


def test_own_memory_is_read_from_the_processes() -> None:
    mine = resident_bytes(os.getpid())
    assert mine is not None and mine > 1_000_000
    assert resident_bytes(2**22 + 1) == 0


def test_the_cpu_build_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    recorded = hardware.load(RECORDINGS / "l4-24gb.json")
    monkeypatch.setattr(hardware, "record", lambda note: recorded)
    assert planned.measure({}, on_cpu=False).gpus
    found = planned.measure({}, on_cpu=True)
    assert found.gpus == () and "build for CPUs" in found.notes[0]
    assert planned.measure({"CUDA_VISIBLE_DEVICES": ""}, on_cpu=False).gpus == ()


def test_the_plan_shows_what_the_next_start_would_get(chosen: Settings) -> None:
    digest = history.digest(chosen.engines["chat"])
    history.write(chosen, "chat", history.History(digest, profile=1, model="whisper-base"))
    chat = plan_machine(chosen, planned.measure({}, True)).grant("chat")
    assert chat is not None and (chat.profile, chat.model) == ("careful", "whisper-base")
