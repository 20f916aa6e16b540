"""Fitting finds the times that made the loops, and measuring turns rows into results and profiles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance_bench import calling, capacity, crosscheck, fitting, measure, records, strangers
from appliance_bench.fingerprint import fingerprint
from appliance_bench.stations import Batches, Service, Steps


def loops(service: Service, callers: tuple[int, ...], work: tuple[tuple[float, float], ...]) -> list[fitting.Loop]:
    found = []
    for count in callers:
        asked = fitting.Loop(count, 1.0, 1.0, 1.0, work)
        per_s, latency, ttft = fitting.simulate(service, asked)
        found.append(fitting.Loop(count, per_s, latency, ttft, work))
    return found


def test_the_times_of_a_batching_engine_are_found_again() -> None:
    def make(v: fitting.Values) -> Service:
        return Batches(2, 16, 5.0, v["batch_ms"], v["item_ms"], v["unit_ms"])

    true = {"batch_ms": 20.0, "item_ms": 6.0, "unit_ms": 0.2}
    measured = loops(make(true), (1, 4, 16), tuple((float(10 + n % 40), 0.0) for n in range(100)))
    found = fitting.fit(make, {"batch_ms": 8.0, "item_ms": 15.0, "unit_ms": 0.1}, measured)
    assert found.error < 0.05
    other = tuple((float(5 + n % 60), 0.0) for n in range(120))
    for loop in loops(make(true), (8,), other):  # a load and a work that were not fitted
        assert fitting.simulate(make(found.values), loop)[0] == pytest.approx(loop.per_s, rel=0.08)


def test_the_times_of_a_stepping_engine_are_found_again() -> None:
    def make(v: fitting.Values) -> Service:
        return Steps(64, 2048, v["step_ms"], v["sequence_ms"], v["prompt_token_ms"])

    true = {"step_ms": 20.0, "sequence_ms": 3.0, "prompt_token_ms": 0.4}
    work = tuple((float(12 + n % 12), float(40 + 7 * (n % 9))) for n in range(100))
    start = {name: value * 1.5 for name, value in true.items()}
    found = fitting.fit(make, start, loops(make(true), (1, 4), work), True, rounds=12)
    assert found.error < 0.05
    assert found.values["step_ms"] + found.values["sequence_ms"] == pytest.approx(23, rel=0.1)


def load(goods: int, lates: int, fails: int) -> measure.Load:
    rows = [calling.Row(n / 10, 1.0, 0.0, 0.1, 50.0, 100.0, 3, 200) for n in range(goods)]
    rows += [calling.Row(0.0, 1.0, 0.0, 0.1, 50.0, 900.0, 3, 200)] * lates
    rows += [calling.Row(0.0, 1.0, 0.0, status=503)] * fails
    return measure.Load(0.9, 9.0, [], [], predicted=8.0, predicted_other_times=8.2, rows=rows)


def test_a_load_becomes_a_result_with_what_failed() -> None:
    made = measure.result_of(measure.translate(), load(80, 15, 5), 10.0, 2)
    assert (made["requests"], made["failed"], made["goodput_per_s"], made["repeat"]) == (100, 5, 8.0, 2)
    assert made["e2e_ms"] == {"p50": 100.0, "p95": 900.0, "p99": None}, "95 answers support no 99th percentile"
    assert measure.off_by(made) == pytest.approx(0.0)
    assert measure.off_by(measure.result_of(measure.translate(), load(0, 5, 0), 10.0, 0)) == float("inf")


def test_a_profile_that_was_measured_is_one_that_capacity_takes(tmp_path: Path) -> None:
    subject = measure.translate()
    service = subject.make(subject.start)
    path = tmp_path / "p.toml"
    path.write_text(measure.profile_toml(subject, service, fingerprint(), "run-7", 0.08), encoding="utf-8")
    profile, _ = capacity.load_profile([str(path)], tmp_path)
    assert profile.service["translate"] == service
    assert profile.evidence == ("run-7",)
    assert "off by 8.0 % at most" in path.read_text()


def test_loads_are_poisson_at_their_share_and_the_same_for_a_seed() -> None:
    one = measure.loads_of(measure.fake(), 100.0, (0.5, 1.0), 20.0, 3)
    assert [len(each.schedule) for each in one] == [pytest.approx(1000, rel=0.1), pytest.approx(2000, rel=0.1)]
    assert one[0].schedule == measure.loads_of(measure.fake(), 100.0, (0.5,), 20.0, 3)[0].schedule


def test_a_load_that_strangers_disturbed_is_not_judged() -> None:
    quiet, busy = load(80, 15, 5), load(20, 75, 5)
    busy.strangers = 0.8
    results = [measure.result_of(measure.translate(), one, 10.0, 0) for one in (quiet, busy)]
    assert [measure.undisturbed(one) for one in results] == [True, False]
    assert "0.80 not judged" in measure.show(measure.translate(), results)


def test_strangers_are_all_but_ours(tmp_path: Path) -> None:
    def write(busy: int, **ticks: int) -> None:
        (tmp_path / "stat").write_text(f"cpu  {busy} 0 0 900 0 0 0 0\n")
        for n, (parent, spent) in enumerate(((1, ticks["root"]), (500, ticks["child"]), (1, ticks["stranger"]))):
            (tmp_path / str(500 + n)).mkdir(exist_ok=True)
            fields = ["S", str(parent), *["0"] * 9, str(spent), "0"]
            (tmp_path / str(500 + n) / "stat").write_text(f"{500 + n} (a (b) c) {' '.join(fields)}\n")

    write(1000, root=10, child=20, stranger=30)
    watch = strangers.Watch(500, tmp_path)
    watch._began -= 1.0  # a second ago
    write(1100, root=30, child=50, stranger=80)
    assert watch.cores() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("text", "said"), [("speed=1", "'speed=1' is unknown here"), ("e2e_ms=fast", "has no number")])
def test_an_slo_that_is_none(text: str, said: str) -> None:
    with pytest.raises(records.RecordError, match=said):
        measure._slo(text)


@asynccontextmanager
async def server(answer: bytes, close: bool = False) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
                writer.write(answer)
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()


ASK = calling.Ask("/x", json.dumps({"a": 1}).encode(), 7.0)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b'c\r\ndata: {"a"}\n\r\nc\r\ndata: {"b"}\n\r\n0\r\n\r\n'
)  # fmt: skip


async def test_callers_keep_a_row_a_request() -> None:
    async with server(CHUNKED) as port:
        caller = calling.Caller("127.0.0.1", port, "key")
        rows = await calling.open_loop(caller, [ASK] * 20, [n / 1000 for n in range(20)])
        _, more = await calling.closed_loop(caller, [ASK] * 20, 3)
        caller.close()
    assert len(rows) == len(more) == 20
    for row in [*rows, *more]:
        assert row.ok and row.events == 2 and row.units == 7.0
        assert 0 < row.ttft_ms <= row.e2e_ms


@pytest.mark.parametrize(
    ("answer", "said"), [(CHUNKED[:-20], "IncompleteReadError"), (b"no http at all\r\n\r\n", "Error")]
)
async def test_a_broken_answer_is_a_row_too(answer: bytes, said: str) -> None:
    async with server(answer, close=True) as port:
        caller = calling.Caller("127.0.0.1", port, "key", timeout_s=5)
        rows = await calling.open_loop(caller, [ASK], [0.0])
    assert not rows[0].ok
    assert said in rows[0].error


async def test_a_refusal_is_no_success() -> None:
    async with server(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno") as port:
        caller = calling.Caller("127.0.0.1", port, "key")
        rows = await calling.open_loop(caller, [ASK] * 3, [0.0, 0.0, 0.001])
        caller.close()
    assert [(row.status, row.ok) for row in rows] == [(503, False)] * 3


def test_aiperf_s_export_becomes_a_result() -> None:
    spread = {"p50": 71.5, "p95": 80.0, "p99": 90.0}
    told = {"request_throughput": {"avg": 10.0}, "time_to_first_token": spread, "request_latency": spread}
    made = crosscheck.of_export({**told, "error_request_count": {"avg": 2.0}}, 4, 160)
    assert (made["failed"], made["duration_s"], made["ttft_ms"]["p50"]) == (2, 15.8, 71.5)
    ours = {**made, "config_name": "ours", "goodput_per_s": 10.5, "ttft_ms": {"p50": 61.0}}
    assert "+5.0%" in crosscheck.show([made, ours])
