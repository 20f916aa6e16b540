"""The guard: a small process outside an engine's group that sees to it that the engine dies whole.

What it is: ``python -I -S guard.py -- ARGV`` with a socket to its supervisor as standard input. It starts
ARGV as a new session, and when the socket ends (the supervisor died, however), when the engine's main
process dies, or when it is told to stop, it kills the group and every stray descendant and waits until they
are gone. As a subreaper it also finds processes that left the group: a kill -9 of vLLM's API server
leaves EngineCore and Worker alive (2.8 GB, serving.md), and PR_SET_PDEATHSIG reaches only direct children.
What it refuses to be: a supervisor. It restarts nothing, reads no settings, writes no file. The supervisor
kills the group itself if the guard is killed, and PR_SET_PDEATHSIG takes the engine's main process at once.
What it costs: one process of about 10 MB that sleeps in poll() and looks about every 15 s; a tenth of a second at an
engine's start.

Lines it reads: ``stop GRACE_S``. Lines it writes: ``started PID``, ``failed TEXT``, ``exit STATUS`` (as of
waitpid), ``stuck PID…`` (still there 5 s after SIGKILL) and ``gone`` (nothing is left).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself would cost 2 MB and 5 ms

if TYPE_CHECKING or __name__ != "__main__":
    from appliance.supervisor import processes
else:  # started by path, under -I: neither this directory nor the package is importable yet
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import processes

_CONTROL_FD = 0
_DEFAULT_GRACE_S = 10.0
_KILL_ROUND_S = 5.0
# how often the engine's shared memory is noted: whoever mapped it may be dead before the engine's main process is
_LOOK_S = 15.0


class Guard:
    """One engine, from its fork to the last of its processes."""

    def __init__(self) -> None:
        self._main = 0
        self._heard = b""
        self._kill_at: float | None = None
        self._dying = False
        self._shared: set[str] = set()

    def run(self, argv: list[str]) -> int:
        """Start ``argv``, return when nothing of it is left."""
        processes.become_subreaper()
        wake = self._signals()
        try:
            self._main = self._spawn(argv)
        except OSError as e:
            self._say(f"failed {e.strerror}: {argv[0]}")
            return 1
        self._say(f"started {self._main}")
        self._watch(wake)
        self._end()
        return 0

    def _signals(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop(_DEFAULT_GRACE_S))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to act on
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return reader

    def _spawn(self, argv: list[str]) -> int:
        """Fork and exec; an exec that fails is raised here. The pipe closes by itself on exec."""
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._exec(argv, writer, parent)
        os.close(writer)
        failed = os.read(reader, 16)
        os.close(reader)
        if failed:
            os.waitpid(pid, 0)
            raise OSError(int(failed), os.strerror(int(failed)))
        return pid

    def _exec(self, argv: list[str], report: int, parent: int) -> None:
        try:
            os.setsid()
            processes.die_with_parent(parent)
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # not the supervisor's socket, and not the lock that says "something of this engine is alive"
            os.dup2(os.open(os.devnull, os.O_RDONLY), _CONTROL_FD)
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2 and int(name) != report:
                    try:
                        os.close(int(name))
                    except OSError:
                        pass  # the listing's own descriptor
            os.execvp(argv[0], argv)
        except OSError as e:
            os.write(report, str(e.errno or errno.EIO).encode())
        finally:
            os._exit(127)

    def _watch(self, wake: int) -> None:
        """Until the engine's main process is dead or has to be killed."""
        poll = select.poll()
        poll.register(_CONTROL_FD, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while not self._dying:
            wait_s = None if self._kill_at is None else self._kill_at - time.monotonic()
            if wait_s is not None and wait_s <= 0:
                return
            ready = poll.poll(_LOOK_S * 1000 if wait_s is None else min(wait_s, _LOOK_S) * 1000 + 1)
            if not ready:
                self._look()
            for fd, _ in ready:
                if fd == wake:
                    os.read(wake, 4096)
                    self._collect()
                elif not self._listen():
                    return

    def _listen(self) -> bool:
        """False when the supervisor is gone."""
        try:
            data = os.read(_CONTROL_FD, 4096)
        except OSError:
            return False
        if not data:
            return False
        self._heard += data
        while b"\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\n")
            words = line.split()
            if words[:1] == [b"stop"]:
                self._stop(float(words[1]) if len(words) > 1 else _DEFAULT_GRACE_S)
        return True

    def _stop(self, grace_s: float) -> None:
        """SIGTERM to the main process now, SIGKILL to everything when ``grace_s`` is over.

        Only the main process: vLLM's workers, signalled too, would die under the requests it still drains.
        """
        self._look()
        at = time.monotonic() + grace_s
        if self._main and self._kill_at is None:
            processes.kill(self._main, signal.SIGTERM)
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)

    def _collect(self) -> None:
        status = processes.reap().get(self._main)
        if status is not None:
            self._dying = True
            self._say(f"exit {status}")

    def _look(self) -> None:
        """Note what is mapped now: the dead map nothing, and vLLM's message queues would stay behind.

        vLLM's API server kills a frozen EngineCore before it ends itself, so looking at the end alone is too late.
        """
        self._shared |= processes.shared_memory(processes.descendants(os.getpid()))

    def _end(self) -> None:
        me = os.getpid()
        self._look()
        processes.kill_group(self._main)
        while left := processes.kill_below(me, within_s=_KILL_ROUND_S):
            self._say("stuck " + " ".join(str(pid) for pid in sorted(left)))
        if not self._dying:
            self._collect()
        processes.reap()
        processes.remove_shared_memory(self._shared)
        self._say("gone")

    def _say(self, line: str) -> None:
        try:
            os.write(_CONTROL_FD, line.encode() + b"\n")
        except OSError:
            pass  # the supervisor is gone; what has to be done stays the same


if __name__ == "__main__":
    sys.exit(Guard().run(sys.argv[2:]))
