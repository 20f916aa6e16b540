"""Writing a bundle: files are streamed through ``zstd``, and the result appears only when it is whole.

What it is: the manifest and its signature first, so that a reader knows what has to follow; then every file in the
manifest's order, hashed again on its way: one that changed meanwhile ends the work.
What it costs: each file is read twice. The archive is about as large as its parts: wheels and weights do not compress.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from appliance.bundle import BundleError
from appliance.bundle.listing import NAME, SIGNATURE, File, Manifest, encode

# one level and one thread: the same inputs give the same bytes with the same zstd
_COMPRESS = ("zstd", "-q", "-3", "--single-thread", "-c")


class _Hashing:
    """A file that is hashed while tarfile reads it."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self._file, self._advance = file, advance
        self.total = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.total.update(data)
        self._advance(len(data))
        return data


def write(
    manifest: Manifest, sources: Mapping[str, Path], sign: Callable[[bytes], bytes], target: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> str:  # fmt: skip
    """Write ``target``; the SHA-256 of its manifest, which is the bundle's digest. Raises BundleError, OSError."""
    if shutil.which(_COMPRESS[0]) is None:
        raise BundleError("zstd is not installed; run `apt-get install zstd`")
    listed = encode(manifest)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as out, _compressed(out) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            for name, data in ((NAME, listed), (SIGNATURE, sign(listed))):
                tar.addfile(_member(name, len(data)), io.BytesIO(data))
            for file in manifest.files:
                _add(tar, file, sources[file.path], advance)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(listed).hexdigest()


def _add(tar: tarfile.TarFile, file: File, source: Path, advance: Callable[[int], None]) -> None:
    with source.open("rb") as opened:
        hashing = _Hashing(opened, advance)
        try:
            tar.addfile(_member(file.path, file.bytes), hashing)
        except OSError as e:
            raise BundleError(f"{source} could not be packed ({e}); create the bundle again") from None
        if opened.read(1) or hashing.total.hexdigest() != file.sha256:
            raise BundleError(f"{source} changed while it was packed; create the bundle again")


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


@contextmanager
def _compressed(out: IO[bytes]) -> Iterator[IO[bytes]]:
    with subprocess.Popen(_COMPRESS, stdin=subprocess.PIPE, stdout=out) as child:
        assert child.stdin is not None
        try:
            yield child.stdin
        finally:
            child.stdin.close()
            code = child.wait()
    if code != 0:
        raise BundleError(f"zstd ended with {code}: is the disk full? create the bundle again")
