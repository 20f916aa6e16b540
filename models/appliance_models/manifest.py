"""``manifest.json``: what an installed model directory has to contain.

What it is: written last before a directory gets its final name, read to tell whether it is whole.
``check`` compares sizes (milliseconds), ``touched`` finds files that changed since they were hashed (milliseconds,
at every start of an engine), ``problems`` hashes every byte.
Files that came from a hub without a hash of the catalogue's own are pinned here: what was trusted at the first pull
has to be the same ever after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from appliance_models.entry import MANIFEST, Model, Wheel
from appliance_models.errors import StoreError

# the list of what `verify` found wrong; a directory that has one is not served until it is pulled again
DAMAGED = ".damaged.json"
_CHUNK = 1024 * 1024


class Entry(Struct, frozen=True):
    """One file. ``mtime_ns`` is when it was last changed as it was hashed; 0 is unknown."""

    path: str
    bytes: int
    sha256: str
    mtime_ns: int = 0


class Origin(Struct, frozen=True, omit_defaults=True):
    """Where the files of a model that is not made of wheels came from; ``commit`` is what a hub's revision meant."""

    kind: Literal["hub", "directory"]
    where: str
    revision: str = ""
    commit: str = ""


class Manifest(Struct, frozen=True):
    """One installed model. ``recipe`` ties it to the catalogue entry it was made from.

    ``pins`` are the files a converted model was made of; where nothing was converted, ``files`` are the pins.
    """

    name: str
    task: str
    engine: str
    licence: str
    recipe: str
    source: tuple[Wheel, ...]
    files: tuple[Entry, ...]
    format: int = 1
    origin: Origin | None = None
    pins: tuple[Entry, ...] = ()

    @property
    def pinned(self) -> Mapping[str, Entry]:
        """What its source gave, by path; empty for wheels, which the catalogue pins itself."""
        return {entry.path: entry for entry in self.pins or self.files} if self.origin else {}


def describe(
    model: Model,
    directory: Path,
    known: Mapping[str, Entry] | None = None,
    origin: Origin | None = None,
    pins: Sequence[Entry] = (),
) -> Manifest:
    """The manifest of ``directory`` as it is now; files that are ``known`` are not hashed again."""
    files = []
    for name in _files(directory):
        path, entry = directory / name, (known or {}).get(name)
        files.append(entry or Entry(name, path.stat().st_size, sha256(path), path.stat().st_mtime_ns))
    return Manifest(
        model.name,
        model.task,
        model.engine,
        model.licence,
        model.recipe,
        model.wheels,
        tuple(files),
        origin=origin,
        pins=tuple(pins),
    )


def write(manifest: Manifest, directory: Path) -> None:
    """Put ``manifest`` into ``directory``."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (directory / MANIFEST).write_bytes(text + b"\n")


def read(directory: Path) -> Manifest | None:
    """The manifest of ``directory``, or None where there is none that can be read."""
    try:
        return msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def check(model: Model, directory: Path) -> bool:
    """Whether ``directory`` holds ``model`` by this catalogue's recipe, every file in its full size."""
    manifest = read(directory)
    if manifest is None or manifest.recipe != model.recipe or not agrees(model, manifest):
        return False
    if (directory / DAMAGED).exists():
        return False
    return all(_size(directory / entry.path) == entry.bytes for entry in manifest.files)


def agrees(model: Model, manifest: Manifest) -> bool:
    """Whether what was pinned is what the catalogue has learned of hub files since."""
    pinned = manifest.pinned
    return all(
        file.to not in pinned or file.sha256 is None or pinned[file.to].sha256 == file.sha256 for file in model.files
    )


def touched(directory: Path) -> list[str]:
    """Files whose size or time of change is not what it was when they were hashed, and whose bytes differ."""
    manifest = read(directory)
    return [] if manifest is None else [e.path for e in manifest.files if _changed(directory, e)]


def _changed(directory: Path, entry: Entry) -> bool:
    path = directory / entry.path
    if _size(path) != entry.bytes:
        return True
    if entry.mtime_ns in (0, path.stat().st_mtime_ns):
        return False
    return sha256(path) != entry.sha256


def problems(directory: Path, seen: Callable[[int], None] | None = None) -> list[str]:
    """Hash every file; one line for each that is not what was installed. Raises StoreError without a manifest."""
    manifest = read(directory)
    if manifest is None:
        raise StoreError(f"{directory} is no installed model; pull it first")
    found, before = [], 0
    for entry in manifest.files:
        path, size = directory / entry.path, _size(directory / entry.path)
        if size < 0:
            found.append(f"{entry.path} is gone")
        elif size != entry.bytes:
            found.append(f"{entry.path} has {size} bytes instead of {entry.bytes}")
        elif sha256(path, _offset(seen, before)) != entry.sha256:
            found.append(f"{entry.path} has other bytes than were installed")
        before += entry.bytes
    known = {entry.path for entry in manifest.files}
    return found + [f"{name} was not put there by the store" for name in _files(directory) if name not in known]


def verify(directory: Path) -> None:
    """Hash every file; raise StoreError naming the first that is not what was installed."""
    found = problems(directory)
    if found:
        raise StoreError(f"{directory / found[0].split()[0]} is not what was installed; pull the model again")


def sha256(path: Path, seen: Callable[[int], None] | None = None) -> str:
    """Hex SHA-256 of a file; ``seen`` is told the bytes read so far."""
    total, count = hashlib.sha256(), 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            total.update(chunk)
            count += len(chunk)
            if seen:
                seen(count)
    return total.hexdigest()


def _offset(seen: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    return (lambda count: seen(before + count)) if seen else None


def _files(directory: Path) -> Iterator[str]:
    """Every file below ``directory`` that belongs to the model, as a path with ``/``."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name not in (MANIFEST, DAMAGED):
            yield name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
