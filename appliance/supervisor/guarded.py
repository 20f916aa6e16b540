"""An engine under its guard, seen from the supervisor.

What it is: starts ``guard.py`` with a socket pair, turns its lines into attributes and events, and takes over
the killing when the guard itself is killed (this process is a subreaper, so what it left comes here).
What it refuses to be: a policy. Why an engine is stopped, and what follows, is ``run.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from appliance.supervisor import processes
from appliance.supervisor.command import CannotStart, EngineCommand
from appliance.supervisor.exits import Exit

_GUARD = Path(__file__).with_name("guard.py")
# how much longer than the grace a guard may take: it kills in rounds of 5 s
_GUARD_LATE_S = 15.0


class Guarded:
    """One started engine. ``pid`` is its main process; ``wait_status`` tells its end once ``gone`` is done."""

    def __init__(
        self, pid: int, guard: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._guard = guard
        self._reader = reader
        self._writer = writer
        self._clean = False
        self.pid = pid
        self.wait_status = 0
        self.stuck: tuple[int, ...] = ()
        self.gone = asyncio.create_task(self._follow())

    @classmethod
    async def start(cls, command: EngineCommand, log_fd: int, lock_fd: int) -> Guarded:
        """Start ``command``. Raises CannotStart when it cannot even be executed.

        The guard inherits ``lock_fd`` and keeps the lock until nothing of the engine is left.
        """
        processes.become_subreaper()
        _prepare(command)
        ours, theirs = socket.socketpair()
        with theirs:
            guard = _spawn_guard(command, theirs.fileno(), log_fd, lock_fd)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        word, _, rest = (await reader.readline()).decode().strip().partition(" ")
        if word != "started":
            raise CannotStart(f"the engine could not be executed: {rest or 'its guard died'}", Exit.BAD_ARGUMENTS)
        return cls(int(rest), guard, reader, writer)

    def stop(self, grace_s: float) -> None:
        """SIGTERM now, SIGKILL to everything after ``grace_s``. Await ``gone`` for the end."""
        with contextlib.suppress(OSError):
            self._writer.write(f"stop {grace_s:.3f}\n".encode())

    async def end(self, grace_s: float) -> None:
        """``stop``, and wait until nothing is left. This process takes over from a guard that does not move."""
        self.stop(grace_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.gone), grace_s + _GUARD_LATE_S)
            return
        self._guard.kill()
        await self.gone

    async def _follow(self) -> None:
        """Until nothing of the engine is left."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                self._heard(line.decode())
        if not self._clean:
            # the guard was killed: PR_SET_PDEATHSIG took the main process, the rest is ours to find
            shared = processes.shared_memory(processes.descendants(os.getpid()))
            processes.kill_group(self.pid)
            self.stuck = tuple(sorted(await asyncio.to_thread(processes.kill_below, os.getpid())))
        self._writer.close()
        await asyncio.to_thread(self._guard.wait)
        reaped = processes.reap()
        if not self._clean:
            processes.remove_shared_memory(shared)
            self.wait_status = reaped.get(self.pid, signal.SIGKILL)

    def _heard(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        if word == "exit":
            self.wait_status = int(rest)
        elif word == "stuck":
            self.stuck = tuple(int(pid) for pid in rest.split())
        elif word == "gone":
            self._clean = True


def _spawn_guard(command: EngineCommand, control_fd: int, log_fd: int, lock_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -B: nothing is written beside the installed package; -I -S: a start of 20 ms
        (sys.executable, "-I", "-S", "-B", str(_GUARD), "--", *command.argv),
        stdin=control_fd,
        stdout=log_fd,
        stderr=log_fd,
        cwd=command.cwd,
        env=dict(command.env),
        pass_fds=(lock_fd,),
        start_new_session=True,
    )


def _prepare(command: EngineCommand) -> None:
    """Its working directory, never the repository's, and an empty temporary one."""
    command.cwd.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(command.tmp, ignore_errors=True)
    command.tmp.mkdir(parents=True, mode=0o700)
