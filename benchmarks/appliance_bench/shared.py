"""Engines that share a machine, and the measurement of one division of it under a mix.

What it is: ``Shared`` keeps an engine for each part of the mix, offers each part its share of a load at the same time,
and says how each engine and all together did.
What it refuses to be: a user of the gateway. Engines are asked directly, as ``rig`` asks one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from msgspec import Struct

from appliance_bench import arrivals, drive, profiles, rig, sample
from appliance_bench.division import Part, engine_config
from appliance_bench.records import RecordError
from appliance_bench.sample import Sample
from appliance_bench.search import Config
from appliance_bench.wire import Client

# how many times its limit a load lasts at least, of how many requests of each engine, and how long at most
_SPAN, _LEAST, _LONGEST_S = 5, 20, 120.0
_SPEED = 160


class Mixed(Struct, frozen=True):
    """A sample of all together, and of each engine in it."""

    whole: Sample
    each: dict[str, Sample]


class Shared:
    """Measures divisions under the mix; use as a context manager. ``keep``: engines of one task that stay up.

    With ``keep`` 1 nothing is up but the division that is measured: on a GPU what idles still holds memory.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        keep: int,
        seed: int = 0,
        models_dir: Path | None = None,
        start: Callable[[str, str, Config, Path], rig.Engine] = rig.start,
    ) -> None:
        self.parts = tuple(parts)
        self.seen: list[Mixed] = []
        self._keep, self._seed, self._start = keep, seed, start
        self._models = models_dir or profiles.home() / "models"
        self._engines: dict[tuple[str, Config], rig.Engine] = {}
        self._probes = 0

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        while self._engines:
            self._engines.popitem()[1].stop()

    def __call__(self, which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample:
        """See ``search.Measure``. ``rate`` is of all together."""
        return self.measure(which, rate, requests, self.parts, held_out).whole

    def each(self, whole: Sample) -> dict[str, Sample]:
        """The engines' own samples of one that was measured here."""
        return next(one.each for one in self.seen if one.whole is whole)

    def measure(self, which: Config, rate: float, requests: int, parts: Sequence[Part], held_out: bool) -> Mixed:
        """``parts`` at their share of ``rate`` (0: each one after another), the others idle."""
        began = time.monotonic()
        try:
            engines = self._up(which)
        except rig.CannotServe as e:
            return self._note(sample.broken(e.word, time.monotonic() - began, rate), {})
        self._probes += 1
        seconds = self.seconds(parts, rate, requests)
        loads = asyncio.run(self._offer([(p, engines[p.task]) for p in parts], rate, seconds, held_out))
        if dead := [p.task for p in self.parts if engines[p.task].process.poll() is not None]:
            word = self._bury(dead)
            return self._note(sample.broken(word, time.monotonic() - began, rate), {})
        spent_s = time.monotonic() - began
        each = {
            part.task: sample.summarise(
                load.took,
                part.workload.targets,
                offered_per_s=rate * part.weight or len(load.took) / load.duration_s,
                duration_s=load.duration_s,
                spent_s=spent_s,
                saturated=load.overrun,
                rates=rig.rates_of(jobs, load),
            )
            for part, (jobs, load) in zip(parts, loads, strict=True)
        }
        return self._note(together(rate, each, parts, spent_s), each)

    def speed(self, which: Config) -> tuple[float, float]:
        """Requests of the mix a second with many callers of every engine, and the seconds until all were ready.

        Raises RecordError.
        """
        began = time.monotonic()
        try:
            engines = self._up(which)
        except rig.CannotServe as e:
            raise RecordError(f"an engine does not start with its defaults: {e}") from None
        start_s = time.monotonic() - began
        count = 0

        async def one(part: Part) -> None:
            nonlocal count
            client = Client(engines[part.task].address)
            jobs = part.workload.jobs(part.model, False, max(4, round(_SPEED * part.weight)), tag="speed")
            try:
                load = await drive.together(client, jobs, 16)
            finally:
                await client.close()
            count += sum(1 for took in load.took if not took.failed)

        async def all_() -> None:
            await asyncio.gather(*(one(part) for part in self.parts))

        began = time.monotonic()
        asyncio.run(all_())
        if not count:
            raise RecordError("the engines answer nothing that is of use; see `appliance logs`")
        return count / (time.monotonic() - began), start_s

    def _note(self, whole: Sample, each: dict[str, Sample]) -> Mixed:
        self.seen.append(Mixed(whole, each))
        return self.seen[-1]

    def seconds(self, parts: Sequence[Part], rate: float, requests: int) -> float:
        """How long a load of ``requests`` at least lasts; 0 where there is no rate."""
        if not rate:
            return 0.0
        span_s = max(_SPAN * part.limit_ms / 1000 for part in parts)
        enough_s = max(_LEAST / (rate * part.weight) for part in parts)
        return min(max(span_s, enough_s, requests / rate), max(_LONGEST_S, span_s))

    async def _offer(
        self, asked: Sequence[tuple[Part, rig.Engine]], rate: float, seconds: float, held_out: bool
    ) -> list[tuple[list[drive.Job], drive.Load]]:
        clients = [Client(engine.address) for _, engine in asked]
        try:
            for (part, engine), client in zip(asked, clients, strict=True):
                if not engine.warm:
                    warm = part.workload.jobs(part.model, False, rig.WARM[part.task], tag="warm")
                    await drive.together(client, warm, 8)
                    engine.warm = True
            todo = [
                self._one(part, client, rate, seconds, held_out)
                for (part, _), client in zip(asked, clients, strict=True)
            ]
            return list(await asyncio.gather(*todo))
        finally:
            for client in clients:
                await client.close()

    async def _one(
        self, part: Part, client: Client, rate: float, seconds: float, held_out: bool
    ) -> tuple[list[drive.Job], drive.Load]:
        count = max(_LEAST // 2, round(rate * part.weight * seconds))
        jobs = part.workload.jobs(part.model, held_out, count, tag=f"{part.task}{self._probes}")
        if not rate:
            return jobs, await drive.alone(client, jobs)
        rng = random.Random(f"{self._seed} {self._probes} {part.task}")
        due_s = arrivals.arrivals(part.workload.sheet.arrivals, rate * part.weight, count, rng)
        return jobs, await drive.offer(client, jobs, due_s, part.limit_ms)

    def _up(self, which: Config) -> dict[str, rig.Engine]:
        """An engine for every part. Raises CannotServe."""
        wanted = {part.task: (part.task, engine_config(which, part)) for part in self.parts}
        for task, key in wanted.items():
            others = [k for k in self._engines if k[0] == task and k != key]
            for oldest in others[: max(0, len(others) - (self._keep - 1))]:
                self._engines.pop(oldest).stop()
        for part in self.parts:
            key = wanted[part.task]
            engine = self._engines.pop(key, None) or self._start(part.task, part.model, key[1], self._models)
            self._engines[key] = engine  # the newest last
        return {task: self._engines[key] for task, key in wanted.items()}

    def _bury(self, tasks: Sequence[str]) -> str:
        """Forget the dead; the word for the end of the first."""
        words = []
        for key, engine in list(self._engines.items()):
            if key[0] in tasks and engine.process.poll() is not None:
                words.append(f"{key[0]}_{rig.how_it_ended(engine.home, key[0])}")
                self._engines.pop(key).stop()
        return words[0]


def together(rate: float, each: Mapping[str, Sample], parts: Sequence[Part], spent_s: float) -> Sample:
    """One sample of several engines' parts: ``saturated`` where any of them did not meet its own targets."""
    failing = [part.task for part in parts if not each[part.task].meets(part.workload.targets)]
    figures = {f"{task}.{name}": value for task, one in each.items() for name, value in one.figures.items()}
    return Sample(
        offered_per_s=round(rate, 4),
        requests=sum(one.requests for one in each.values()),
        failed=sum(one.failed for one in each.values()),
        within=sum(one.within for one in each.values()),
        violations={},
        figures=figures,
        duration_s=max(one.duration_s for one in each.values()),
        spent_s=spent_s,
        saturated=bool(failing),
        errors={f"{task}.{name}": count for task, one in each.items() for name, count in one.errors.items()},
        rates={f"{task}.{name}": value for task, one in each.items() for name, value in one.rates.items()},
    )
