"""``appliance engine run NAME``: one engine from its start to its end.

What it is: takes the engine's lock, clears what a dead predecessor left, starts the engine under its guard,
asks until it gives a real answer, keeps ``run/NAME.json`` true, obeys ``run/NAME.ctl``, and exits with a
code that says whether running it again can help (``exits.py``).
What it refuses to be: a restarter. systemd does that in production, ``appliance serve`` elsewhere.
What it costs: about 50 MB; one process that sleeps once the engine is ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import files
from appliance.supervisor.command import CannotStart, EngineCommand
from appliance.supervisor.ctl import Ctl
from appliance.supervisor.exits import Exit, classify, last_error
from appliance.supervisor.guarded import Guarded
from appliance.supervisor.models import model_directory
from appliance.supervisor.probe import Answer, probe
from appliance.supervisor.vllm import on_cpu, vllm_command
from appliance.supervisor.whisper import fake_command, whisper_command
from appliance.types import EnginePhase, EngineState

PROBE_EVERY_S = 0.2
STOP_GRACE_S = 10.0
# how long a predecessor's guard may take to finish before the lock counts as taken
LOCK_WITHIN_S = 10.0


def build_command(settings: Settings, name: str, environ: Mapping[str, str]) -> EngineCommand:
    """What to execute for engine ``name``. Raises CannotStart for one that is unknown, attached, or has no model."""
    engine = settings.engines.get(name)
    if engine is None:
        known = ", ".join(sorted(settings.engines)) or "none"
        raise CannotStart(f"no engine {name!r} in appliance.toml; configured: {known}", Exit.BAD_ARGUMENTS)
    if engine.kind == "openai":
        raise CannotStart(
            f'engine {name!r} is of kind "openai": it runs elsewhere and the gateway connects to it by itself',
            Exit.BAD_ARGUMENTS,
        )
    if engine.kind == "fake":
        return fake_command(settings, name, environ)
    directory = model_directory(settings, str(engine.model))
    if engine.kind == "vllm":
        return vllm_command(settings, name, directory, environ, on_cpu())
    return whisper_command(settings, name, directory, environ)


class EngineRun:
    """One run of one engine. ``clock`` gives Unix seconds."""

    def __init__(self, settings: Settings, name: str, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._name = name
        self._environ = environ
        self._clock = clock
        self._asked = asyncio.Event()
        self._engine: Guarded | None = None
        self._state: EngineState | None = None

    async def run(self) -> Exit:
        """Until the engine has ended, for whatever reason, and nothing of it is left."""
        files.make_private(self._settings.run)
        self._stop_on_signals()
        try:
            command = build_command(self._settings, self._name, self._environ)
            lock = self._lock()
        except CannotStart as e:
            return self._refuse(e)
        try:
            return await self._run_locked(command, lock)
        except CannotStart as e:
            return self._refuse(e)
        finally:
            os.close(lock)

    def _refuse(self, error: CannotStart) -> Exit:
        code = Exit(error.code)
        # what belongs to a living process keeps the state that process wrote
        if code is not Exit.TAKEN and self._name in self._settings.engines:
            self._enter("failed", str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        return code

    def _lock(self) -> int:
        path = self._settings.run / f"{self._name}.lock"
        state = files.read_state(self._path)
        alive = state is not None and state.phase in ("starting", "ready") and _alive(state.supervisor_pid)
        lock = files.take_lock(path, 0.0 if alive else LOCK_WITHIN_S)
        if lock is None:
            raise CannotStart(
                f"engine {self._name!r} is already run by process {files.lock_owner(path)};"
                " stop that one first, or wait until its engine is gone",
                Exit.TAKEN,
            )
        return lock

    async def _run_locked(self, command: EngineCommand, lock: int) -> Exit:
        files.clear_socket(self._settings.engine_socket(self._name), self._name)
        files.sweep_ipc(self._settings.run)
        log = files.open_log(self._settings.logs_dir, self._name)
        self._enter("starting", f"loading {self._model}")
        ctl = Ctl(self._settings.run / f"{self._name}.ctl", {"stop": self._on_stop, "status": self._on_status})
        await ctl.start()
        try:
            self._engine = await Guarded.start(command, log, lock)
            self._enter("starting", f"loading {self._model}")
            return await self._attend(self._engine)
        finally:
            os.close(log)
            await ctl.close()
            self._settings.engine_socket(self._name).unlink(missing_ok=True)
            files.sweep_ipc(self._settings.run)

    async def _attend(self, engine: Guarded) -> Exit:
        """Probe until ready, then wait for the end."""
        ready = asyncio.create_task(self._become_ready())
        asked = asyncio.create_task(self._asked.wait())
        done, _ = await asyncio.wait({ready, asked, engine.gone}, return_when=asyncio.FIRST_COMPLETED)
        if ready in done and engine.gone not in done and not self._asked.is_set():
            answer = ready.result()
            if not answer.ready:
                return await self._give_up(engine, answer)
            self._enter("ready", "", answer.context_tokens)
            await asyncio.wait({asked, engine.gone}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        asked.cancel()
        if self._asked.is_set():
            return await self._stop(engine)
        return self._ended(engine, was_ready=ready in done)

    async def _become_ready(self) -> Answer:
        """The first real answer, or the last excuse when ``ready_within_s`` is over."""
        limit_s = self._engine_settings.ready_within_s
        give_up = time.monotonic() + limit_s
        socket, task = (self._settings.engine_socket(self._name), self._engine_settings.task)
        while True:
            left_s = give_up - time.monotonic()
            answer = await asyncio.to_thread(probe, socket, task, self._model, max(0.1, min(30.0, left_s)))
            if answer.ready or time.monotonic() >= give_up:
                return answer
            await asyncio.sleep(PROBE_EVERY_S)

    async def _give_up(self, engine: Guarded, answer: Answer) -> Exit:
        engine.stop(0.0)
        await engine.gone
        return self._fail(
            Exit.NEVER_READY,
            f"gave no answer within {self._engine_settings.ready_within_s:g} s ({answer.why});"
            f" see {self._log}, or raise ready_within_s",
        )

    async def _stop(self, engine: Guarded) -> Exit:
        self._enter("stopping", "stopping, as asked")
        engine.stop(STOP_GRACE_S)
        await engine.gone
        self._enter("stopped", "stopped, as asked" + _stuck(engine))
        return Exit.STOPPED

    def _ended(self, engine: Guarded, was_ready: bool) -> Exit:
        code, what = classify(engine.wait_status, was_ready)
        said = last_error(self._log)
        return self._fail(code, f"{what}{f' ({said})' if said else ''}; see {self._log}{_stuck(engine)}")

    def _fail(self, code: Exit, detail: str) -> Exit:
        self._enter("failed", detail)
        print(f"error: engine {self._name!r} {detail}", file=sys.stderr, flush=True)
        return code

    # what others see and ask

    def _enter(self, phase: EnginePhase, detail: str, context_tokens: int = 0) -> None:
        engine = self._engine_settings
        models = engine.models or ((engine.model,) if engine.model else ())
        since = self._clock()
        if self._state is not None and self._state.phase == phase:
            since = self._state.since_unix_s
        self._state = EngineState(
            name=self._name,
            kind=engine.kind,
            task=engine.task,
            phase=phase,
            address=str(self._settings.engine_socket(self._name)),
            models=models or (self._model,),
            detail=detail,
            since_unix_s=since,
            supervisor_pid=os.getpid(),
            engine_pid=self._engine.pid if self._engine else 0,
            context_tokens=context_tokens,
        )
        files.write_state(self._path, self._state)

    def _on_stop(self) -> Mapping[str, Any]:
        self._asked.set()
        return {}

    def _on_status(self) -> Mapping[str, Any]:
        return {"state": msgspec.to_builtins(self._state)}

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked.set)

    @property
    def _engine_settings(self) -> EngineSettings:
        return self._settings.engines[self._name]

    @property
    def _model(self) -> str:
        engine = self._engine_settings
        return engine.model or (engine.models[0] if engine.models else "fake")

    @property
    def _path(self) -> Path:
        return self._settings.run / f"{self._name}.json"

    @property
    def _log(self) -> Path:
        return self._settings.logs_dir / f"{self._name}.log"


def _stuck(engine: Guarded) -> str:
    if not engine.stuck:
        return ""
    return f"; processes {', '.join(map(str, engine.stuck))} survived SIGKILL (a wedged driver: reboot the machine)"


def _alive(pid: int) -> bool:
    return pid > 0 and Path(f"/proc/{pid}").exists()


def run_engine(settings: Settings, name: str, environ: Mapping[str, str]) -> int:
    """Supervise engine ``name`` to its end; returns the exit code for ``appliance engine run``."""

    async def main() -> Exit:
        return await EngineRun(settings, name, environ, time.time).run()

    return int(asyncio.run(main()))
