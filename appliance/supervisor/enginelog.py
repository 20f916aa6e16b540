"""An engine's log: what it writes goes through a pipe into a file that rotates.

What it is: the write end of a pipe for the engine and its guard, and a thread of the supervisor that takes whole lines
out of the other end. An engine opens its output once and for weeks: renaming the file under it would leave it writing
into the old one, and copying and truncating loses what it writes in between. Through a pipe nothing is lost and the
engine notices nothing. Lines are made JSON, and secrets blotted out, on the way.
What it refuses to be: in the engine's way. The thread reads whether the disk takes it or not, and the pipe holds 1 MiB
while the supervisor is stopped.
What it costs: one thread that sleeps; about 20 µs a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

from appliance.logs import RotatingLog, blotted, json_line, level_of
from appliance.settings import LogSettings

_PIPE_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
# A line that never ends (a progress bar, binary data) is cut here.
_LONGEST_LINE = 64 * 1024
_LAST_WORDS_S = 2.0


class EngineLog:
    """The log of one run. ``fd`` is what the engine writes to; ``close`` returns when everything is in the file."""

    def __init__(self, logs: Path, name: str, settings: LogSettings) -> None:
        self._json = settings.format == "json"
        self._name = name
        self._log = RotatingLog(logs / f"{name}.log", settings.max_bytes, settings.keep)
        self._log.rotate()  # a run begins with a file of its own, and what the last one said is NAME.log.1
        self._taken = 0
        self._reader, self.fd = os.pipe()  # not inherited but where it is asked for
        with contextlib.suppress(OSError):  # above what the system allows to others than root: 64 KiB stay
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._pump, name=f"log of {name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call when the engine is gone. Waits for its last words; for a process that will not die, not long."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        taken = -1
        while self._thread.is_alive() and taken != self._taken:  # as long as there is something to take
            taken = self._taken
            self._thread.join(_LAST_WORDS_S)

    def _pump(self) -> None:
        rest = b""
        while data := os.read(self._reader, _READ_BYTES):
            self._taken += len(data)
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._write(line)
            if len(rest) > _LONGEST_LINE:
                self._write(rest)
                rest = b""
        if rest:
            self._write(rest)
        self._log.close()
        os.close(self._reader)

    def _write(self, line: bytes) -> None:
        text = blotted(line.rstrip(b"\r").decode("utf-8", "replace"))
        if self._json:
            text = json_line(time.time(), self._name, level_of(text), text)
        self._log.write(text.encode() + b"\n")
