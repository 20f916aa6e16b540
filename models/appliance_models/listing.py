"""What a source promises: which files, how long, with which hashes; and what it is held to.

What it is: ``Listing`` is written beside a pull before its first byte arrives, so that a pull that was killed goes on
with the same commit. ``hold`` adds what the catalogue knows and what an earlier pull pinned, and refuses a source
that contradicts either.
What it refuses to be: trusting twice. A hub's own word for a hash is taken at the first pull only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from appliance_models.entry import Model, is_file_path
from appliance_models.errors import StoreError, WrongBytes
from appliance_models.manifest import Entry, Origin

_CHUNK = 1024 * 1024
_PINNED = "were pinned at the first pull; run it with --update to trust what is there"
_CATALOGUED = "the catalogue pins; use a faithful source, or report this"


class Promised(Struct, frozen=True, omit_defaults=True):
    """One file of a source. ``git_sha1`` is git's own hash, the only one a hub has for small files."""

    path: str
    bytes: int
    sha256: str = ""
    git_sha1: str = ""

    def kept_by(self, entry: Entry, git_sha1: str) -> bool:
        """Whether what arrived is what was promised."""
        return (
            entry.bytes == self.bytes
            and self.sha256 in ("", entry.sha256)
            and (self.sha256 != "" or self.git_sha1 in ("", git_sha1))
        )


class Listing(Struct, frozen=True):
    """All files of one pull. ``recipe`` ties it to a catalogue entry; ``ready``: nothing is left to convert."""

    recipe: str
    origin: Origin
    files: tuple[Promised, ...]
    ready: bool = False

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)


class Source(Protocol):
    """Where files come from."""

    def listing(self, model: Model, commit: str = "") -> Listing:
        """What there is for ``model``, at the ``commit`` that was pinned, if any. Raises StoreError."""

    def fetch(self, listing: Listing, file: Promised, part: Path, watch: Callable[[int], None]) -> None:
        """Bring ``file`` into ``part``, going on behind what is there; ``watch`` is told of every piece's length.

        Raises StoreError; whatever ``watch`` raises passes through.
        """


def read(path: Path) -> Listing | None:
    """The listing of a pull that was begun, None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Listing)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write(listing: Listing, path: Path) -> None:
    """Replace ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(listing))
    part.replace(path)


def hold(listing: Listing, model: Model, pinned: Mapping[str, Entry]) -> Listing:
    """``listing`` with the hashes it has to keep. Raises WrongBytes where it contradicts them."""
    known = {file.to: file for file in model.files}
    held = []
    for file in listing.files:
        if not is_file_path(file.path):
            raise StoreError(f"{listing.origin.where} has a file called {file.path!r}, which is refused as a path")
        if (pin := pinned.get(file.path)) is not None:
            _agree(file, pin.bytes, pin.sha256, _PINNED)
            file = msgspec.structs.replace(file, sha256=pin.sha256)
        if (entry := known.get(file.path)) is not None:
            _agree(file, entry.bytes, entry.sha256, _CATALOGUED)
            file = msgspec.structs.replace(file, sha256=entry.sha256 or file.sha256)
        held.append(file)
    return msgspec.structs.replace(listing, files=tuple(held))


def _agree(file: Promised, size: int | None, sha256: str | None, what: str) -> None:
    if size not in (None, file.bytes) or (file.sha256 and sha256 not in (None, file.sha256)):
        raise WrongBytes(f"{file.path} has other bytes there than {what}")


def digest(path: Path, name: str, seen: Callable[[int], None] | None = None) -> tuple[Entry, str]:
    """What arrived, in one reading: its manifest entry, and git's hash of it."""
    stat = path.stat()
    total, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % stat.st_size, usedforsecurity=False)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            total.update(chunk)
            git.update(chunk)
            if seen:
                seen(len(chunk))
    return Entry(name, stat.st_size, total.hexdigest(), stat.st_mtime_ns), git.hexdigest()
