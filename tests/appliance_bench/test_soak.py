"""The soak's book-keeping: how far it loads, what it samples, what counts as met."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from appliance_bench import soak
from appliance_bench.gateway_rig import BenchError, Measured, Target
from appliance_bench.load import LoadReport
from appliance_bench.load_stats import Spread


def measured(answers: int, **errors: int) -> Measured:
    none = Spread()
    return Measured(LoadReport(answers, answers, 1.0, errors, none, none, none, 0, 0.0, 0, 1.0, none, 0.1), 1.0, 0.0)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> tuple[soak.Soak, list[Any]]:
    sent: list[Any] = []

    def load(_: Target, arguments: Any) -> Measured:
        sent.append(arguments)
        return measured(40, late=1)

    monkeypatch.setattr(soak, "load", load)
    monkeypatch.setattr(soak, "rss_mb", lambda _: 90.0 + len(sent))
    return soak.Soak(Target("gateway", "http://x", 1), Console(file=io.StringIO())), sent


def test_it_loads_until_enough_was_answered_and_keeps_every_error(running: tuple[soak.Soak, list[Any]]) -> None:
    one, sent = running
    assert one.run_to(100, 2.0) == 93.0
    assert (one.answers, dict(one.errors)) == (120, {"late": 3})
    assert [sample["rss_mb"] for sample in one.samples] == [91.0, 92.0, 93.0]
    assert sum("--stream" in arguments for arguments in sent) == 1  # whole answers and streams in turn
    assert one.run_to(110, 2.0) == 93.0 and len(sent) == 3


def test_a_gateway_that_answers_nothing_ends_it(
    running: tuple[soak.Soak, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "load", lambda *_: measured(0))
    with pytest.raises(BenchError, match="answers nothing"):
        running[0].run_to(1, 2.0)
