"""Load generator: HTTP/1.1 keep-alive over loopback, closed or open loop, streams read event by event.

What it is: one process, uvloop and httptools, ``python -m appliance_bench.load --url … --connections
16 --seconds 5``; prints one JSON object. Arrival times are taken when the bytes arrive, before they
are parsed. It measures its own lateness (``lag_ms``) and its share of a core (``cpu_share``): figures
taken while these are high say something about the generator, not about the server.
What it refuses to be: ``vllm bench serve``. No tokenizer, no data sets; it exists because those cost
more a request than the gateway they would measure. About 11 µs a small request.

In the open loop latency counts from the moment a request was due, so a server that stalls cannot
hide the requests that piled up meanwhile (coordinated omission).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import resource
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from appliance_bench.load_stats import Spread, spread

_LAG_TICK_S = 0.005
_now = time.perf_counter_ns


class LoadPlan(msgspec.Struct, frozen=True):
    """What to send where. ``rate`` 0 is the closed loop; ``expect_events`` 0 checks no count."""

    host: str
    port: int
    request: bytes
    connections: int
    seconds: float
    warmup_s: float = 1.0
    rate: float = 0.0
    seed: int = 0
    expect_events: int = 0


class LoadReport(msgspec.Struct, frozen=True):
    """What came back inside the measured window; ``answers`` also counts the warm-up.

    ``reads``: socket reads that carried events. ``cpu_share``: of one core, the generator's own.
    """

    requests: int
    answers: int
    requests_per_s: float
    errors: dict[str, int]
    latency_ms: Spread
    ttft_ms: Spread
    gap_ms: Spread
    events: int
    events_per_s: float
    reads: int
    seconds: float
    lag_ms: Spread
    cpu_share: float


class Recorder:
    """Measurements of one run, nanoseconds; only what ends inside the window counts."""

    def __init__(self) -> None:
        self.open = False
        self.latency, self.ttft, self.gap, self.lag = (array("q") for _ in range(4))
        self.events = self.reads = self.answers = 0
        self.errors: Counter[str] = Counter()


class Connection(asyncio.Protocol):
    """One keep-alive connection; ``run.done(self)`` when its answer is complete."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._record = run.record
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._due = self._at = self._last_event = 0
        self._busy = False
        self._events = 0
        self._tail = b""

    def send(self, due_ns: int) -> None:
        """Send the request; its latency counts from ``due_ns``."""
        assert self._transport is not None
        self._due, self._last_event, self._events, self._tail = due_ns, 0, 0, b""
        self._busy = True
        self._transport.write(self._run.plan.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(self, self._busy)

    def close(self) -> None:
        """Leave, whatever is under way."""
        self._busy = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._at = _now()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._record.errors["not http"] += 1
            self.close()

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() != 200:
            return
        # An event ends in an empty line, which two reads may share.
        joined = self._tail + body
        count = joined.count(b"\n\n")
        self._tail = b"\n" if joined.endswith(b"\n") and not joined.endswith(b"\n\n") else b""
        if count:
            self._arrived(count)

    def _arrived(self, count: int) -> None:
        record = self._record
        if record.open:
            if self._events:
                record.gap.append(self._at - self._last_event)
                record.gap.extend((0,) * (count - 1))
            else:
                record.ttft.append(self._at - self._due)
            record.events += count
            record.reads += 1 if self._at != self._last_event else 0
        self._events += count
        self._last_event = self._at

    def on_message_complete(self) -> None:
        self._busy = False
        record, expected = self._record, self._run.plan.expect_events
        record.answers += 1
        status = self._parser.get_status_code()
        if status != 200:
            record.errors[f"status {status}"] += 1
        elif expected and self._events != expected:
            record.errors[f"{self._events} events"] += 1
        elif record.open:
            record.latency.append(self._at - self._due)
        # httptools keeps the state of the message it has just read until this callback returns.
        keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self) if not keep else self._parser
        self._run.done(self)


class Run:
    """One load run on a running loop."""

    def __init__(self, plan: LoadPlan, loop: asyncio.AbstractEventLoop) -> None:
        self.plan = plan
        self.record = Recorder()
        self._loop = loop
        self._random = random.Random(plan.seed)
        self._idle: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._all: set[Connection] = set()
        self._stopping = False

    def done(self, connection: Connection) -> None:
        """A complete answer: the closed loop sends again, the open loop serves who waits."""
        if self._stopping:
            return
        if self.plan.rate <= 0:
            connection.send(_now())
        elif self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection, busy: bool) -> None:
        """The peer closed: an error when an answer was due; a fresh connection takes its place."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if busy:
            self.record.errors["cut"] += 1
        if not self._stopping:
            self._loop.create_task(self._replace())

    async def _replace(self) -> None:
        try:
            self.done(await self._connect())
        except OSError as e:
            self.record.errors[type(e).__name__] += 1

    async def _connect(self) -> Connection:
        _, connection = await self._loop.create_connection(lambda: Connection(self), self.plan.host, self.plan.port)
        self._all.add(connection)
        return connection

    def _arrive(self, due_s: float) -> None:
        if self._stopping:
            return
        due_ns = int(due_s * 1e9)
        if self._idle:
            self._idle.popleft().send(due_ns)
        else:
            self._waiting.append(due_ns)
        following = due_s + self._random.expovariate(self.plan.rate)
        self._loop.call_later(max(following - time.perf_counter(), 0.0), self._arrive, following)

    def _tick(self, due_s: float) -> None:
        # By the fine clock: loop.time() of uvloop is a millisecond counter read once an iteration.
        late_ns = int((time.perf_counter() - due_s) * 1e9)
        if self.record.open:
            self.record.lag.append(max(late_ns, 0))
        self._loop.call_later(_LAG_TICK_S, self._tick, time.perf_counter() + _LAG_TICK_S)

    async def measure(self) -> LoadReport:
        """Connect, warm up, measure, leave."""
        for connection in [await self._connect() for _ in range(self.plan.connections)]:
            self.done(connection)
        if self.plan.rate > 0:
            self._arrive(time.perf_counter())
        self._tick(time.perf_counter())
        await asyncio.sleep(self.plan.warmup_s)
        self.record.open = True
        start, cpu = time.perf_counter(), _cpu_s()
        await asyncio.sleep(self.plan.seconds)
        self.record.open = False
        wall, cpu = time.perf_counter() - start, _cpu_s() - cpu
        self._stopping = True
        for connection in tuple(self._all):
            connection.close()
        return self._report(wall, cpu)

    def _report(self, wall: float, cpu: float) -> LoadReport:
        r = self.record
        return LoadReport(
            requests=len(r.latency),
            answers=r.answers,
            requests_per_s=round(len(r.latency) / wall, 1),
            errors=dict(r.errors),
            latency_ms=spread(r.latency),
            ttft_ms=spread(r.ttft),
            gap_ms=spread(r.gap),
            events=r.events,
            events_per_s=round(r.events / wall, 1),
            reads=r.reads,
            seconds=round(wall, 3),
            lag_ms=spread(r.lag),
            cpu_share=round(cpu / wall, 3),
        )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def chat_request(url: str, *, message: str, model: str, stream: bool, key: str | None) -> tuple[str, int, bytes]:
    """Host, port and the bytes of one chat request to ``url`` (http only)."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{url!r} is not an http:// address with a host; the generator speaks plain HTTP only")
    body = msgspec.json.encode(
        {"model": model, "messages": [{"role": "user", "content": message}], **({"stream": True} if stream else {})}
    )
    lines = [
        f"POST {parts.path or '/v1/chat/completions'} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *([f"authorization: Bearer {key}"] if key else []),
    ]
    return parts.hostname, parts.port or 80, "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_load(plan: LoadPlan) -> LoadReport:
    """Run ``plan`` on the current loop. The collector is off while it measures: its pauses would be recorded."""
    gc.collect()
    gc.disable()
    try:
        return await Run(plan, asyncio.get_running_loop()).measure()
    finally:
        gc.enable()


def main(argv: Sequence[str]) -> int:
    """Entry point. The key, if any, comes from APPLIANCE_BENCH_KEY: arguments are visible to everyone."""
    parser = argparse.ArgumentParser(prog="python -m appliance_bench.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests/s, Poisson; 0: closed loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--message", default="What is the capital of India?")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--expect-events", type=int, default=0, help="events of a whole stream, [DONE] included")
    args = parser.parse_args(argv)
    key = os.environ.get("APPLIANCE_BENCH_KEY")
    host, port, request = chat_request(args.url, message=args.message, model=args.model, stream=args.stream, key=key)
    plan = LoadPlan(
        host, port, request, args.connections, args.seconds, args.warmup, args.rate, args.seed, args.expect_events
    )
    report = uvloop.run(run_load(plan))
    print(msgspec.json.encode(report).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
