"""One fake engine and one gateway for the whole session; a frail engine that a test may break."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract.stack import FakeProcess, Stack
from support import wait_until


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The running stack."""
    running = Stack()
    yield running
    running.stop()


@pytest.fixture
def frail(stack: Stack) -> Iterator[Callable[[], FakeProcess]]:
    """Starts the engine "frail" (model "frail") and waits until the gateway takes requests for it."""
    started: list[FakeProcess] = []

    def start() -> FakeProcess:
        started.append(FakeProcess(stack.home, "frail", "--model", "frail"))
        wait_until(lambda: stack.state("frail"), 10, "the gateway sees the frail engine")
        return started[-1]

    yield start
    for engine in started:
        engine.stop()
    wait_until(lambda: not stack.state("frail"), 15, "the gateway sees that the frail engine is gone")
