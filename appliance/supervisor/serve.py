"""``appliance serve``: the gateway and all engines of one machine, from one command.

What it is: a loop that starts the gateway, then one engine after another (two that start at once mis-size each
other), restarts what crashes, and takes everything down in order: the gateway drains, then the engines stop.
What it refuses to be: needed. In production systemd runs ``appliance gateway`` and ``appliance engine run``
with the same exit codes. It holds no state: kill -9 leaves nothing alive (PR_SET_PDEATHSIG for its children,
the guards for the engines).
What it costs: about 40 MB; it wakes five times a second.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping

import appliance
from appliance.settings import Settings
from appliance.supervisor import files, processes
from appliance.supervisor.child import Child
from appliance.supervisor.exits import Exit
from appliance.supervisor.network import free_port, is_live, is_loopback, port_taken
from appliance.supervisor.run import STOP_GRACE_S
from appliance.types import EngineState

TICK_S = 0.2
_MARGIN_S = 5.0
Say = Callable[[str], None]


class Serve:
    """``serve`` itself. ``say`` prints one line for people; ``clock`` only goes forward."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], say: Say, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._say = say
        self._clock = clock
        server = settings.server
        self._port = server.port or free_port(server.host)
        env = {**environ, "APPLIANCE_HOME": str(settings.home), "APPLIANCE_RUN": str(settings.run)}
        env |= {"APPLIANCE_HOST": server.host, "APPLIANCE_PORT": str(self._port)}
        self._gateway = Child("gateway", ("gateway",), env, None)
        self._engines = [
            Child(name, ("engine", "run", name), env, settings.logs_dir / f"{name}.supervisor.log")
            for name, engine in settings.engines.items()
            if engine.kind != "openai"
        ]
        self._signals = 0
        self._greeted = False

    def run(self) -> int:
        """Until Ctrl-C or SIGTERM. Returns the exit code."""
        files.make_private(self._settings.run)
        self._settings.home.mkdir(parents=True, exist_ok=True)
        lock_path = self._settings.home / "serve.lock"
        lock = files.take_lock(lock_path)
        if lock is None:
            return self._error(
                f"the appliance in {self._settings.home} is already served by process {files.lock_owner(lock_path)};"
                " stop that one, or set APPLIANCE_HOME to another directory",
                Exit.TAKEN,
            )
        try:
            return self._run_locked()
        finally:
            os.close(lock)

    def _run_locked(self) -> int:
        server = self._settings.server
        if why := port_taken(server.host, self._port):
            return self._error(
                f"cannot listen on {server.host}:{self._port} ({why});"
                " stop what listens there, or set APPLIANCE_PORT to a free port",
                Exit.TAKEN,
            )
        processes.become_subreaper()
        wake = self._wake_on_signals()
        self._say(f"appliance {appliance.__version__}, home {self._settings.home}")
        if not is_loopback(server.host):
            self._say(
                f"warning: {server.host}:{self._port} can be reached from the network without TLS, so keys and prompts"
                " travel in the clear; put a TLS proxy in front (nginx, Caddy), or set APPLIANCE_HOST=127.0.0.1"
            )
        try:
            if not self._start_gateway(wake):
                return 0 if self._signals else int(Exit.CRASHED)
            return self._loop(wake)
        finally:
            self._stop_all(wake)

    # starting and watching

    def _start_gateway(self, wake: int) -> bool:
        self._gateway.start(self._clock())
        while not self._signals:
            if (code := self._gateway.exited()) is not None:
                self._error(f"the gateway did not start (exit code {code}); the reason is above", Exit.CRASHED)
                return False
            if is_live(self._settings.server.host, self._port):
                self._gateway.phase = "ready"
                self._say(f"gateway: listening on {self._url}")
                return True
            _wait(wake, TICK_S)
        return False

    def _loop(self, wake: int) -> int:
        for name, engine in self._settings.engines.items():
            if engine.kind == "openai":
                self._say(f"{name}: attached, {engine.url or engine.socket}")
        while not self._signals:
            self.tick(self._clock())
            if self._gateway.phase == "failed":
                return self._error("the gateway crashed 5 times in 10 minutes and is not started again", Exit.CRASHED)
            _wait(wake, TICK_S)
        return 0

    def tick(self, now: float) -> None:
        """One round: collect what ended, notice what became ready, start what is due."""
        self._tend_gateway(now)
        for child in self._engines:
            self._tend_engine(child, now)
        if not any(child.phase == "starting" for child in self._engines):
            for child in self._engines:
                if child.phase == "due" or (child.phase == "waiting" and now >= child.due_at):
                    self._say(f"{child.name}: starting {self._settings.engines[child.name].model or ''}".rstrip())
                    child.start(now)
                    break
        if not self._greeted and all(child.settled for child in self._engines):
            self._greeted = True
            self._greet()

    def _tend_gateway(self, now: float) -> None:
        gateway = self._gateway
        if (code := gateway.exited()) is not None:
            gateway.after_exit(code if code else int(Exit.CRASHED), now)
            if gateway.phase == "waiting":
                self._say(f"gateway: ended with exit code {code}; starting it again in {gateway.due_at - now:g} s")
        elif gateway.phase == "waiting" and now >= gateway.due_at:
            gateway.start(now)
        elif gateway.phase == "starting" and is_live(self._settings.server.host, self._port):
            gateway.phase = "ready"
            self._say(f"gateway: listening on {self._url} again")

    def _tend_engine(self, child: Child, now: float) -> None:
        state = files.read_state(self._settings.run / f"{child.name}.json")
        mine = state if state is not None and state.supervisor_pid == child.pid else None
        if (code := child.exited()) is not None:
            child.after_exit(code, now)
            self._say(self._obituary(child, code, mine, now))
        elif child.phase == "starting" and mine is not None and mine.phase == "ready":
            child.phase = "ready"
            self._say(f"{child.name}: ready in {now - child.started_at:.1f} s")

    def _obituary(self, child: Child, code: int, state: EngineState | None, now: float) -> str:
        log = self._settings.logs_dir / f"{child.name}.supervisor.log"
        why = state.detail if state is not None and state.detail else f"ended with exit code {code}; see {log}"
        if code == Exit.STOPPED:
            return f"{child.name}: {why}"
        if child.phase == "waiting":
            return f"{child.name}: {why}; starting it again in {child.due_at - now:g} s"
        crashes = "" if code in (Exit.BAD_ARGUMENTS, Exit.MODEL_MISSING, Exit.TAKEN) else " after 5 crashes in 10 min"
        return f"{child.name}: failed{crashes} and not started again: {why}"

    # what people read

    @property
    def _url(self) -> str:
        host = self._settings.server.host
        # a wildcard address is for listening; the line printed here is for pasting
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def _greet(self) -> None:
        failed = [child.name for child in self._engines if child.phase == "failed"]
        ready = [self._settings.engines[child.name] for child in self._engines if child.phase == "ready"]
        attached = [engine for engine in self._settings.engines.values() if engine.kind == "openai"]
        if failed:
            self._say(f"not running: {', '.join(failed)} (see above)")
        if any(engine.task == "chat" for engine in ready + attached):
            self._say("ready; ask it something:")
            self._say("  " + self.curl_line())
        self._say(f"base URL for OpenAI clients: {self._url}/v1, key in {self._settings.admin_key_path}; Ctrl-C stops")

    def curl_line(self) -> str:
        """A command that works when pasted into another terminal."""
        chat = next((e.model for e in self._settings.engines.values() if e.task == "chat" and e.model), None)
        model = "default" if self._settings.aliases.get("default") == chat else chat or "default"
        # bounded and greedy: a small model that is left to sample may talk until its context is full
        body = f'"model":"{model}",'
        body += '"messages":[{"role":"user","content":"What is the capital of India?"}],"max_tokens":64,"temperature":0'
        key = shlex.quote(str(self._settings.admin_key_path))
        return (
            f'curl {self._url}/v1/chat/completions -H "Authorization: Bearer $(cat {key})"'
            f" -H 'Content-Type: application/json' -d '{{{body}}}'"
        )

    def _error(self, sentence: str, code: Exit) -> int:
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        return int(code)

    # stopping

    def _wake_on_signals(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def count(*_: object) -> None:
            self._signals += 1

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, count)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return reader

    def _stop_all(self, wake: int) -> None:
        running = [child for child in (self._gateway, *self._engines) if child.exited() is None and child.pid]
        if self._gateway in running:
            self._say("gateway: finishing what is under way (Ctrl-C again to cut it short)")
            self._stop([self._gateway], wake, self._settings.server.drain_s + _MARGIN_S)
        engines = [child for child in running if child is not self._gateway]
        if engines:
            self._say(f"stopping {', '.join(child.name for child in engines)}")
            self._stop(engines, wake, STOP_GRACE_S + _MARGIN_S)
        # whatever is still there belongs to an engine run that had to be killed itself
        processes.kill_below(os.getpid(), within_s=_MARGIN_S)
        self._say("stopped")

    def _stop(self, children: list[Child], wake: int, within_s: float) -> None:
        """SIGTERM, and SIGKILL when the time is over or somebody is impatient."""
        patience = self._signals
        give_up = self._clock() + within_s
        for child in children:
            child.signal(signal.SIGTERM)
        while any(child.exited() is None for child in children):
            if self._clock() > give_up or self._signals > max(1, patience):
                for child in children:
                    child.signal(signal.SIGKILL)
                for child in children:
                    if child.process is not None:
                        child.process.wait()
                return
            _wait(wake, TICK_S)


def _wait(wake: int, seconds: float) -> None:
    """Until a signal arrives (a child's death is one) or the time is over."""
    if select.select([wake], [], [], seconds)[0]:
        os.read(wake, 4096)


def serve(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run the appliance in the foreground; returns the exit code."""
    return Serve(settings, environ, lambda line: print(line, flush=True), time.monotonic).run()
