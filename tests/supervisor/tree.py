"""A fake engine made of processes: a main one, a worker, and one that left the session and group.

``python tree.py PIDS [deaf] [exit=N]``: writes the pids, one a line, main process first, then sleeps. ``deaf``
ignores SIGTERM; ``exit=N`` makes the main process leave by itself at once, which orphans the others.
"""

import os
import signal
import sys


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


def main(path: str, *options: str) -> None:
    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reader, writer = os.pipe()
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
