"""Logs: text or JSON lines, rotated by size, and never a secret or what somebody asked.

What it is: ``set_up`` points this process's logging at standard error and at a file; ``RotatingLog`` is that file, and
the engines' files too (``supervisor/enginelog.py``).
What it refuses to be: a place for request text. An exception's message may quote what a caller sent (a parser's, a
database driver's with its parameters), so it is written only for kinds known to hold none; of the others the log has
type, file and line. Keys, bearer tokens and passwords in URLs are blotted out wherever they come from.
What it costs: about 30 µs a line, nothing while nothing is logged.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Literal

from appliance.errors import ApplianceError

Format = Literal["text", "json"]
Kinds = tuple[type[BaseException], ...]
# keys of the appliance and of hosted models, whatever follows "Bearer", user:password in a URL
_SECRETS = re.compile(
    r"\b(?:ak|sk)-[A-Za-z0-9_-]{8,}|\bAIza[A-Za-z0-9_-]{20,}|(?<=[Bb]earer )[^\s\"']+|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)
_BLOT = "[secret]"
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_LEVEL_WITHIN = 60
# whose messages come from the system or from us, and hold nothing of a request
_HARMLESS = (OSError, ApplianceError, TimeoutError, sqlite3.Error, MemoryError, RecursionError)
_MOST_FRAMES = 30


def blotted(text: str) -> str:
    """``text`` without the secrets in it."""
    return _SECRETS.sub(_BLOT, text)


# errors


def described(error: BaseException, trusted: Kinds = ()) -> str:
    """An exception in a log: its type, and its message where that can hold nothing of a request.

    ``trusted`` are further kinds whose message may be written.
    """
    inner = getattr(error, "orig", None)  # SQLAlchemy's own text quotes the statement with its parameters
    if isinstance(inner, BaseException):
        return f"{type(error).__name__}: {described(inner, trusted)}"
    # psycopg's, about connections; its other errors may quote a row
    if isinstance(error, (*_HARMLESS, *trusted)) or type(error).__name__ == "OperationalError":
        return f"{type(error).__name__}: {error}"
    return f"{type(error).__name__} (its message is left out: it may quote a request)"


def traced(error: BaseException, trusted: Kinds = ()) -> str:
    """Where ``error`` came from: files, lines and functions, through its causes; no values."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        for frame in traceback.extract_tb(current.__traceback__)[-_MOST_FRAMES:]:
            lines.append(f"  {frame.filename}:{frame.lineno} in {frame.name}")
        lines.append(described(current, trusted))
        following = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if following is not None:
            lines.append("caused by")
        current = following
    return "\n".join(lines)


class SafeFormatter(logging.Formatter):
    """Text or one JSON object a line. ``process`` names who writes."""

    def __init__(self, form: Format, process: str, trusted: Kinds = ()) -> None:
        super().__init__()
        self._trusted = trusted
        self._form = form
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One record, as one line in JSON, with its trace below it in text."""
        message = blotted(self._message(record))
        error = record.exc_info[1] if record.exc_info else None
        trace = blotted(traced(error, self._trusted)) if error is not None else ""
        if self._form == "json":
            return json_line(record.created, self._process, record.levelname, message, record.name, trace)
        line = f"{_stamp(record.created)} {record.levelname} {record.name}: {message}"
        return f"{line}\n{trace}" if trace else line

    def _message(self, record: logging.LogRecord) -> str:
        """The message with its arguments; exceptions among them as ``described`` says."""
        arguments = record.args
        if isinstance(arguments, tuple):
            arguments = tuple(described(a, self._trusted) if isinstance(a, BaseException) else a for a in arguments)
        message = described(record.msg, self._trusted) if isinstance(record.msg, BaseException) else str(record.msg)
        try:
            return message % arguments if arguments else message
        except (TypeError, ValueError):  # a mistake in a log line must not hide the event
            return message


def json_line(unix_s: float, process: str, level: str, message: str, logger: str = "", trace: str = "") -> str:
    """One event as JSON, without its newline."""
    fields = {"ts": _stamp(unix_s), "level": level.lower(), "process": process, "logger": logger, "message": message}
    if trace:
        fields["trace"] = trace
    return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False)


def _stamp(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s)) + f".{int(unix_s % 1 * 1000):03d}Z"


def level_of(line: str) -> str:
    """The level that a line of an engine names near its beginning; info where it names none."""
    found = _LEVEL.search(line[:_LEVEL_WITHIN])
    return found[1] if found else "INFO"


def plain(line: bytes) -> bytes:
    """What an engine wrote, of a line of its log in either format."""
    if not line.startswith(b'{"ts"'):
        return line
    try:
        return str(json.loads(line)["message"]).encode()
    except (ValueError, KeyError, TypeError):
        return line


# files


class RotatingLog:
    """A file that is appended to line by line and set aside as ``NAME.1``, … when it is full. One writer a file.

    A disk that is full loses lines, and never stops whoever writes: how many were lost is said when there is room.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._lost = 0
        self._fd = -1
        self._size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, line: bytes) -> None:
        """One line with its newline. Never raises."""
        if self._fd < 0 or (self._size and self._size + len(line) > self._max_bytes):
            self.rotate()
        try:
            if self._lost:
                self._append(f"[{self._lost} lines were lost here: the disk was full]\n".encode())
                self._lost = 0
            self._append(line)
        except OSError:
            self._lost += 1

    def rotate(self) -> None:
        """Begin a new file; the oldest beyond ``keep`` is removed. Never raises."""
        self.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_size:
                there = 1
                while there < self._keep and self._numbered(there).exists():
                    there += 1
                for number in range(there - 1, 0, -1):
                    self._numbered(number).replace(self._numbered(number + 1))
                self._path.replace(self._numbered(1))
        with contextlib.suppress(OSError):
            self._open()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            raise OSError("the log could not be opened")
        while data:
            written = os.write(self._fd, data)
            self._size += written
            data = data[written:]


def set_aside(path: Path, max_bytes: int) -> None:
    """Rename a log that nobody writes to now and that is larger than ``max_bytes`` to ``NAME.1``."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > max_bytes:
            path.replace(path.with_name(f"{path.name}.1"))


class _FileHandler(logging.Handler):
    def __init__(self, log: RotatingLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # a log that fails must not take the request with it
            self.handleError(record)

    def close(self) -> None:
        self._log.close()
        super().close()


def set_up(
    process: str,
    form: Format,
    path: Path | None = None,
    max_bytes: int = 0,
    keep: int = 0,
    stream: IO[str] | None = None,
    trusted: Kinds = (),
) -> None:
    """Point logging at ``stream`` (standard error) and at ``path``. Replaces what was set up before.

    A file that cannot be written is said on the stream, and the stream alone is used: logs are no reason to be down.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    formatter = SafeFormatter(form, process, trusted)
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    why = ""
    if path is not None:
        try:
            handlers.append(_FileHandler(RotatingLog(path, max_bytes, keep)))
        except OSError as e:
            why = f"{path} cannot be written ({e.strerror}); logging to standard error alone"
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("uvicorn", "uvicorn.error", "opentelemetry", "urllib3", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a closed standard error (a terminal that went away) would recurse into itself
    threading.excepthook = _log_uncaught
    if why:
        logging.getLogger("appliance.logs").warning("%s", why)


def _log_uncaught(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else "?"
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("appliance").critical("thread %s ended in an error", name, exc_info=args.exc_value)
