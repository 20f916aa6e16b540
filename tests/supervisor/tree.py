"""A fake engine made of processes: a main one, a worker, and one that left the session and group.

``python tree.py PIDS [deaf] [exit=N] [shares=PATH]``: writes the pids, one a line, main process first, then sleeps.
``deaf`` ignores SIGTERM; ``exit=N`` makes the main process leave by itself at once, which orphans the others;
``shares=PATH`` has a child map a file that the main process kills it with, on SIGTERM, before it leaves (as vLLM's API
server does).
"""

import mmap
import os
import signal
import sys
from types import FrameType


def sleep_forever() -> None:
    while True:
        signal.pause()


def child(leaves: bool, ready: int) -> int:
    """A process with a child of its own; both pids go through the pipe ``ready``."""
    pid = os.fork()
    if pid == 0:
        if leaves:
            os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            sleep_forever()
        os.write(ready, f"{os.getpid()}\n{grandchild}\n".encode())
        sleep_forever()
    return pid


def share(path: str) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(path, "wb+") as file:
            file.truncate(4096)
            mapped = mmap.mmap(file.fileno(), 4096)
        os.write(writer, b"1")
        sleep_forever()
        mapped.close()
    os.read(reader, 1)

    def end(signum: int, frame: FrameType | None) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)


def main(path: str, *options: str) -> None:
    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reader, writer = os.pipe()
    for option in options:
        if option.startswith("shares="):
            share(option.removeprefix("shares="))
    for leaves in (False, True):
        child(leaves, writer)
    pids = b""
    while pids.count(b"\n") < 4:
        pids += os.read(reader, 1024)
    part = path + ".part"
    with open(part, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n{pids.decode()}")
    os.replace(part, path)
    for option in options:
        if option.startswith("exit="):
            os._exit(int(option.removeprefix("exit=")))
    sleep_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
