"""Reading a bundle: first everything is checked, then, in a second pass that checks again, it is unpacked.

What it is: one stream through ``zstd`` and tarfile. Each member must be the next file of the signed manifest, a regular
one, of its size and hash. Anything else (a link, a device, another name, one file more) ends the reading, and nothing
has been written by then.
What it refuses to be: ``tar -x``. No name, mode, owner or time of the archive reaches the disk but a path that the
manifest's rule allows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from appliance.bundle import BundleError
from appliance.bundle.listing import MOST_BYTES, NAME, SIGNATURE, File, Manifest, decode
from appliance.bundle.signing import BYTES, check

_CHUNK = 1024 * 1024
_SPARE_BYTES = 500_000_000
Advance = Callable[[int], None]


def verify(bundle: Path, trusted: Path, advance: Advance = lambda _: None) -> tuple[Manifest, str]:
    """The manifest and digest of ``bundle``, every byte of it checked; nothing is written. Raises BundleError."""
    return _pass(bundle, trusted, advance, None)


def unpack(bundle: Path, trusted: Path, directory: Path, advance: Advance = lambda _: None) -> tuple[Manifest, str]:
    """``verify``, then into ``directory``, which must not exist and appears when it is whole. Raises BundleError."""
    if directory.exists():
        raise BundleError(f"{directory} exists already; name a directory that does not")
    manifest, digest = verify(bundle, trusted, advance)
    free = shutil.disk_usage(directory.absolute().parent).free
    if free < manifest.bytes + _SPARE_BYTES:
        needed = (manifest.bytes + _SPARE_BYTES) / 1e9
        raise BundleError(
            f"{needed:.1f} GB are needed at {directory} and {free / 1e9:.1f} GB are free; name another disk"
        )
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o755)
    try:
        _pass(bundle, trusted, advance, part)
        part.rename(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest, digest


def _pass(bundle: Path, trusted: Path, advance: Advance, into: Path | None) -> tuple[Manifest, str]:
    with _opened(bundle) as tar:
        listed = _small(tar, NAME, MOST_BYTES)
        check(trusted, listed, _small(tar, SIGNATURE, BYTES))
        manifest = decode(listed)
        for file in manifest.files:
            _take(tar, file, advance, into)
        if (more := tar.next()) is not None:
            raise BundleError(f"the bundle holds {more.name[:80]!r}, which its manifest does not; do not use it")
    return manifest, hashlib.sha256(listed).hexdigest()


def _next(tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    member = tar.next()
    if member is None:
        raise BundleError(f"the bundle ends before {name}; fetch it again")
    # any name that is not exactly the next one of the manifest, and any kind of link, is a trick or damage
    if member.name != name or not member.isreg() or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BundleError(f"the bundle holds {member.name[:80]!r} where {name} has to be a file; do not use it")
    return member


def _small(tar: tarfile.TarFile, name: str, most: int) -> bytes:
    member = _next(tar, name)
    if member.size > most:
        raise BundleError(f"the bundle's {name} is {member.size} bytes long; do not use it")
    opened = tar.extractfile(member)
    assert opened is not None
    return opened.read()


def _take(tar: tarfile.TarFile, file: File, advance: Advance, into: Path | None) -> None:
    member = _next(tar, file.path)
    if member.size != file.bytes:
        raise BundleError(f"{file.path} is {member.size} bytes long and has to be {file.bytes}; fetch the bundle again")
    opened = tar.extractfile(member)
    assert opened is not None
    total = hashlib.sha256()
    with _target(into, file.path) as out:
        while chunk := opened.read(_CHUNK):
            total.update(chunk)
            advance(len(chunk))
            if out is not None:
                out.write(chunk)
    if total.hexdigest() != file.sha256:
        raise BundleError(f"{file.path} is not what was signed; fetch the bundle again")


@contextmanager
def _target(into: Path | None, name: str) -> Iterator[IO[bytes] | None]:
    if into is None:
        yield None
        return
    path = into / name
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o644), "wb") as out:
        yield out


@contextmanager
def _opened(bundle: Path) -> Iterator[tarfile.TarFile]:
    if shutil.which("zstd") is None:
        raise BundleError("zstd is not installed; run `apt-get install zstd`")
    if not bundle.is_file():
        raise BundleError(f"{bundle} is not there; name the bundle's file")
    command = ("zstd", "-q", "-d", "-c", "--", str(bundle))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|") as tar:
                yield tar
            if child.stdout.read(_CHUNK).strip(b"\0"):
                raise BundleError("the bundle goes on after its end; do not use it")
            child.stdout.close()
            if child.wait() != 0:
                raise BundleError(f"{bundle} is damaged; fetch it again")
        except (tarfile.TarError, EOFError, OSError) as e:
            raise BundleError(f"{bundle} is no bundle, or is damaged ({e}); fetch it again") from None
        finally:
            child.kill()
