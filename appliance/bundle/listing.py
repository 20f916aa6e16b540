"""``MANIFEST.json``: every file of a bundle with its size and SHA-256, in the order in which they lie in the archive.

What it is: values, their bytes (canonical: the same inputs give the same ones), and the rule for paths.
What it refuses to be: lenient. What an archive holds beyond it, or in another order, makes the archive bad.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.bundle import BundleError

NAME = "MANIFEST.json"
SIGNATURE = "MANIFEST.sig"
MOST_BYTES = 64 * 1024 * 1024
_CHUNK = 1024 * 1024
# no component may be empty, "." or "..", and none may hold what a file system or a terminal takes for something else
_PATH = re.compile(r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._+@ -]{1,200}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._+@ -]{1,200}){0,15}")


class File(Struct, frozen=True):
    """One file."""

    path: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole. Nothing in it depends on when or where it was made."""

    format: int
    appliance: str
    target: str
    models: tuple[str, ...]
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of all files, unpacked."""
        return sum(file.bytes for file in self.files)


def good_path(path: str) -> bool:
    """Whether ``path`` may be written below a directory, whatever the archive says."""
    return len(path) <= 1000 and _PATH.fullmatch(path) is not None


def encode(manifest: Manifest) -> bytes:
    """Its bytes, which are what is signed."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def decode(data: bytes) -> Manifest:
    """The manifest of these bytes. Raises BundleError."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BundleError(f"the bundle's manifest cannot be read ({e}); fetch the bundle again") from None
    if found.format != 1:
        raise BundleError(f"the bundle has format {found.format} and this version reads 1; upgrade the appliance first")
    paths = [file.path for file in found.files]
    bad = next((path for path in paths if not good_path(path) or path in (NAME, SIGNATURE)), None)
    if bad is not None:
        raise BundleError(f"the bundle names a path that would be written elsewhere ({bad[:80]!r}); do not use it")
    if paths != sorted(set(paths)) or any(file.bytes < 0 for file in found.files):
        raise BundleError("the bundle's manifest is not in order; do not use it")
    return found


def digest(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def described(path: Path, name: str) -> File:
    """``path``, as a manifest lists it."""
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
            size += len(chunk)
    return File(name, size, total.hexdigest())
