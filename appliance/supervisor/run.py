"""``appliance engine run NAME``: one engine from its start to its end.

What it is: takes the engine's lock, clears what a dead predecessor left, starts the engine under its guard,
asks until it gives a real answer, watches its heartbeat, keeps ``run/NAME.json`` true, obeys ``run/NAME.ctl``, and
exits with a code that says whether running it again can help (``exits.py``).
What it refuses to be: a restarter. systemd does that in production, ``appliance serve`` elsewhere.
What it costs: about 50 MB; one process that looks at the engine's counters every 5 s once it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.jsonlines import LineServer, Message, Refusal
from appliance.notify import Notifier
from appliance.settings import EngineSettings, Settings
from appliance.supervisor import files, history, processes
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit, classify, last_error
from appliance.supervisor.history import Ending
from appliance.supervisor.instance import SETTLE_S, Instance, build_command, slots
from appliance.supervisor.models import model_languages
from appliance.supervisor.planned import Planned
from appliance.supervisor.profiles import Profiles, halved
from appliance.supervisor.swap import Swap
from appliance.supervisor.tuned import Tuned, tuned
from appliance.supervisor.vllm import on_cpu
from appliance.types import EnginePhase, EngineState

STOP_GRACE_S = 10.0
REWRITE_S = 1.0
# how long a predecessor's guard may take to finish before the lock counts as taken
LOCK_WITHIN_S = 10.0


def say(line: str) -> None:
    """To standard error past Python's buffer: what a full disk does not take is lost, and changes no exit code."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode())


class EngineRun:
    """One run of one engine. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        profiles: Profiles = halved,
        notifier: Notifier | None = None,
    ) -> None:
        self.settings = settings
        self.name = name
        self.environ = environ
        self._clock = clock
        self.profiles = profiles
        self._notifier = notifier or Notifier("", 0.0)
        loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[Exit] = loop.create_future()
        self._swap_wanted: asyncio.Future[None] = loop.create_future()
        self._settle_s = 0.0
        self._current: Instance | None = None
        self._swap: Swap | None = None
        self._state: EngineState | None = None
        self._tuned = Tuned()
        self._unwritten = False  # the newest state could not be written
        self._started_unix_s = clock()
        self.lock_fd = -1
        self.history = history.read(settings, name)

    async def run(self) -> Exit:
        """Until the engine has ended, for whatever reason, and nothing of it is left."""
        engine = self.settings.engines.get(self.name)
        files.make_private(self.settings.run, shared=engine is not None and engine.kind == "hosted")
        self._stop_on_signals()
        try:
            self._known()
            self.lock_fd = self._lock()
        except CannotStart as e:
            return self._refuse(e)
        try:
            return await self._run_locked()
        except CannotStart as e:
            return self._refuse(e)
        except OSError as e:
            return self._refuse(CannotStart(f"the engine's files cannot be made ready: {e}", Exit.CRASHED))
        finally:
            os.close(self.lock_fd)

    def _known(self) -> None:
        if self.name not in self.settings.engines:
            known = ", ".join(sorted(self.settings.engines)) or "none"
            raise CannotStart(f"no engine {self.name!r} in appliance.toml; configured: {known}", Exit.BAD_ARGUMENTS)

    def _refuse(self, error: CannotStart) -> Exit:
        code = Exit(error.code)
        # what belongs to a living process keeps the state that process wrote
        if code is not Exit.TAKEN and self.name in self.settings.engines:
            self._fail(code, str(error), quiet=True)
        say(f"error: {error}")
        return code

    def _lock(self) -> int:
        path = self.settings.run / f"{self.name}.lock"
        state = files.read_state(self._path)
        living = ("starting", "ready", "swapping")
        alive = state is not None and state.phase in living and processes.exists(state.supervisor_pid)
        lock = files.take_lock(path, 0.0 if alive else LOCK_WITHIN_S)
        if lock is None:
            raise CannotStart(
                f"engine {self.name!r} is already run by process {files.lock_owner(path)};"
                " stop that one first, or wait until its engine is gone",
                Exit.TAKEN,
            )
        return lock

    async def _run_locked(self) -> Exit:
        engine, profile = self._granted()
        command = build_command(self.settings, self.name, engine, self.environ)
        for slot in slots(self.name):
            files.clear_socket(self.settings.engine_socket(slot), self.name)
        files.sweep_ipc(self.settings.run)
        self._current = Instance(self.settings, self.name, engine, profile)
        self.enter("starting", self._loading(self._current))
        ctl = LineServer(
            self.settings.run / f"{self.name}.ctl",
            {"stop": self._on_stop, "restart": self._on_restart, "status": self._on_status, "swap": self._on_swap},
        )
        await ctl.start()
        feeding = asyncio.create_task(self._notifier.feed(self._progressing))
        self._notifier.ready(self._loading(self._current))
        try:
            await self._current.start(command, self.lock_fd)
            self.enter("starting", self._loading(self._current))
            return await self._attend()
        finally:
            feeding.cancel()
            await ctl.close()
            if self._swap is not None:
                await self._swap.abandon()
            await self._current.end(0.0)
            files.sweep_ipc(self.settings.run)

    def _granted(self) -> tuple[EngineSettings, int]:
        """The settings this run starts with: the swapped model, and a profile down after each out-of-memory."""
        engine, profile = self._wanted(), self.history.profile
        granted = self.profiles(self.settings, self.name, engine, profile)
        while granted is None and profile > 0:  # there is nothing below the last step
            profile -= 1
            granted = self.profiles(self.settings, self.name, engine, profile)
        return self._as_measured(granted or engine, profile), profile

    def _as_measured(self, engine: EngineSettings, profile: int) -> EngineSettings:
        """With what this machine's tuned profile says; as shipped where it does not match, or ran out of memory."""
        found = tuned(self.settings, engine)
        if found.matches and profile:
            found = Tuned(said="runs as shipped: it ran out of memory with its tuned profile")
        self._tuned = found
        return found.apply(engine, self._wanted())

    def _wanted(self) -> EngineSettings:
        """The engine's settings as configured, with the model that was swapped in."""
        engine = self.settings.engines[self.name]
        if self.history.model:
            return engine.model_copy(update={"model": self.history.model, "models": ()})
        return engine

    def _loading(self, instance: Instance) -> str:
        down = f" with memory profile {instance.profile} (it ran out of memory before)" if instance.profile else ""
        return f"loading {instance.model}{down}"

    # watching

    def _progressing(self) -> bool:
        """What feeds systemd's watchdog: loading is bounded by ``ready_within_s``, a ready engine by looks at it."""
        if self._state is None or self._state.phase != "ready" or self._current is None:
            return True
        return self._current.looked_after()

    async def _attend(self) -> Exit:
        """From the start to the end, through any number of swaps."""
        code = await self._until_ready()
        while code is None:
            code = await self._while_ready()
        return code

    async def _until_ready(self) -> Exit | None:
        current = self.current
        ready = asyncio.create_task(current.become_ready())
        try:
            waiting: set[asyncio.Future[Any]] = {ready, self._asked, current.guarded.gone}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._asked.done():
                return await self._stop()
            if current.guarded.gone.done():
                return await self._ended()
            if not (answer := ready.result()).ready:
                await current.end(0.0)
                return self._fail(
                    Exit.NEVER_READY,
                    f"gave no answer within {current.engine.ready_within_s:g} s ({answer.why});"
                    f" see {current.log}, or raise ready_within_s",
                )
            self.enter("ready", "")
            return None
        finally:
            ready.cancel()

    async def _while_ready(self) -> Exit | None:
        """Until the end of this instance, or None when another has taken its place."""
        current = self.current
        watch = asyncio.create_task(current.watch())
        try:
            while True:
                swap = self._swap
                self._swap_wanted = asyncio.get_running_loop().create_future()
                waiting: set[asyncio.Future[Any]] = {self._asked, self._swap_wanted if swap is None else swap.task}
                # a swap that has to empty the place first ends the engine itself
                if swap is None or not swap.emptying:
                    waiting |= {watch, current.guarded.gone}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._asked.done():
                    return await self._stop()
                if swap is not None and swap.task.done():
                    self._swap = None
                    if swap.lost:
                        return self._fail(swap.lost, swap.result)
                if self.current is not current:
                    return None
                if (self._swap is not None and self._swap.emptying) or not (
                    watch.done() or current.guarded.gone.done()
                ):
                    continue
                return await self._ended() if current.guarded.gone.done() else await self._hung(watch.result())
        finally:
            watch.cancel()

    async def _hung(self, why: str) -> Exit:
        """Kill it whole: what hangs does not drain, and callers get their errors at once."""
        self.enter("stopping", f"hangs: {why}; killing it")
        await self.current.end(0.0)
        return self._fail(Exit.HUNG, f"hung: {why}; see {self.current.log}{self._stuck()}")

    async def _stop(self) -> Exit:
        code = self._asked.result()
        what = "restarting" if code is Exit.RESTART else "stopping"
        self.enter("stopping", f"{what}, as asked; requests under way may finish")
        if self._swap is not None:
            await self._swap.abandon()
        if not self.current.guarded.gone.done():
            await self.current.drain(self.settings.server.drain_s, self._settle_s)
        await self.current.end(STOP_GRACE_S)
        said = "stopped, to be started again, as asked" if code is Exit.RESTART else "stopped, as asked"
        self._record(code, said)
        self.enter("stopped", said + self._stuck())
        return code

    async def _ended(self) -> Exit:
        current = self.current
        await current.end(0.0)
        code, what = classify(current.guarded.wait_status, current.was_ready, current.log, current.oom_kills)
        said = last_error(current.log)
        return self._fail(code, f"{what}{f' ({said})' if said else ''}; see {current.log}{self._stuck()}")

    def _fail(self, code: Exit, detail: str, quiet: bool = False) -> Exit:
        profile = self.history.profile
        if code is Exit.OUT_OF_MEMORY:
            detail, profile = self._step_down(detail)
        self._record(code, detail)
        self.history = replace(self.history, profile=profile)
        history.write(self.settings, self.name, self.history)
        self.enter("failed", detail, code)
        if not quiet:
            say(f"error: engine {self.name!r} {detail}")
        return code

    def _step_down(self, detail: str) -> tuple[str, int]:
        profile = self.current.profile + 1
        try:
            smaller = self.profiles(self.settings, self.name, self._wanted(), profile)
        except CannotStart:  # there is a step, and whether it has room is the next start's to see
            smaller = self._wanted()
        if smaller is None:
            return f"{detail}; there is no smaller memory profile: choose a smaller model", profile - 1
        return f"{detail}; the next start is one memory profile down ({profile})", profile

    def _record(self, code: Exit, detail: str) -> None:
        current = self._current
        started = current.started_unix_s if current is not None else self._started_unix_s
        profile = current.profile if current is not None else 0
        model = current.model if current is not None else ""
        ending = Ending(started, self._clock(), code.word, int(code), model, profile, detail)
        self.history = self.history.ended(ending)
        history.write(self.settings, self.name, self.history)

    # what a swap does to this run

    @property
    def current(self) -> Instance:
        """The instance that answers."""
        assert self._current is not None
        return self._current

    def take_place(self, instance: Instance) -> None:
        """``instance`` answers from now on: gateways read its address from the state."""
        self._current = instance
        self._tuned = Tuned()  # a swapped-in model starts as shipped; its next start looks for its profile
        configured = self.settings.engines[self.name].model
        self.history = replace(self.history, model="" if instance.model == configured else instance.model)
        history.write(self.settings, self.name, self.history)
        self.enter("ready", "")

    # what others see and ask

    def enter(self, phase: EnginePhase, detail: str, code: Exit | None = None, models: tuple[str, ...] = ()) -> None:
        """Write the state."""
        engine, current = self.settings.engines[self.name], self._current
        address = str(current.socket if current is not None else self.settings.engine_socket(self.name))
        since, before = self._clock(), self._state
        if before is not None and (before.phase, before.address) == (phase, address):
            since = before.since_unix_s
        speaks = model_languages(self.settings, current.model) if current else ((), ())
        own = current.models if current is not None else engine.served or ("fake",)
        self._state = EngineState(
            name=self.name,
            kind=engine.kind,
            task=engine.task,
            phase=phase,
            address=address,
            models=models or own,
            detail=detail,
            since_unix_s=since,
            supervisor_pid=os.getpid(),
            engine_pid=current.pid if current is not None else 0,
            context_tokens=current.context_tokens if current is not None and phase == "ready" else 0,
            exit=code.word if code is not None else "",
            profile=current.profile if current is not None else 0,
            languages=speaks[0],
            preferred_for=speaks[1],
            region=engine.hosted.region,
            tuned=self._tuned.said,
        )
        self._write_state()
        self._notifier.status(f"{phase}: {detail}" if detail else f"{phase}: {', '.join(self._state.models)}")

    def _write_state(self) -> None:
        """Now, or as soon as the disk takes it: gateways go by it."""
        if self._state is None or files.write_state(self._path, self._state):
            self._unwritten = False
            return
        if not self._unwritten:
            self._unwritten = True
            say(f"error: {self._path} cannot be written; free space on its disk")
        asyncio.get_running_loop().call_later(REWRITE_S, self._write_state)

    def _on_stop(self, _: Message) -> Mapping[str, Any]:
        self._ask(Exit.STOPPED, SETTLE_S)
        return {}

    def _on_restart(self, _: Message) -> Mapping[str, Any]:
        self._ask(Exit.RESTART, SETTLE_S)
        return {}

    def _on_status(self, _: Message) -> Mapping[str, Any]:
        swap = self._swap
        return {"state": msgspec.to_builtins(self._state), "swap": None if swap is None else swap.step}

    async def _on_swap(self, message: Message) -> Mapping[str, Any]:
        """Answers when the swap is over; whoever asked may leave before that, and the swap goes on."""
        if self._swap is not None or self._state is None or self._state.phase != "ready" or self._asked.done():
            phase = "being swapped already" if self._swap is not None else self._state.phase if self._state else "new"
            raise Refusal(f"engine {self.name!r} is {phase}; swap it when it is ready")
        model = message.get("model")
        if model is not None and not isinstance(model, str):
            raise Refusal("name a model to swap to")
        swap = self._swap = Swap(self, model or "")
        if not self._swap_wanted.done():
            self._swap_wanted.set_result(None)
        await asyncio.wait({swap.task})
        if not swap.done:
            raise Refusal(swap.result)
        return {"detail": swap.result}

    def _ask(self, code: Exit, settle_s: float = 0.0) -> None:
        if not self._asked.done():
            self._settle_s = settle_s
            self._asked.set_result(code)

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._ask, Exit.STOPPED)

    @property
    def _path(self) -> Path:
        return self.settings.run / f"{self.name}.json"

    def _stuck(self) -> str:
        if self._current is None or not self._current.pid:
            return ""
        if self._current.wedged:
            return f"; {self._current.wedged}"
        stuck = self._current.guarded.stuck
        if not stuck:
            return ""
        return f"; processes {', '.join(map(str, stuck))} survived SIGKILL (a wedged driver: reboot the machine)"


def run_engine(settings: Settings, name: str, environ: Mapping[str, str], notifier: Notifier | None = None) -> int:
    """Supervise engine ``name`` to its end; returns the exit code for ``appliance engine run``."""

    async def main() -> Exit:
        return await EngineRun(settings, name, environ, time.time, Planned(environ, on_cpu()), notifier).run()

    return int(asyncio.run(main()))
