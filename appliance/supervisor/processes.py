"""Finding and ending process trees on Linux: the few system calls the guard and its supervisor share.

What it is: prctl by ctypes, one walk over ``/proc``, and SIGKILL until nothing is left. Standard library
only and free of relative imports, because the guard loads this file by path under ``python -I -S``.
What it refuses to be: polite. SIGTERM and grace are the callers' business.
What it costs: a walk over 300 processes takes about 4 ms, and happens only while something is being killed.
"""

import ctypes
import os
import signal
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def become_subreaper() -> None:
    """Orphans below this process become its children, also those that left its session and group."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int) -> None:
    """SIGKILL for this process when the parent's calling thread dies; at once if it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the kernel knew whom to tell
        os._exit(1)


def parents() -> dict[int, int]:
    """pid -> parent's pid of every process that still holds something.

    A zombie does not, unless threads of it are left: then only its first thread has ended, and memory and
    sockets are still there (vLLM's take a tenth of a second to go).
    """
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # the command name is in parentheses and may hold anything, ")" included
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, ppid, threads = fields[0], int(fields[1]), int(fields[17])
        if state not in (b"Z", b"X") or threads > 1:
            table[int(name)] = ppid
    return table


def exists(pid: int) -> bool:
    """Whether there is a process ``pid``."""
    return pid > 0 and os.path.exists(f"/proc/{pid}")


def descendants(root: int) -> set[int]:
    """Every live process below ``root``, whatever session or group it is in."""
    children: dict[int, list[int]] = {}
    for pid, ppid in parents().items():
        children.setdefault(ppid, []).append(pid)
    found: set[int] = set()
    queue = [root]
    while queue:
        for pid in children.get(queue.pop(), ()):
            if pid not in found:
                found.add(pid)
                queue.append(pid)
    return found


def shared_memory(pids: set[int]) -> set[str]:
    """The files in /dev/shm that any of ``pids`` maps.

    Python's SharedMemory is unlinked by a resource tracker, which a kill -9 of the whole tree takes as well.
    """
    found = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                for line in file:
                    fields = line.rstrip().split(None, 5)
                    if len(fields) == 6 and fields[5].startswith(b"/dev/shm/") and not fields[5].endswith(b"(deleted)"):
                        found.add(os.fsdecode(fields[5]))
        except OSError:  # gone, or somebody else's
            continue
    return found


def remove_shared_memory(paths: set[str]) -> None:
    """Remove those of ``paths`` that no living process maps."""
    if not paths:
        return
    for path in paths - shared_memory(set(parents())):
        try:
            os.unlink(path)
        except OSError:
            pass  # its owner was quicker


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """One signal to one process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_group(pgid: int, number: int = signal.SIGKILL) -> None:
    """One signal to a whole process group that may be gone."""
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        pass  # EPERM: only zombies of another user are left in it


def reap() -> dict[int, int]:
    """Collect every dead child without waiting: pid -> wait status."""
    gone: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return gone
        if pid == 0:
            return gone
        gone[pid] = status


def kill_below(root: int, within_s: float = 5.0) -> set[int]:
    """SIGKILL everything below ``root`` until nothing is left; returns what survived ``within_s``.

    Survivors sit in an uninterruptible call (a wedged GPU driver).
    """
    give_up = time.monotonic() + within_s
    while True:
        left = descendants(root)
        if not left or time.monotonic() > give_up:
            return left
        for pid in left:
            kill(pid)
        # nobody reports the death of a grandchild, so look again shortly
        time.sleep(0.01)
