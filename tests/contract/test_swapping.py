"""What callers meet while an engine's model is swapped: aliases follow, requests wait, and not for ever."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from contract.stack import FakeProcess, Stack
from support import wait_until

WAIT_S = 2.0


@pytest.fixture(scope="module")
def swapped() -> Iterator[Stack]:
    """A stack of its own, whose engine "speech" is a chat engine called "place" that is swapped by hand."""
    running = Stack()
    toml = (running.home / "appliance.toml").read_text()
    toml = toml.replace("drain_s = 1", f"drain_s = 1\nswap_wait_s = {WAIT_S}").replace(
        "[aliases]\n", '[engines.place]\nkind = "fake"\nmodel = "old"\n\n[aliases]\nmine = "old"\n'
    )
    (running.home / "appliance.toml").write_text(toml)
    running.gateway.kill()
    running.gateway.wait()
    running.start_gateway()
    yield running
    running.stop()


def say(stack: Stack, phase: str, *models: str, socket: str = "fake.sock") -> None:
    """Write the state that a supervisor would."""
    state = {
        "name": "place", "kind": "fake", "task": "chat", "phase": phase, "address": str(stack.home / socket),
        "models": models, "detail": "", "since_unix_s": 0.0, "supervisor_pid": os.getpid(), "engine_pid": os.getpid(),
    }  # fmt: skip
    part = stack.home / "run/part"
    part.write_text(json.dumps(state))
    part.replace(stack.home / "run/place.json")
    wait_until(lambda: seen(stack) == (phase, list(models)), 5, f"the gateway saw that it is {phase}")


def seen(stack: Stack) -> tuple[str, list[str]]:
    engine = stack.client.get("/health/ready").json()["engines"]["place"]
    return engine["phase"], engine["models"]


@pytest.fixture
def other(swapped: Stack) -> Iterator[Callable[[str], FakeProcess]]:
    """Starts a fake engine that serves one model, on ``MODEL.sock``."""
    started: list[FakeProcess] = []

    def start(model: str) -> FakeProcess:
        started.append(FakeProcess(swapped.home, model, "--model", model))
        return started[-1]

    yield start
    for engine in started:
        engine.stop()


def names(stack: Stack) -> set[str]:
    return {card["id"] for card in stack.client.get("/v1/models").json()["data"]}


def test_an_alias_follows_its_engine_and_the_old_name_does_not(
    swapped: Stack, other: Callable[[str], FakeProcess]
) -> None:
    other("old"), other("new")
    say(swapped, "ready", "old", socket="old.sock")
    assert swapped.ask("hello", model="mine").json()["model"] == "old"
    say(swapped, "ready", "new", socket="new.sock")
    assert swapped.ask("hello", model="mine").json()["model"] == "new"
    assert {"mine", "new"} <= names(swapped) and "old" not in names(swapped)
    refused = swapped.ask("hello", model="old")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_requests_wait_for_the_model_that_is_being_loaded(swapped: Stack, other: Callable[[str], FakeProcess]) -> None:
    other("next")
    say(swapped, "swapping", "next", socket="next.sock")
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(swapped.ask("hello", model="mine")))
    caller.start()
    wait_until(lambda: swapped.rows("SELECT 1 FROM requests WHERE status = 'open'"), 5, "it is admitted and waits")
    say(swapped, "ready", "next", socket="next.sock")
    caller.join(5)
    assert [(a.status_code, a.json()["model"]) for a in answers] == [(200, "next")]


def test_and_are_refused_when_it_takes_too_long(swapped: Stack) -> None:
    say(swapped, "swapping", "late", socket="late.sock")
    started = time.monotonic()
    refused = swapped.ask("hello", model="late")
    assert WAIT_S - 0.5 < time.monotonic() - started < WAIT_S + 2
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "engine place is swapping" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1
    request: dict[str, Any] = swapped.entry(refused.headers["x-request-id"])[0]
    assert (request["status"], request["http_status"]) == ("refused", 503)


def test_what_is_not_ready_says_why_without_paths(swapped: Stack) -> None:
    say(swapped, "swapping", "late", socket="late.sock")
    found = httpx.get(f"{swapped.base}/health/ready").json()
    assert "engine place is swapping" in found["reasons"]
    assert str(Path(swapped.home)) not in json.dumps(found)
