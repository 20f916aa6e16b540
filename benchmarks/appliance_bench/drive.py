"""Load on one engine: requests of a workload at the times they are due, and what became of each.

What it is: the open loop (``offer``), and one after another (``alone``). Time counts from when a request was due, so an
engine that stalls cannot hide what piled up; how late the client itself sent is ``lag_ms`` of every request. Past its
knee an engine only piles up, so an offer ends early when more is under way than the target allows (``overrun``).
What it refuses to be: ``vllm bench serve``. That one speaks to TCP ports (engines here listen on Unix sockets), knows
nothing of translation, and imports vLLM for a minute; the figures are defined as it defines them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from appliance_bench.slo import Took
from appliance_bench.wire import Client, Unanswered

_LEAST_UNDER_WAY = 24
_DRAIN_S = 60.0


@dataclass(frozen=True)
class Job:
    """One request. ``read`` makes the text of a whole answer; ``seconds`` of its audio, ``characters`` of its text.

    ``then`` makes the next request of the text that came, and time counts until the last is answered.
    """

    path: str
    body: bytes
    read: Callable[[bytes], str]
    reference: str = ""
    headers: str = "content-type: application/json\r\n"
    streamed: bool = False
    seconds: float = 0.0
    characters: int = 0
    then: Callable[[str], Job] | None = None


@dataclass
class Load:
    """What came of an offer: ``texts`` of the jobs in their order, None where there is none."""

    took: list[Took] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    tokens: int = 0
    overrun: bool = False
    duration_s: float = 0.0


async def offer(client: Client, jobs: Sequence[Job], due_s: Sequence[float], limit_ms: float) -> Load:
    """Each job when it is due (seconds from now). ``limit_ms``: a request's whole time that still is of use."""
    load = Load(texts=[None] * len(jobs))
    began = time.perf_counter()
    rate = len(jobs) / max(due_s[-1], 1e-9)
    most = max(_LEAST_UNDER_WAY, int(4 * rate * limit_ms / 1000))
    tasks: list[asyncio.Task[None]] = []
    for number, (job, due) in enumerate(zip(jobs, due_s, strict=True)):
        if (wait_s := began + due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        elif number % 16 == 0:
            await asyncio.sleep(0)
        if len(tasks) - len(load.took) > most:
            load.overrun = True
            break
        tasks.append(asyncio.create_task(_one(client, job, number, began, due, load)))
    _, late = await asyncio.wait(tasks, timeout=_DRAIN_S) if tasks else ((), set())
    for task in late:
        task.cancel()
        load.took.append(Took(due_s[-1], _DRAIN_S * 1000, failed="no_answer"))
    await asyncio.gather(*late, return_exceptions=True)
    load.duration_s = time.perf_counter() - began
    return load


async def alone(client: Client, jobs: Sequence[Job]) -> Load:
    """One after another."""
    load = Load(texts=[None] * len(jobs))
    began = time.perf_counter()
    for number, job in enumerate(jobs):
        await _one(client, job, number, began, time.perf_counter() - began, load)
    load.duration_s = time.perf_counter() - began
    return load


async def together(client: Client, jobs: Sequence[Job], at_once: int) -> Load:
    """``at_once`` callers who ask again when they are answered: warms an engine, and shows about what it can do."""
    load = Load(texts=[None] * len(jobs))
    began = time.perf_counter()
    todo = iter(enumerate(jobs))

    async def caller() -> None:
        for number, job in todo:
            await _one(client, job, number, began, time.perf_counter() - began, load)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    load.duration_s = time.perf_counter() - began
    return load


async def _one(client: Client, job: Job, number: int, began: float, due: float, load: Load) -> None:
    sent = time.perf_counter() - began
    marks: list[float] = []

    def part(data: bytes) -> None:
        if _says_something(data):
            marks.append(time.perf_counter() - began)

    failed, step = "", job
    while True:
        try:
            status, answer = await client.post(step.path, step.body, step.headers, part if step.streamed else None)
            if status != 200:
                failed = f"http_{status}"
                break
            text = step.read(answer)
            if step.then is None:
                load.texts[number] = text
                break
            step = step.then(text)
        except Unanswered:
            failed = "no_answer"
            break
        except (ValueError, KeyError, IndexError, TypeError, msgspec.DecodeError):
            failed = "no_sense"
            break
    ended = time.perf_counter() - began
    ttft = tpot = None
    if not failed and job.streamed:
        if marks:
            ttft = (marks[0] - due) * 1000
            tpot = (marks[-1] - marks[0]) * 1000 / (len(marks) - 1) if len(marks) > 1 else None
            load.tokens += len(marks)
        else:
            failed = "empty"
    load.took.append(Took(due, (ended - due) * 1000, ttft, tpot, max(0.0, (sent - due) * 1000), failed))


def _says_something(data: bytes) -> bool:
    """Whether a part of a chat stream carries text."""
    return b'"content":"' in data and b'"content":""' not in data
