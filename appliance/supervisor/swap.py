"""Another model in an engine's place: load it, switch, drain the old one, unload it.

What it is: one swap. Where memory allows both, the old engine serves until the new one has given a real answer, and
requests under way on it finish. Where it does not, the old one is drained and unloaded first, its memory is seen to
be back, and requests wait in the gateway, at most ``server.swap_wait_s``. A new engine that does not start leaves
the old one serving, or brings it back.
What it refuses to be: vLLM's sleep. Levels 1 and 2 need its CUDA allocator; its CPU build refuses
``--enable-sleep-mode`` ("Sleep mode is not supported on current platform"), so it is unverified here and off.
What it costs: a start of the new engine, and its memory beside the old one's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.beside import needed_bytes, room_bytes
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit, classify, last_error
from appliance.supervisor.instance import SETTLE_S, Instance, build_command, slots
from appliance.supervisor.models import model_directory
from appliance.supervisor.profiles import Profiles
from appliance.supervisor.reclaim import Holding
from appliance.types import EnginePhase

GRACE_S = 10.0
GIVEN_BACK_WITHIN_S = 30.0
# of what is free: other processes of this machine grow too
_HEADROOM = 0.05


class Place(Protocol):
    """What is swapped: an engine's supervisor."""

    settings: Settings
    name: str
    environ: Mapping[str, str]
    profiles: Profiles
    lock_fd: int

    @property
    def current(self) -> Instance: ...
    def take_place(self, instance: Instance) -> None: ...
    def enter(
        self, phase: EnginePhase, detail: str, code: Exit | None = None, models: tuple[str, ...] = ()
    ) -> None: ...


class Swap:
    """One swap to ``model``. ``task`` is the swap itself; it never raises but when cancelled."""

    def __init__(self, place: Place, model: str) -> None:
        self._place = place
        self._model = model
        self._old = place.current
        self._started: list[Instance] = []
        self.step = "looking"
        self.result = "given up"
        self.done = False
        self.emptying = False
        self.lost: Exit | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._swap()
        except CannotStart as e:
            self.result = str(e)

    async def abandon(self) -> None:
        """Stop swapping; whatever was started for it and does not answer now is ended."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        for instance in (*self._started, self._old):
            if instance is not self._place.current:
                await instance.end(0.0)

    async def _swap(self) -> None:
        engine = self._wanted()
        needed, free = await asyncio.to_thread(self._memory, engine)
        if needed <= free * (1 - _HEADROOM):
            await self._beside(engine)
        else:
            why = f"both do not fit ({needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free)"
            await self._in_place(engine, why)

    def _wanted(self) -> EngineSettings:
        """The settings with the new model. Raises CannotStart."""
        place, name = self._place, self._place.name
        if not self._model:
            raise CannotStart("name a model to swap to", Exit.BAD_ARGUMENTS)
        if self._model == self._old.model:
            raise CannotStart(f"engine {name!r} serves {self._model!r} already", Exit.BAD_ARGUMENTS)
        base = place.settings.engines[name].model_copy(update={"model": self._model, "models": ()})
        engine = place.profiles(place.settings, name, base, 0) or base
        build_command(place.settings, name, engine, place.environ)  # says now what would fail later
        return engine

    def _memory(self, engine: EngineSettings) -> tuple[int, int]:
        place = self._place
        directory = None if engine.kind == "fake" else model_directory(place.settings, self._model)
        return needed_bytes(engine, directory), room_bytes(place.settings, place.name, engine, place.environ)

    async def _start(self, engine: EngineSettings, slot: str) -> Instance:
        """A new instance that is ready. Raises CannotStart."""
        place = self._place
        instance = Instance(place.settings, slot, engine, 0)
        self._started.append(instance)
        await instance.start(build_command(place.settings, slot, engine, place.environ), place.lock_fd)
        ready = asyncio.create_task(instance.become_ready())
        try:
            await asyncio.wait({ready, instance.guarded.gone}, return_when=asyncio.FIRST_COMPLETED)
            if instance.guarded.gone.done():
                instance.last_words()
                code, what = classify(instance.guarded.wait_status, False, instance.log, instance.oom_kills)
                said = last_error(instance.log)
                raise CannotStart(f"{engine.model} {what}{f' ({said})' if said else ''}; see {instance.log}", code)
            if not (answer := ready.result()).ready:
                await instance.end(0.0)
                raise CannotStart(
                    f"{engine.model} gave no answer within {engine.ready_within_s:g} s ({answer.why});"
                    f" see {instance.log}",
                    Exit.NEVER_READY,
                )
            return instance
        finally:
            ready.cancel()

    def _free_slot(self) -> str:
        first, second = slots(self._place.name)
        return second if self._old.slot == first else first

    async def _beside(self, engine: EngineSettings) -> None:
        self.step = f"loading {self._model} beside {self._old.model}"
        self._place.enter("ready", self.step)
        try:
            new = await self._start(engine, self._free_slot())
        except CannotStart as e:
            self._place.enter("ready", "")
            raise CannotStart(f"{e}; {self._old.model} still serves", e.code) from None
        self._place.take_place(new)
        back = await self._unload(f"{self._model} answers; finishing requests on {self._old.model}")
        self._say(f"{self._old.model} was swapped for {self._model} without a pause{back}")

    async def _in_place(self, engine: EngineSettings, why: str) -> None:
        place, old = self._place, self._old
        wait_s = place.settings.server.swap_wait_s
        self.emptying = True
        place.enter(
            "swapping",
            f"{why}: unloading {old.model} for {self._model}; requests wait up to {wait_s:g} s",
            models=(self._model,),
        )
        back = await self._unload(f"{why}: finishing requests on {old.model}, then loading {self._model}")
        try:
            if back:
                raise CannotStart(f"{self._model} was not started{back}", Exit.CRASHED)
            self.step = f"loading {self._model}"
            new = await self._start(engine, self._free_slot())
        except CannotStart as e:
            await self._bring_back(str(e))
            return
        place.take_place(new)
        self._say(f"{old.model} was swapped for {self._model}; {why}, so requests had to wait")

    async def _unload(self, step: str) -> str:
        """Drain and end the old engine; empty when its memory is back, else how much is not."""
        self.step = step
        await self._old.drain(self._place.settings.server.drain_s, SETTLE_S)
        holding = await asyncio.to_thread(Holding, self._old.pids)
        await self._old.end(GRACE_S)
        left = await asyncio.to_thread(holding.given_back, GIVEN_BACK_WITHIN_S)
        return f", but {left}" if left else ""

    async def _bring_back(self, why: str) -> None:
        old = self._old
        self.step = f"bringing {old.model} back"
        self._place.enter("swapping", f"{why}; {self.step}", models=old.models)
        try:
            self._place.take_place(await self._start(old.engine, old.slot))
            self.result = f"{why}; {old.model} serves again"
        except CannotStart as e:
            self.lost = Exit(e.code)
            self.result = f"{why}; and {old.model} did not come back: {e}"

    def _say(self, sentence: str) -> None:
        self.done = True
        self.result = sentence
