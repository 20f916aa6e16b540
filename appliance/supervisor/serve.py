"""``appliance serve``: the gateway and all engines of one machine, from one command.

What it is: a loop that starts the gateway, then one engine after another (two that start at once mis-size each
other), restarts what crashes, and takes everything down in order: the gateway drains, then the engines stop.
What it refuses to be: needed. In production systemd runs ``appliance gateway`` and ``appliance engine run``
with the same exit codes. It holds no state: kill -9 leaves nothing alive (PR_SET_PDEATHSIG for its children,
the guards for the engines).
What it costs: about 40 MB; it wakes five times a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

import appliance
from appliance.jsonlines import Message, Refusal
from appliance.settings import Settings, SettingsError, load_settings
from appliance.supervisor import files, history, processes
from appliance.supervisor.child import Child
from appliance.supervisor.exits import Exit
from appliance.supervisor.live_child import LiveChild
from appliance.supervisor.network import engines_seen, free_port, is_live, is_loopback, port_taken
from appliance.supervisor.run import STOP_GRACE_S
from appliance.supervisor.serve_ctl import ServeCtl
from appliance.types import EngineState

TICK_S = 0.2
_MARGIN_S = 5.0
Say = Callable[[str], None]


class Serve:
    """``serve`` itself. ``say`` prints one line for people; ``clock`` only goes forward."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], say: Say, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._environ = environ
        self._say = say
        self._clock = clock
        server = settings.server
        self._port = server.port or free_port(server.host)
        env = {**environ, "APPLIANCE_HOME": str(settings.home), "APPLIANCE_RUN": str(settings.run)}
        env |= {"APPLIANCE_HOST": server.host, "APPLIANCE_PORT": str(self._port)}
        self._child_env = env
        self._gateway = Child("gateway", ("gateway",), env, None)
        self._live = LiveChild(settings, self._port, env, say)
        self._engines = {name: self._child(name) for name, e in settings.engines.items() if not e.elsewhere}
        self._ctl: ServeCtl | None = None
        self._signals = 0
        self._greeted = False

    def _child(self, name: str) -> Child:
        log = self._settings.logs_dir / f"{name}.supervisor.log"
        return Child(name, ("engine", "run", name), self._child_env, log)

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
        operations = {"status": self._on_status, "start": self.on_start, "stop": self._on_stop}
        self._ctl = ServeCtl(self._settings.run / "serve.ctl", {**operations, "reload": self._on_reload})
        try:
            if not self._start_gateway(wake):
                return 0 if self._signals else int(Exit.CRASHED)
            return self._loop(wake)
        finally:
            self._ctl.close()
            self._ctl = None
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
            self._wait(wake)
        return False

    def _loop(self, wake: int) -> int:
        for name, engine in self._settings.engines.items():
            if engine.elsewhere:
                self._say(f"{name}: attached, {engine.elsewhere}")
        while not self._signals:
            self.tick(self._clock())
            if self._gateway.phase == "failed":
                return self._error("the gateway crashed 5 times in 10 minutes and is not started again", Exit.CRASHED)
            self._wait(wake)
        return 0

    def _wait(self, wake: int) -> None:
        """Until a signal arrives, somebody asks something, or it is time to look again."""
        if self._ctl is not None and _wait(wake, TICK_S, self._ctl.fileno()):
            self._ctl.answer()

    def tick(self, now: float) -> None:
        """One round: collect what ended, notice what became ready, start what is due."""
        self._tend_gateway(now)
        if self._gateway.phase == "ready":
            self._live.tend(now)
        for child in self._engines.values():
            self._tend_engine(child, now)
        for name in [n for n, c in self._engines.items() if n not in self._settings.engines and not c.pid]:
            del self._engines[name]  # taken out of appliance.toml, and gone by now
        if not any(child.phase == "starting" for child in self._engines.values()):
            for child in self._engines.values():
                if child.phase == "due" or (child.phase == "waiting" and now >= child.due_at):
                    model = history.read(self._settings, child.name).model or self._settings.engines[child.name].model
                    self._say(f"{child.name}: starting {model or ''}".rstrip())
                    child.start(now)
                    break
        if not self._greeted and all(child.settled for child in self._engines.values()):
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
        path = self._settings.run / f"{child.name}.json"
        state = files.read_state(path)
        mine = state if state is not None and state.supervisor_pid == child.pid else None
        if (code := child.exited()) is not None:
            child.after_exit(code, now)
            said = self._obituary(child, code, mine, now)
            self._say(f"{child.name}: {said}")
            if mine is not None and child.phase in ("waiting", "failed"):
                # the supervisor that wrote it is gone; what follows is known here only
                due = time.time() + child.due_at - now if child.phase == "waiting" else 0.0
                files.write_state(path, replace(mine, phase="failed", detail=said, next_start_unix_s=due))
        elif child.phase == "starting" and mine is not None and mine.phase == "ready":
            child.phase = "ready"
            how = f"; {mine.tuned}" if mine.tuned else ""
            self._say(f"{child.name}: ready in {now - child.started_at:.1f} s{how}")

    def _obituary(self, child: Child, code: int, state: EngineState | None, now: float) -> str:
        log = self._settings.logs_dir / f"{child.name}.supervisor.log"
        why = state.detail if state is not None and state.detail else f"ended with exit code {code}; see {log}"
        if child.phase == "stopped" or code == Exit.RESTART:
            return why
        if child.phase == "waiting":
            return f"{why}; starting it again in {child.due_at - now:g} s"
        again = f"`appliance engine start {child.name}` tries again"
        if child.tripped:
            return f"failed after 5 crashes in 10 min and not started again: {why}; {again}"
        return f"failed and not started again: {why}; {again}"

    # what people ask (run/serve.ctl)

    def _on_status(self, _: Message) -> Mapping[str, Any]:
        engines = {n: {"phase": c.phase, "pid": c.pid, "tripped": c.tripped} for n, c in self._engines.items()}
        gateway, live = {"phase": self._gateway.phase}, {"phase": self._live.phase}
        return {"pid": os.getpid(), "gateway": gateway, "live": live, "engines": engines}

    def _named(self, message: Message) -> Child:
        name = str(message.get("name"))
        if name not in self._engines:
            raise Refusal(f"no engine {name!r} is run here; known: {', '.join(sorted(self._engines)) or 'none'}")
        return self._engines[name]

    def on_start(self, message: Message) -> Mapping[str, Any]:
        """Start an engine that was stopped or given up; its breaker closes."""
        child = self._named(message)
        before = child.phase
        if child.pid:
            child.forget_crashes()
            return {"detail": f"{child.name} runs already ({before}); its crashes so far are forgotten"}
        closed = " and its breaker closed" if child.tripped else ""
        child.close_breaker()
        self._say(f"{child.name}: to be started{closed}, as asked")
        return {"detail": f"{child.name} was {before}; it is started now{closed}"}

    def _on_stop(self, message: Message) -> Mapping[str, Any]:
        """A running engine is stopped by its own supervisor; this is for one that is about to be started."""
        child = self._named(message)
        child.stay_stopped()
        return {"detail": f"{child.name} is stopped"}

    def _on_reload(self, _: Message) -> Mapping[str, Any]:
        """Engines that are new are started, those that are gone are stopped; changed ones wait for their restart."""
        try:
            new = load_settings(self._environ)
        except SettingsError as e:
            raise Refusal(str(e)) from None
        old, self._settings = self._settings, new.model_copy(update={"server": self._settings.server})
        here = {name: engine for name, engine in new.engines.items() if not engine.elsewhere}
        started = [name for name in here if name not in self._engines]
        stopped = [name for name in self._engines if name not in here]
        for name in started:
            self._engines[name] = self._child(name)
        for name in stopped:
            self._engines[name].stay_stopped()
            self._engines[name].signal(signal.SIGTERM)
        # one that does not run reads the file anyway when it is started
        changed = [n for n, e in here.items() if n in old.engines and e != old.engines[n] and self._engines[n].pid]
        return {"started": started, "stopped": stopped, "needs_restart": changed}

    # what people read

    @property
    def _url(self) -> str:
        host = self._settings.server.host
        # a wildcard address is for listening; the line printed here is for pasting
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def _greet(self) -> None:
        failed = [child.name for child in self._engines.values() if child.phase == "failed"]
        ready = [n for n, child in self._engines.items() if child.phase == "ready" and n in self._settings.engines]
        attached = [name for name, engine in self._settings.engines.items() if engine.elsewhere]
        # whether an attached engine answers is known to the gateway, which connects to it
        seen = engines_seen(self._settings.server.host, self._port) if attached else {}
        away = [name for name in attached if name not in seen]
        if failed:
            self._say(f"not running: {', '.join(failed)} (see above)")
        if away:
            self._say(f"attached and not answering: {', '.join(away)} (`appliance status` says why)")
        asked = next((n for n in (*ready, *attached) if n not in away and self._is_chat(n)), None)
        if asked is not None:
            self._say("ready; ask it something:")
            self._say("  " + self.curl_line(asked, seen.get(asked, [])))
        self._say(f"base URL for OpenAI clients: {self._url}/v1, key in {self._settings.admin_key_path}; Ctrl-C stops")

    def _is_chat(self, name: str) -> bool:
        return self._settings.engines[name].task == "chat"

    def curl_line(self, name: str, serves: Sequence[str] = ()) -> str:
        """A command that works when pasted into another terminal, for the chat engine ``name``."""
        engine = self._settings.engines[name]
        chat = engine.model or next(iter((*engine.models, *serves)), None)
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
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"error: {sentence}\n".encode())
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
        running = [child for child in (self._gateway, *self._engines.values()) if child.exited() is None and child.pid]
        if self._live.running:  # its clients are told to come back later before the gateway is gone
            self._live.child.signal(signal.SIGTERM)
        if self._gateway in running:
            self._say("gateway: finishing what is under way (Ctrl-C again to cut it short)")
            self._stop([self._gateway], wake, self._settings.server.drain_s + _MARGIN_S)
        engines = [child for child in running if child is not self._gateway]
        if engines:
            self._say(f"stopping {', '.join(child.name for child in engines)}")
            self._stop(engines, wake, self._settings.server.drain_s + STOP_GRACE_S + _MARGIN_S)
        # whatever is still there belongs to an engine run that had to be killed itself
        processes.kill_below(os.getpid(), within_s=_MARGIN_S)
        self._say("stopped")

    def stop_engines(self, number: int) -> None:
        """A signal to every engine's supervisor, and wait for their ends."""
        for child in self._engines.values():
            child.signal(number)
        for child in self._engines.values():
            if child.process is not None:
                child.process.wait()

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


def _wait(wake: int, seconds: float, *others: int) -> bool:
    """Until a signal arrives (a child's death is one) or the time is over; whether one of ``others`` is readable."""
    readable = select.select([wake, *others], [], [], seconds)[0]
    if wake in readable:
        os.read(wake, 4096)
    return any(fd in readable for fd in others)


def serve(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run the appliance in the foreground; returns the exit code."""
    return Serve(settings, environ, _print, time.monotonic).run()


def _print(line: str) -> None:
    """Past Python's buffer: where the output goes to a full disk, the line is lost and nothing else."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
