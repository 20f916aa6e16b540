"""One child of ``appliance serve``: the gateway or one ``appliance engine run``.

What it is: a process with its restart policy, in a process group of its own (Ctrl-C reaches ``serve`` only, which
then stops things in order) and killed by the kernel when ``serve`` dies.
What it refuses to be: a reader of what the child prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from appliance.logs import set_aside
from appliance.supervisor import processes
from appliance.supervisor.exits import Exit, should_restart
from appliance.supervisor.restarts import Restarts

_LOG_BYTES = 10 * 1024 * 1024

Phase = Literal["due", "starting", "ready", "waiting", "stopped", "failed"]


class Child:
    """``phase``: due to start, starting, ready, waiting for ``due_at``, stopped as asked, or failed for good.

    ``tripped``: the breaker has opened, and only ``close_breaker`` starts it again.
    """

    def __init__(self, name: str, arguments: Sequence[str], env: Mapping[str, str], log: Path | None) -> None:
        self.name = name
        self.phase: Phase = "due"
        self.started_at = 0.0
        self.due_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = arguments
        self._env = env
        self._log = log
        self._restarts = Restarts()
        self.tripped = False

    @property
    def pid(self) -> int:
        """Its process while it runs, else 0."""
        return self.process.pid if self.process is not None else 0

    @property
    def settled(self) -> bool:
        """Nothing about it is going to happen by itself soon."""
        return self.phase in ("ready", "stopped", "failed")

    def start(self, now: float) -> None:
        """Spawn it. The output goes to the terminal, or to the end of its log."""
        output = self._open_log()
        self.phase, self.started_at = "starting", now
        try:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "appliance", *self._arguments),
                env=dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError:  # no process or no memory to be had
            self.after_exit(Exit.CRASHED, now)
        finally:
            if output is not None:
                output.close()

    def _open_log(self) -> IO[bytes] | None:
        if self._log is None:
            return None
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            set_aside(self._log, _LOG_BYTES)  # nobody writes to it now
            return self._log.open("ab")
        except OSError:  # a full disk; what it says is lost, its state says why it ended
            return open(os.devnull, "ab")

    def exited(self) -> int | None:
        """Its exit code (negative: a signal) once it has ended, else None."""
        return None if self.process is None else self.process.poll()

    def after_exit(self, code: int, now: float) -> None:
        """Decide what follows: ``waiting`` for ``due_at``, ``stopped`` as asked, or ``failed``."""
        self.process = None
        self.due_at = now
        if code in (Exit.STOPPED, Exit.RESTART):
            self.phase = "stopped" if code == Exit.STOPPED else "due"
            return
        delay_s = self._restarts.crashed(now) if should_restart(code) else None
        self.tripped = should_restart(code) and delay_s is None
        self.phase = "failed" if delay_s is None else "waiting"
        self.due_at = now + (delay_s or 0.0)

    def close_breaker(self) -> None:
        """Forget the crashes and start again now, unless it runs."""
        self.forget_crashes()
        if self.phase in ("waiting", "stopped", "failed"):
            self.phase = "due"

    def forget_crashes(self) -> None:
        """Back-off and breaker begin anew."""
        self._restarts = Restarts()
        self.tripped = False

    def stay_stopped(self) -> None:
        """Do not start it again."""
        if self.phase in ("due", "waiting", "failed"):
            self.phase = "stopped"

    def signal(self, number: int) -> None:
        """A signal to its process, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def _dies_with(parent: int) -> Callable[[], None]:
    """For the child between fork and exec. ``serve`` has one thread, so the fork is a safe place for this."""
    return lambda: processes.die_with_parent(parent)
