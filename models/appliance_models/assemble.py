"""A directory of files that arrive one by one, each checked, in whatever order and however often it is interrupted.

What it is: ``assemble`` brings every file of a listing into ``work/files``, four at a time. A file gets its name there
only after its bytes were hashed and found right; what is half there waits in ``work/parts`` and is gone on with. What
arrived wrong is thrown away and fetched again, three times.
What it refuses to be: an installer; the store gives the finished directory its name.
What it costs: every byte is read once more after it was written.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from appliance_models.errors import StoreError
from appliance_models.listing import Listing, Promised, Source, digest
from appliance_models.manifest import Entry
from appliance_models.progress import Reporter

_AT_ONCE = 4
_TRIES = 3


class _Abandoned(Exception):
    """Another file failed, or somebody pressed Ctrl-C."""


@dataclass
class _Work:
    """What the threads of one assembly share."""

    listing: Listing
    source: Source
    directory: Path
    progress: Reporter
    arrived: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def target(self, file: Promised) -> Path:
        return self.directory / "files" / file.path

    def part(self, file: Promised) -> Path:
        return self.directory / "parts" / file.path

    def count(self, more: int) -> None:
        """So many bytes more (or fewer, when what arrived was wrong)."""
        if self.abandoned.is_set():
            raise _Abandoned
        with self.lock:
            self.arrived = max(0, self.arrived + more)
            self.progress.advance(self.arrived)


def assemble(
    label: str, listing: Listing, source: Source, directory: Path, progress: Reporter, reuse: Path | None = None
) -> dict[str, Entry]:
    """Every file of ``listing`` in ``directory/files``; their digests by path. Raises StoreError.

    ``reuse`` is a directory whose files are taken where they are right, such as a damaged installation.
    """
    work = _Work(listing, source, directory, progress)
    there = _present(label, work, reuse)
    absent = [file for file in listing.files if file.path not in there]
    if not absent:
        return there
    how = "downloading" if listing.origin.kind == "hub" else "copying"
    progress.step(f"{label}: {how} {_files(len(absent))}", sum(file.bytes for file in absent))
    work.arrived = 0
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pull")
    try:
        futures = {pool.submit(_bring, work, file): file for file in absent}
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        _raise_first(done)
        return there | {futures[future].path: future.result() for future in futures}
    finally:
        work.abandoned.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _present(label: str, work: _Work, reuse: Path | None) -> dict[str, Entry]:
    """What an earlier run, or the installation before, left in order. Wrong files are removed."""
    candidates: list[tuple[Promised, Path]] = []
    for file in work.listing.files:
        if not (file.sha256 or file.git_sha1):  # nothing says that what is there is this one's
            continue
        for path in (work.target(file), *((reuse / file.path,) if reuse else ())):
            if path.is_file() and path.stat().st_size == file.bytes:
                candidates.append((file, path))
                break
    if not candidates:
        return {}
    work.progress.step(f"{label}: checking what is there", sum(file.bytes for file, _ in candidates))
    there: dict[str, Entry] = {}
    for file, path in candidates:
        entry, git = digest(path, file.path, work.count)
        target = work.target(file)
        if file.kept_by(entry, git):
            if path != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.hardlink_to(path)
            there[file.path] = entry
        else:
            target.unlink(missing_ok=True)
    return there


def _bring(work: _Work, file: Promised) -> Entry:
    """Fetch one file until it is what was promised."""
    part, target = work.part(file), work.target(file)
    part.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    size = part.stat().st_size if part.exists() else 0
    if size > file.bytes:
        part.unlink()
        size = 0
    work.count(size)
    for _ in range(_TRIES):
        work.source.fetch(work.listing, file, part, work.count)
        entry, git = digest(part, file.path, lambda _: work.count(0))
        if file.kept_by(entry, git):
            part.replace(target)
            return entry
        work.count(-entry.bytes)
        part.unlink()
    raise StoreError(
        f"{work.listing.origin.where} gave {file.path} with other bytes than it should have, {_TRIES} times;"
        " run the same command again, or use another source"
    )


def _raise_first(done: set[Future[Entry]]) -> None:
    """The first failure that is one, before those that only followed from it."""
    failures = [e for future in done if (e := future.exception()) is not None]
    if failures:
        raise next((e for e in failures if not isinstance(e, _Abandoned)), failures[0])


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
