"""Transcription jobs on the disk: one directory a job, whole files only.

What it is: ``HOME/jobs/ID/`` with ``job.json`` (what was asked, and how it stands), ``audio`` until the job has ended,
``percent`` (how far it is) and ``result``. A change is a new file put in the old one's place, so a crash leaves either
state. A job that runs is locked by its process: what a dead one left is free again.
What it refuses to be: the ledger. Who asked, what it cost and how it ended is recorded there as for every request.
What it costs: an upload lies on the disk until its job has ended, a result until it is removed or has aged.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
ENDED = ("completed", "failed", "cancelled")
_ID = re.compile(r"job_[0-9a-f]{28}")


class Job(Struct, frozen=True):
    """One job. Times in Unix milliseconds. ``http_status`` and ``content_type`` are those of its result."""

    id: str
    key_id: str
    tenant_id: str
    fields: dict[str, list[str]]
    audio_bytes: int
    created_ms: int
    status: JobStatus = "queued"
    started_ms: int | None = None
    ended_ms: int | None = None
    request_id: str | None = None
    conversation_id: str | None = None
    http_status: int = 0
    content_type: str = ""
    webhook: str | None = None
    webhook_state: Literal["", "pending", "delivered", "failed"] = ""


class JobStore:
    """All jobs below ``root``. Blocks on the disk: call it in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, int] = {}

    def add(self, job: Job, audio: bytes) -> None:
        """Keep a new job; it is on the disk when this returns."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._root / f".{job.id}"
        part.mkdir(mode=0o700)
        _write(part / "audio", audio)
        _write(part / "job.json", msgspec.json.encode(job))
        part.rename(self._root / job.id)
        _sync_directory(self._root)

    def get(self, job_id: str) -> Job | None:
        """The job, None where there is none (or the id is none)."""
        if _ID.fullmatch(job_id) is None:
            return None
        try:
            return msgspec.json.decode((self._root / job_id / "job.json").read_bytes(), type=Job)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        names = sorted(path.name for path in self._root.glob("job_*")) if self._root.is_dir() else []
        return [job for name in names if (job := self.get(name)) is not None]

    def claim(self, job_id: str) -> bool:
        """Whether this process may run it: nobody else does."""
        if job_id in self._locks:
            return True
        try:
            fd = os.open(self._root / job_id / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # removed meanwhile
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._locks[job_id] = fd
        return True

    def release(self, job_id: str) -> None:
        """It is no longer run here."""
        fd = self._locks.pop(job_id, None)
        if fd is not None:
            os.close(fd)

    def put(self, job: Job) -> None:
        """The job as it stands now; nothing where it was removed meanwhile."""
        directory = self._root / job.id
        if directory.is_dir():
            _replace(directory / "job.json", msgspec.json.encode(job))

    def reached(self, job_id: str, percent: int) -> None:
        """How far it is. Not worth a sync: after a crash it begins again."""
        try:
            (self._root / job_id / "percent").write_text(str(percent))
        except OSError:  # removed meanwhile
            pass

    def percent(self, job: Job) -> int:
        """How far it is, 0 to 100, whichever gateway runs it."""
        if job.status == "completed":
            return 100
        try:
            return min(99, int((self._root / job.id / "percent").read_text()))
        except (OSError, ValueError):
            return 0

    def finish(self, job: Job, result: bytes) -> None:
        """The job has ended with ``result``; its audio goes."""
        directory = self._root / job.id
        if not directory.is_dir():
            return
        _replace(directory / "result", result)
        self.put(job)
        (directory / "audio").unlink(missing_ok=True)

    def audio(self, job_id: str) -> bytes:
        """What was uploaded."""
        return (self._root / job_id / "audio").read_bytes()

    def result(self, job_id: str) -> bytes:
        """What came of it."""
        return (self._root / job_id / "result").read_bytes()

    def remove(self, job_id: str) -> None:
        """Everything of it."""
        shutil.rmtree(self._root / job_id, ignore_errors=True)

    def expire(self, before_ms: int) -> int:
        """Remove what ended before ``before_ms``; how many."""
        old = [job.id for job in self.all() if job.ended_ms is not None and job.ended_ms < before_ms]
        for job_id in old:
            self.remove(job_id)
        return len(old)


def ended(job: Job, status: JobStatus, http_status: int, content_type: str, now_ms: int) -> Job:
    """``job`` with its end."""
    return replace(job, status=status, http_status=http_status, content_type=content_type, ended_ms=now_ms)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    _write(part, data)
    part.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
