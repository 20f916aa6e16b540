"""``manifest.json``: what an installed model directory has to contain.

What it is: written last before a directory gets its final name, read to tell whether it is whole.
``check`` compares sizes (milliseconds, at every start), ``verify`` hashes every byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance_models.catalogue import Model, Wheel
from appliance_models.errors import StoreError

MANIFEST = "manifest.json"
_CHUNK = 1024 * 1024


class Entry(Struct, frozen=True):
    """One installed file."""

    path: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """One installed model. ``recipe`` ties it to the catalogue entry it was made from."""

    name: str
    task: str
    engine: str
    licence: str
    recipe: str
    source: tuple[Wheel, ...]
    files: tuple[Entry, ...]
    format: int = 1


def describe(model: Model, directory: Path) -> Manifest:
    """The manifest of ``directory`` as it is now."""
    files = tuple(
        Entry(path.name, path.stat().st_size, sha256(path))
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    )
    return Manifest(model.name, model.task, model.engine, model.licence, model.recipe, model.wheels, files)


def write(manifest: Manifest, directory: Path) -> None:
    """Put ``manifest`` into ``directory``."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (directory / MANIFEST).write_bytes(text + b"\n")


def read(directory: Path) -> Manifest | None:
    """The manifest of ``directory``, or None where there is none that can be read."""
    try:
        return msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


def check(model: Model, directory: Path) -> bool:
    """Whether ``directory`` holds ``model`` by this catalogue's recipe, every file in its full size."""
    manifest = read(directory)
    if manifest is None or manifest.recipe != model.recipe:
        return False
    return all(_size(directory / entry.path) == entry.bytes for entry in manifest.files)


def verify(directory: Path) -> None:
    """Hash every file; raise StoreError naming the first that is not what was installed."""
    manifest = read(directory)
    if manifest is None:
        raise StoreError(f"{directory} is no installed model; run make models")
    for entry in manifest.files:
        path = directory / entry.path
        if _size(path) != entry.bytes or sha256(path) != entry.sha256:
            raise StoreError(f"{path} is not what was installed; delete {directory} and run make models")


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
