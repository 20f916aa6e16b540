"""What a running gateway takes on of a changed file, and what it names instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.api.reload import changed, kept
from appliance.engines.registry import Registry
from appliance.settings import EngineSettings, ServerSettings, Settings, SiteSettings


def settings(home: Path, **fields: Any) -> Settings:
    engines = {"chat": EngineSettings(kind="fake", model="m")}
    return Settings(home=home, run=home, **{"engines": engines, **fields})


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, []),
        ({"server": ServerSettings(drain_s=1, port=81)}, ["server.port", "server.drain_s"]),
        ({"site": SiteSettings(timezone="UTC", networks=("10.0.0.0/8",))}, ["site.networks", "site.timezone"]),
        ({"aliases": {"a": "m"}}, ["aliases"]),
        (
            {"engines": {"far": EngineSettings(kind="openai", url="http://127.0.0.1:1")}},
            ["engines.chat", "engines.far"],
        ),
    ],
)
def test_every_change_is_named(tmp_path: Path, fields: dict[str, Any], names: list[str]) -> None:
    assert changed(settings(tmp_path), settings(tmp_path, **fields)) == names


def test_where_it_listens_and_its_months_stay(tmp_path: Path) -> None:
    old = settings(tmp_path)
    new = settings(tmp_path, server=ServerSettings(port=81, drain_s=1), site=SiteSettings(timezone="UTC"))
    now = kept(old, new)
    assert (now.server.port, now.server.drain_s, now.site.timezone) == (8000, 1, "Asia/Kolkata")


async def test_attached_engines_come_and_go(tmp_path: Path) -> None:
    far = EngineSettings(kind="openai", url="http://127.0.0.1:9", models=("far-model",))
    registry = Registry(settings(tmp_path), lambda: 0.0)
    registry.start()
    try:
        registry.take_settings(settings(tmp_path, engines={"far": far}))
        for _ in range(200):
            await registry.next_round()
            if "far" in registry.entries:
                break
        assert registry.entries["far"].state.phase == "failed"
        assert registry.task_of("far-model") == "chat" and registry.task_of("m") is None
        registry.take_settings(settings(tmp_path))
        assert registry.entries == {}
        assert registry.task_of("m") == "chat"
    finally:
        await registry.close()
