"""One started engine on one socket, under its guard, until nothing of it is left.

What it is: start, wait until it gives a real answer, watch its heartbeat, drain, end. An engine that is being swapped
has two for a while, in two slots: ``NAME`` and ``NAME.b``, each with a socket, a cache and a log of its own.
What it refuses to be: a policy. What follows from an end is ``run.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import files, processes
from appliance.supervisor.command import CannotStart, EngineCommand
from appliance.supervisor.enginelog import EngineLog
from appliance.supervisor.exits import Exit, oom_kills
from appliance.supervisor.guarded import Guarded
from appliance.supervisor.heartbeat import Beat, Heartbeat, read
from appliance.supervisor.models import check_kind, model_directory
from appliance.supervisor.probe import Answer, probe, question, shown_by
from appliance.supervisor.reclaim import Holding, on_gpu
from appliance.supervisor.vllm import on_cpu, vllm_command
from appliance.supervisor.whisper import (
    conformer_command,
    fake_command,
    hosted_command,
    translate_command,
    whisper_command,
)

PROBE_EVERY_S = 0.2
SETTLE_S = 0.5  # a gateway reads the state four times a second, and may send a request until then
GPU_BACK_WITHIN_S = 30.0
# beats come every 5 s at most and take as long; a supervisor that missed this many of them is stuck itself
_UNWATCHED_S = 60.0
_DRAIN_LOOK_S = 0.1
_LOOK_WITHIN_S = 5.0


def slots(name: str) -> tuple[str, str]:
    """The two places of engine ``name``; a dot is in no engine's name."""
    return name, f"{name}.b"


def build_command(settings: Settings, slot: str, engine: EngineSettings, environ: Mapping[str, str]) -> EngineCommand:
    """What to execute in ``slot``. Raises CannotStart for an engine that is attached, or has no model."""
    if engine.elsewhere:
        raise CannotStart(
            f"engine {slot!r} is not started here: it runs elsewhere ({engine.elsewhere}), the gateway connects to it",
            Exit.BAD_ARGUMENTS,
        )
    placed = settings.model_copy(update={"engines": {slot: engine}})
    if engine.kind == "fake":
        return fake_command(placed, slot, environ)
    if engine.kind == "hosted":
        return hosted_command(placed, slot, environ)
    check_kind(settings, engine)
    directory = model_directory(settings, str(engine.model))
    if engine.kind == "vllm":
        return vllm_command(placed, slot, directory, environ, on_cpu())
    if engine.kind == "translate":
        others = {name: model_directory(settings, name) for name in engine.models}
        return translate_command(placed, slot, {str(engine.model): directory, **others}, environ)
    if engine.kind == "conformer":
        return conformer_command(placed, slot, directory, environ)
    return whisper_command(placed, slot, directory, environ)


class Instance:
    """One engine process tree. ``gone`` is done once nothing of it is left."""

    def __init__(self, settings: Settings, slot: str, engine: EngineSettings, profile: int) -> None:
        self.slot = slot
        self.engine = engine
        self.profile = profile
        self.socket = settings.engine_socket(slot)
        self.log = settings.logs_dir / f"{slot}.log"
        self.context_tokens = 0
        self.was_ready = False
        self.started_unix_s = time.time()
        self._settings = settings
        self._guarded: Guarded | None = None
        self._oom_seen = oom_kills()
        self._written: EngineLog | None = None
        self._on_gpu = False
        self._seen: set[int] = set()
        self._looked_s = time.monotonic()
        self.wedged = ""

    @property
    def model(self) -> str:
        """The name it serves."""
        return self.engine.model or (self.engine.models[0] if self.engine.models else "fake")

    @property
    def models(self) -> tuple[str, ...]:
        """All names it serves."""
        return self.engine.served or (self.model,)

    @property
    def guarded(self) -> Guarded:
        """Its processes. Only after ``start``."""
        assert self._guarded is not None
        return self._guarded

    @property
    def pid(self) -> int:
        """Its main process, 0 before it was started."""
        return self._guarded.pid if self._guarded is not None else 0

    @property
    def pids(self) -> set[int]:
        """All its processes now."""
        return {self.pid, *processes.descendants(self.pid)} if self.pid else set()

    @property
    def oom_kills(self) -> int:
        """How many processes the kernel took for memory since the last beat: an old one says nothing of this end."""
        return oom_kills() - self._oom_seen

    async def start(self, command: EngineCommand, lock_fd: int) -> None:
        """Execute ``command``. Raises CannotStart."""
        files.clear_socket(self.socket, self.slot)
        self._oom_seen = oom_kills()
        self.started_unix_s = time.time()
        try:
            self._written = EngineLog(self._settings.logs_dir, self.slot, self._settings.logs)
            self._guarded = await Guarded.start(command, self._written.fd, lock_fd)
        except OSError as e:
            raise CannotStart(f"the engine's files cannot be made ready: {e}", Exit.CRASHED) from None

    async def become_ready(self) -> Answer:
        """The first real answer, or the last excuse when ``ready_within_s`` is over."""
        give_up = time.monotonic() + self.engine.ready_within_s
        while True:
            left_s = give_up - time.monotonic()
            answer = await asyncio.to_thread(
                probe, self.socket, shown_by(self.engine), self.model, max(0.1, min(30.0, left_s))
            )
            if answer.ready or time.monotonic() >= give_up:
                self.was_ready = answer.ready
                self._on_gpu = await asyncio.to_thread(on_gpu)
                self._seen |= self.pids if self._on_gpu else set()
                self.context_tokens = answer.context_tokens
                return answer
            await asyncio.sleep(PROBE_EVERY_S)

    async def watch(self) -> str:
        """Return when it hangs, with half a sentence why."""
        heartbeat = Heartbeat(self.engine.heartbeat_s)
        self._looked_s = time.monotonic()
        asking: asyncio.Task[None] | None = None
        last_s = time.monotonic()
        try:
            while True:
                await asyncio.sleep(heartbeat.every_s)
                beat = await self._beat(min(self.engine.heartbeat_s, _LOOK_WITHIN_S))
                now_s = time.monotonic()
                verdict = heartbeat.look(beat, now_s - last_s)
                last_s = now_s
                self._looked_s = now_s
                self._oom_seen = oom_kills()
                self._seen |= self.pids if self._on_gpu else set()
                if verdict == "hung":
                    return heartbeat.why
                if verdict == "ask" and (asking is None or asking.done()):
                    asking = asyncio.create_task(self._ask(heartbeat))
        finally:
            if asking is not None:
                asking.cancel()

    def looked_after(self) -> bool:
        """Whether ``watch`` still looks at the engine's counters, however the engine does."""
        return time.monotonic() - self._looked_s < _UNWATCHED_S

    async def _ask(self, heartbeat: Heartbeat) -> None:
        heartbeat.asking = True
        limit_s = heartbeat.patience_s + self.engine.heartbeat_s
        ask = question(shown_by(self.engine), self.model, self.context_tokens)
        if await asyncio.to_thread(ask, self.socket, limit_s):
            heartbeat.answered()

    async def _beat(self, timeout_s: float) -> Beat | None:
        return await asyncio.to_thread(read, self.socket, self.engine.kind, self.context_tokens, timeout_s)

    async def drain(self, within_s: float, settle_s: float = 0.0) -> None:
        """Until no request is in it, as far as it says, and at most ``within_s``."""
        if not self.was_ready:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.sleep(min(settle_s, within_s))
                while not self.guarded.gone.done():
                    beat = await self._beat(_LOOK_WITHIN_S)
                    if beat is None or not beat.busy:
                        return
                    await asyncio.sleep(_DRAIN_LOOK_S)

    async def end(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL to everything after ``grace_s``, until nothing is left.

        Gone is gone from the GPU as well: the driver can hold the memory of a dead process (vllm #42017), and whatever
        is started next would find it missing. ``wedged`` says so when it does not come back.
        """
        if self._guarded is not None:
            await self._guarded.end(grace_s)
        if self._seen:
            self.wedged = await asyncio.to_thread(Holding(self._seen).given_back, GPU_BACK_WITHIN_S)
            self._seen = set()
        self.socket.unlink(missing_ok=True)
        self.last_words()

    def last_words(self) -> None:
        """Call when it is gone, before its log is read: everything it wrote is in the file then."""
        if self._written is not None:
            self._written.close()
