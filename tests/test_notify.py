"""systemd's datagrams: what is said, to whom, and that a process without progress falls silent."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        path = str(tmp_path / "notify")
        listener.bind(path)
        yield path, listener


def heard(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_what_it_says(manager: tuple[str, socket.socket]) -> None:
    path, listener = manager
    notifier = Notifier(path, 0.0)
    notifier.ready("loading\nsmollm2")
    notifier.status("ready")
    notifier.stopping()
    assert heard(listener) == ["READY=1\nSTATUS=loading smollm2", "STATUS=ready", "STOPPING=1\n"]


def test_the_environment_is_taken_so_that_no_engine_inherits_it() -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    assert Notifier.take(environ).watchdog_s == 3.0
    assert environ == {"PATH": "/bin"}


def test_a_watchdog_for_another_process_is_not_fed() -> None:
    assert Notifier.take({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s == 0.0


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier.take({}).ready("x")
    Notifier(str(tmp_path / "nobody"), 1.0).ready("x")


async def test_the_watchdog_is_fed_while_there_is_progress_and_not_otherwise(
    manager: tuple[str, socket.socket],
) -> None:
    path, listener = manager
    alive = True
    feeding = asyncio.create_task(Notifier(path, 0.003).feed(lambda: alive))
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    assert await asyncio.wait_for(loop.run_in_executor(None, _next, listener), 5) == "WATCHDOG=1"
    alive = False
    heard(listener)
    for _ in range(5):
        await asyncio.sleep(0)  # turns of the loop, not time: none of them may feed
    assert heard(listener) == []
    feeding.cancel()


def _next(listener: socket.socket) -> str:
    listener.setblocking(True)
    try:
        return listener.recv(4096).decode()
    finally:
        listener.setblocking(False)


@pytest.fixture
def home() -> Iterator[Path]:
    """Short: Unix sockets below it end at 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="ap-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.mark.parametrize("command", [("gateway",), ("engine", "run", "e")])
def test_the_real_processes_say_ready_and_feed_the_watchdog(
    manager: tuple[str, socket.socket], home: Path, command: tuple[str, ...]
) -> None:
    path, listener = manager
    (home / "appliance.toml").write_text('[engines.e]\nkind = "fake"\nmodel = "m"\n')
    said = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
    environ = os.environ | {"APPLIANCE_HOME": str(home), "APPLIANCE_PORT": "0"} | said
    process = subprocess.Popen([sys.executable, "-m", "appliance", *command], env=environ, stdout=subprocess.DEVNULL)
    try:
        listener.setblocking(True)
        listener.settimeout(30)
        found: list[str] = []
        while not ("WATCHDOG=1" in found and any(line.startswith("READY=1") for line in found)):
            found.append(listener.recv(4096).decode())
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
