"""Talking to systemd: ready, what it does, and a watchdog that is fed by progress.

What it is: ``sd_notify``'s datagrams on the standard library. The variables are taken out of the environment, so that
no engine inherits them and none can speak for its supervisor.
What it refuses to be: needed. Without NOTIFY_SOCKET every method does nothing.
What it costs: one datagram every third of WatchdogSec, never one that waits.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, MutableMapping

# systemd asks for at least twice in WatchdogSec; three times leaves room for one beat that comes late
_BEATS = 3.0


class Notifier:
    """The service manager that started this process, or nobody."""

    def __init__(self, address: str, watchdog_s: float) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int | None = None) -> Notifier:
        """What ``environ`` says, taken out of it. A watchdog that is meant for another process is none of ours."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant_for = environ.pop("WATCHDOG_PID", "")
        ours = meant_for in ("", str(os.getpid() if pid is None else pid))
        watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() and ours else 0.0
        return cls(address, watchdog_s)

    def ready(self, status: str = "") -> None:
        """Started."""
        self._send(f"READY=1\n{_status(status)}")

    def status(self, status: str) -> None:
        """One line of ``systemctl status``."""
        self._send(_status(status))

    def stopping(self, status: str = "") -> None:
        """About to end, as asked."""
        self._send(f"STOPPING=1\n{_status(status)}")

    async def feed(self, alive: Callable[[], bool]) -> None:
        """Feed the watchdog for as long as the event loop turns and ``alive`` says so; until cancelled."""
        if not self.watchdog_s or not self._address:
            return
        while True:
            if alive():
                self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / _BEATS)

    def _send(self, text: str) -> None:
        if not self._address or not text:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as out:
                out.sendto(text.encode(), self._address)
        except OSError:
            pass  # a manager that does not listen is its own trouble: the work goes on


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}" if text else ""
