"""The registry: state files come and go, a dead supervisor is noticed, engines elsewhere are probed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.engines.address import Address
from appliance.engines.hosted import HostedEngine
from appliance.engines.registry import Registry, check_attached
from appliance.engines.wire import Pool
from appliance.errors import EngineUnavailable
from appliance.settings import EngineSettings, Settings, SettingsError
from appliance.types import EngineState


def state(**changes: Any) -> EngineState:
    base = EngineState("chat", "fake", "chat", "ready", "/tmp/none.sock", ("fake",), "", 1.0, os.getpid(), 0, 2048)
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    engines = {"chat": EngineSettings(kind="fake", model="fake")}
    return Settings(home=tmp_path, run=tmp_path, engines=engines, aliases={"default": "fake"})


def write(settings: Settings, value: EngineState) -> None:
    temporary = settings.run / "tmp"
    temporary.write_bytes(msgspec.json.encode(value))
    temporary.rename(settings.run / f"{value.name}.json")


async def test_a_state_file_appears_changes_and_goes(settings: Settings) -> None:
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    assert registry.entries == {}
    assert registry.task_of("fake") == "chat"  # known before it has started: 503 and not 404
    write(settings, state(phase="starting"))
    registry.read_states()
    assert registry.entries["chat"].state.phase == "starting"
    adapter = registry.entries["chat"].engine
    write(settings, state())
    registry.read_states()
    assert registry.entries["chat"].state.phase == "ready"
    assert registry.entries["chat"].engine is adapter  # same address: kept connections stay
    (settings.run / "chat.json").unlink()
    registry.read_states()
    assert registry.entries == {}


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def test_ready_with_a_dead_supervisor_is_failed(settings: Settings) -> None:
    write(settings, state(supervisor_pid=dead_pid()))
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    assert registry.entries["chat"].state.phase == "failed"


async def test_starting_with_a_dead_supervisor_is_failed_too(settings: Settings) -> None:
    write(settings, state(phase="starting", supervisor_pid=dead_pid()))
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    assert registry.entries["chat"].state.phase == "failed"


async def test_a_file_that_speaks_of_another_engine_is_no_engine(settings: Settings) -> None:
    (settings.run / "chat.json").write_bytes(msgspec.json.encode(state(name="other")))
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    assert "chat" not in registry.entries


async def test_a_half_written_file_is_no_engine(settings: Settings) -> None:
    (settings.run / "chat.json").write_text('{"name": "ch')
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    assert registry.entries == {}


async def probed(registry: Registry, name: str) -> Any:
    async with asyncio.timeout(5):
        while name not in registry.entries:  # noqa: ASYNC110 - the registry has no event for its first probe
            await asyncio.sleep(0.01)
    return registry.entries[name]


@pytest.mark.parametrize(("owner", "salted"), [("vllm", True), ("inference-appliance", False)])
async def test_an_engine_elsewhere_is_probed_and_salted_only_if_it_is_vllm(
    server: Any, tmp_path: Path, owner: str, salted: bool
) -> None:
    (tmp_path / "key").write_text("upstream-secret\n")
    card = {"id": "big", "owned_by": owner, "max_model_len": 4096}
    requests = await server.answer("200 OK", "application/json", json.dumps({"data": [card]}).encode())
    engine = EngineSettings(kind="openai", socket=server.address(), api_key_file=str(tmp_path / "key"))
    registry = Registry(Settings(home=tmp_path, run=tmp_path, engines={"box2": engine}), lambda: 0.0)
    registry.start()
    entry = await probed(registry, "box2")
    await registry.close()
    assert (entry.state.phase, entry.state.models, entry.state.context_tokens) == ("ready", ("big",), 4096)
    assert entry.salted is salted
    assert b"authorization: Bearer upstream-secret" in requests[0]


async def test_an_engine_elsewhere_that_is_gone_says_why(tmp_path: Path) -> None:
    engine = EngineSettings(kind="openai", socket="/tmp/ap-none.sock", models=("big",))
    registry = Registry(Settings(home=tmp_path, run=tmp_path, engines={"box2": engine}), lambda: 0.0)
    registry.start()
    entry = await probed(registry, "box2")
    await registry.close()
    assert entry.state.phase == "failed"
    assert "not reachable" in entry.state.detail


async def test_models_of_an_engine_elsewhere_are_remembered_while_it_is_down(server: Any, tmp_path: Path) -> None:
    card = {"id": "big", "owned_by": "vllm"}
    await server.answer("200 OK", "application/json", json.dumps({"data": [card]}).encode())
    engine = EngineSettings(kind="openai", socket=server.address())
    registry = Registry(Settings(home=tmp_path, run=tmp_path, engines={"box2": engine}), lambda: 0.0)
    pool = Pool(Address(socket_path=server.address()))
    await registry._probe("box2", engine, server.address(), pool)
    assert registry.entries["box2"].state.phase == "ready"
    gone = Pool(Address(socket_path=server.address() + "-gone"))
    await registry._probe("box2", engine, server.address(), gone)
    assert (registry.entries["box2"].state.phase, registry.task_of("big")) == ("failed", "chat")
    pool.close()


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (EngineSettings(kind="openai", url="10.0.0.7:8000"), "not an engine address"),
        (EngineSettings(kind="openai", url="http://127.0.0.1:1", api_key_file="/nonexistent/key"), "/nonexistent/key"),
    ],
)
def test_an_attached_engine_that_cannot_work_is_named_at_start(
    tmp_path: Path, engine: EngineSettings, expected: str
) -> None:
    with pytest.raises(SettingsError, match=r"engines\.box2") as caught:
        check_attached(Settings(home=tmp_path, run=tmp_path, engines={"box2": engine}))
    assert expected in str(caught.value)


HOSTED = {"kind": "hosted", "api_key_file": "k", "hosted": {"region": "global"}}


def hosted_state(**changes: Any) -> EngineState:
    about = {"name": "gemini", "kind": "hosted", "models": ("gemini-3.1-flash-lite",), "region": "global"}
    return state(**{**about, **changes})


def with_hosted(tmp_path: Path, **hosted: Any) -> Settings:
    engine = {**HOSTED, "hosted": {"region": "global", **hosted}}
    return Settings.model_validate({"home": tmp_path, "run": tmp_path, "engines": {"gemini": engine}})


async def test_a_hosted_engine_has_a_region_and_no_salt_and_needs_no_key_here(tmp_path: Path) -> None:
    settings = with_hosted(tmp_path)
    write(settings, hosted_state())
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    entry = registry.entries["gemini"]
    assert (entry.hosted, entry.state.region, entry.salted) == (True, "global", False)
    assert isinstance(entry.engine, HostedEngine)


@pytest.mark.parametrize(("configured", "said"), [("hosted", "fake"), ("fake", "hosted")])
async def test_an_engine_of_another_kind_than_configured_takes_nothing(
    tmp_path: Path, configured: str, said: str
) -> None:
    engine = HOSTED if configured == "hosted" else {"kind": "fake", "model": "m"}
    settings = Settings.model_validate({"home": tmp_path, "run": tmp_path, "engines": {"gemini": engine}})
    write(settings, hosted_state(kind=said))
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    entry = registry.entries["gemini"]
    assert (entry.state.phase, entry.takes(0.0)) == ("failed", False)
    assert "another kind" in entry.state.detail
    assert isinstance(entry.engine, HostedEngine)


async def test_a_hosted_engine_of_another_user_is_found_in_its_own_directory(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "gemini.json").write_bytes(msgspec.json.encode(hosted_state()))
    registry = Registry(with_hosted(tmp_path, run_dir=str(theirs)), lambda: 0.0)
    registry.read_states()
    assert registry.entries["gemini"].state.phase == "ready"


async def test_an_engine_is_spared_after_failures_and_a_new_process_does_not_forget_why(settings: Settings) -> None:
    write(settings, state())
    registry = Registry(settings, lambda: 0.0)
    registry.read_states()
    entry = registry.entries["chat"]
    assert entry.takes(0.0)
    entry.breaker.heard(EngineUnavailable("x", headers={"retry-after": "9"}), 0.0)
    write(settings, state(address="/tmp/other.sock"))
    registry.read_states()
    assert registry.entries["chat"] is not entry
    assert (registry.entries["chat"].takes(8.0), registry.entries["chat"].takes(9.0)) == (False, True)
