"""``appliance policy explain``: the plan of a request that is not sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateway import HOSTED, gateway

from appliance.cli.main import main

POLICY = """
[hosted]
enabled = true
[intents.refund]
value_class = "high"
[value_classes.high]
hosted_first = true
[personal]
mode = "redact"
"""
PAN = "my PAN is ABCPE1234F and I want my money back"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    monkeypatch.setenv("APPLIANCE_RUN", "/run/appliance")  # nothing is put there; a socket's path must be short
    return tmp_path


def run(*arguments: str, body: str = "", code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments), input=body)
    assert done.exit_code == code, done.output
    return done.output


def body(text: str, **metadata: str) -> str:
    return json.dumps({"model": "default", "messages": [{"role": "user", "content": text}], "metadata": metadata})


def explained(text: str, **metadata: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("policy", "explain", "-", "--json", body=body(text, **metadata)))
    return found


def test_without_a_policy_everything_stays(home: Path) -> None:
    found = explained("where is my order")
    assert (found["policy"], found["engines_supposed"]) == ("built-in", True)
    assert "hosted" not in [attempt["route"] for attempt in found["attempts"]]


def test_residency_decides_and_is_named(home: Path) -> None:
    (home / "policy.toml").write_text(POLICY)
    here = explained(PAN, intent="refund")
    assert [attempt["route"] for attempt in here["attempts"]] == ["local"]
    assert ("hosted", "residency") in [(one["route"], one["reason"]) for one in here["not_tried"]]

    run("tenants", "set", "default", "--residency", "hosted_allowed", "--region", "asia-south1")
    there = explained(PAN, intent="refund")
    first = there["attempts"][0]
    assert (first["route"], first["reason"], first["redact"]) == ("hosted", "high_value", True)
    assert there["personal_data"]

    tightened = explained(PAN, intent="refund", appliance_residency="local_only")
    assert [attempt["route"] for attempt in tightened["attempts"]] == ["local"]


def test_language_and_words(home: Path) -> None:
    (home / "policy.toml").write_text('[languages.ta]\nroutes = ["pivot", "local"]\n')
    out = run("policy", "explain", "-", body=body("என் ஆர்டர் எங்கே?"))
    assert "language tam_Taml" in out
    assert "1. pivot on pivot (language_pivot)" in out
    assert "not hosted on hosted" in out


def test_mistakes_name_themselves(home: Path) -> None:
    assert "standard input is no request" in run("policy", "explain", "-", body='{"model": 5}', code=1)
    assert "metadata.channel" in run("policy", "explain", "-", body=body("hi", channel="fax"), code=1)
    assert "no tenant 'x'" in run("policy", "explain", "-", "--tenant", "x", body=body("hi"), code=1)
    (home / "policy.toml").write_text("[hostd]\n")
    assert "hosted" in run("policy", "explain", "-", body=body("hi"), code=1)


def test_without_a_gateway_it_says_what_is_missing(home: Path) -> None:
    assert "no gateway runs here" in run("policy", "explain", "-", body=body("hi"))
    assert explained("hi")["gateway"] is False


async def test_a_running_gateway_says_how_busy_its_engines_are(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = HOSTED + "[intents.quick]\nttft_ms = 100\n"
    async with gateway(engines={"a": None}, policy=policy, hosted=True, residency="hosted_allowed") as g:
        monkeypatch.setenv("APPLIANCE_HOME", str(g.home))
        monkeypatch.setenv("APPLIANCE_RUN", str(g.home / "run"))
        gemini = f'[engines.gemini]\nkind = "hosted"\napi_key_file = "{g.home}/gemini.key"\nhosted.region = "global"\n'
        (g.home / "appliance.toml").write_text('[engines.a]\nkind = "fake"\nmodel = "a"\n' + gemini)
        asked = body("hello", intent="quick").replace("default", "a")

        async def told() -> tuple[dict[str, Any], list[tuple[str, str]]]:
            out = await asyncio.to_thread(run, "policy", "explain", "-", "--json", body=asked)
            found = json.loads(out)
            return found, [(step["route"], step["reason"]) for step in found["attempts"]]

        found, attempts = await told()
        assert found["gateway"] is True and attempts[0] == ("local", "routine")
        entry = g.service.registry.entries["a"]
        entry.took(1.0, 50.0)
        entry.elsewhere = 3
        assert (await told())[1][0] == ("hosted", "capacity_overflow")
        entry.elsewhere = 0
        for _ in range(3):
            entry.breaker.failed(g.service.monotonic())
        assert (await told())[1][0] == ("hosted", "engine_unhealthy")
