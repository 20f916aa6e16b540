"""``.venv``, exactly as the locks say it, in one of two states: stamped and whole, or debris.

What it is: the stamp ``.venv/appliance-setup.json`` is removed before anything changes and written
after everything has. A ``.venv`` without one was interrupted (or is not ours) and is made afresh:
with warm caches that costs some 20 s, and no half-linked package can survive a kill -9.
What it refuses to be: a resolver. ``uv pip sync`` installs what the locks name and removes the rest.
What it costs: when nothing changed, three file hashes (and ``nvidia-smi`` where there is one).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance_setup import preflight, process, registry
from appliance_setup.errors import SetupError
from appliance_setup.locks import BOOTSTRAP_LOCK, DEV_LOCK, SETS, PackageSet, blocks, digest

Say = Callable[[str], None]
STAMP = "appliance-setup.json"


@dataclass(frozen=True)
class Stamp:
    """What a whole ``.venv`` was made of. ``prefix`` because a moved environment does not work."""

    package_set: str
    dev: bool
    digest: str
    prefix: str


@dataclass(frozen=True)
class Layout:
    """Where things are in a clone."""

    root: Path

    @property
    def venv(self) -> Path:
        """The environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """The file that says the environment is whole."""
        return self.venv / STAMP

    def lock(self, name: str) -> Path:
        """One lock file."""
        return self.root / "locks" / name

    def sources(self, package_set: PackageSet, dev: bool) -> list[Path]:
        """The lock files that an environment is made of."""
        names = [package_set.lock, *([DEV_LOCK] if dev else []), BOOTSTRAP_LOCK]
        return [self.lock(name) for name in names]

    def digest(self, package_set: PackageSet, dev: bool) -> str:
        """What the stamp has to name: the locks, and pyproject.toml for the project's own entry."""
        return digest([*self.sources(package_set, dev), self.root / "pyproject.toml"])


def read_stamp(layout: Layout) -> Stamp | None:
    """The stamp, or None where the environment is absent, interrupted, moved or without its Python."""
    try:
        stamp = Stamp(**json.loads(layout.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    whole = stamp.prefix == str(layout.venv) and layout.python.exists() and stamp.package_set in SETS
    return stamp if whole else None


def satisfied(layout: Layout, stamp: Stamp | None, device: str, dev: bool) -> bool:
    """Whether nothing has to be done for ``device`` and ``dev``."""
    if stamp is None or (dev and not stamp.dev) or (stamp.package_set == "gpu") != (device == "gpu"):
        return False
    return stamp.digest == layout.digest(SETS[stamp.package_set], stamp.dev)


def install(root: Path, *, dev: bool, environ: Mapping[str, str], say: Say) -> None:
    """Bring ``root/.venv`` to what the locks say. ``dev`` adds the tools of tests and checks."""
    layout = Layout(root)
    device = preflight.chosen_device(dict(environ))
    if satisfied(layout, read_stamp(layout), device, dev):
        return
    preflight.check_machine(gpu=device == "gpu")
    with _exclusive(layout, say) as hold:
        stamp = read_stamp(layout)
        if satisfied(layout, stamp, device, dev):
            return
        _Installation(layout, device, dev or (stamp is not None and stamp.dev), environ, say, hold).carry_out(stamp)


@contextmanager
def _exclusive(layout: Layout, say: Say) -> Iterator[int]:
    """One set-up at a time in a clone: a lock on the locks directory itself, so no file is left behind."""
    holder = os.open(layout.root / "locks", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this clone; waiting for it")
            fcntl.flock(holder, fcntl.LOCK_EX)
        yield holder
    finally:
        os.close(holder)


class _Installation:
    """One change of the environment; the methods are its steps in order."""

    def __init__(self, layout: Layout, device: str, dev: bool, environ: Mapping[str, str], say: Say, hold: int) -> None:
        self.layout, self.device, self.dev, self.say, self.hold = layout, device, dev, say, hold
        # A virtual environment that happens to be active, or a foreign PYTHONPATH, must not leak in.
        self.environ = {k: v for k, v in environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
        self.flags: list[str] = []

    def carry_out(self, stamp: Stamp | None) -> None:
        """All steps; ``stamp`` is the whole environment to start from, None for a new one."""
        started = time.monotonic()
        if stamp is None:
            self.make_venv()
        _remove(self.layout.stamp)
        self.provide_uv()
        self.translate_configuration()
        package_set = self.choose()
        self.sync(package_set)
        self.install_project()
        self.write_stamp(package_set)
        self.say(f".venv is ready ({time.monotonic() - started:.0f} s)")

    def make_venv(self) -> None:
        if self.layout.venv.is_symlink():
            raise SetupError(f"{self.layout.venv} is a symbolic link and would be replaced; remove it first")
        if self.layout.venv.exists():
            self.say("found a .venv that no set-up finished; making it afresh")
            shutil.rmtree(self.layout.venv)
        self.say(f"making .venv with {sys.executable}")
        self.call([sys.executable, "-m", "venv", str(self.layout.venv)])

    def provide_uv(self) -> None:
        """pip brings uv from a registry that pip's own configuration names; uv does the rest."""
        arguments = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        lock = self.layout.lock(BOOTSTRAP_LOCK)
        self.call([str(self.layout.python), "-m", "pip", "--disable-pip-version-check", *arguments, "-r", str(lock)])

    def translate_configuration(self) -> None:
        config = registry.pip_config(self.layout.python, self.environ)
        self.environ = registry.uv_environment(config, self.environ)
        self.environ["UV_NO_CONFIG"] = "1"  # A uv.toml of the user's own projects has no say here.
        self.flags = registry.uv_flags(config)

    def choose(self) -> PackageSet:
        """The GPU set, or the CPU set with the torch wheel that the registry has."""
        if self.device == "gpu":
            return SETS["gpu"]
        return SETS["cpu" if self.has_cpu_torch() else "cpu-pypi"]

    def has_cpu_torch(self) -> bool:
        """Whether uv finds the locked +cpu wheel of torch where pip would look."""
        entry = blocks(self.layout.lock(SETS["cpu"].lock).read_text(encoding="utf-8"))["torch"]
        with tempfile.TemporaryDirectory(prefix="ap-") as scratch:
            wanted = Path(scratch) / "torch.txt"
            wanted.write_text(entry, encoding="utf-8")
            try:
                self.uv("pip", "install", "--dry-run", "--no-deps", "--require-hashes", "-r", str(wanted), quiet=True)
            except SetupError:
                return False
        return True

    def sync(self, package_set: PackageSet) -> None:
        sources = self.layout.sources(package_set, self.dev)
        if package_set.note:
            self.say(package_set.note)
        self.say(
            f"installing {' + '.join(f'locks/{path.name}' for path in sources)}:"
            f" up to {package_set.download_gb} GB to download, {package_set.installed_gb} GB on disk"
        )
        preflight.check_disk(self.layout.venv, package_set.disk_bytes)
        # Compiled here once (half a minute): where Python may not or cannot write beside its modules, each of
        # an engine's three processes would compile vLLM and torch anew at every start.
        flags = ["--require-hashes", "--compile-bytecode", "--link-mode", _link_mode(self.environ)]
        self.uv("pip", "sync", *flags, *map(str, sources))

    def install_project(self) -> None:
        """Editable, and built with the locked setuptools: build isolation would ask the network."""
        self.uv(
            "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(self.layout.root)
        )

    def write_stamp(self, package_set: PackageSet) -> None:
        stamp = Stamp(package_set.name, self.dev, self.layout.digest(package_set, self.dev), str(self.layout.venv))
        # What the stamp vouches for has to be on the disk before it, or a power cut leaves a lie.
        os.sync()
        part = self.layout.stamp.with_suffix(".part")
        part.write_text(json.dumps(asdict(stamp)), encoding="utf-8")
        part.replace(self.layout.stamp)

    def uv(self, *arguments: str, quiet: bool = False) -> None:
        flags = [flag for flag in self.flags if flag not in arguments]  # uv refuses a flag that is said twice
        command = [str(self.layout.venv / "bin" / "uv"), *arguments, "--python", str(self.layout.python), *flags]
        self.call(command, quiet=quiet)

    def call(self, command: list[str], *, quiet: bool = False) -> None:
        process.run(command, cwd=self.layout.root, environ=self.environ, hold=(self.hold,), quiet=quiet)


def _link_mode(environ: Mapping[str, str]) -> str:
    """Hard links out of uv's cache; uv itself falls back to copies across file systems."""
    return environ.get("UV_LINK_MODE", "hardlink")


def _remove(path: Path) -> None:
    """Delete ``path`` if it is there, and make that durable."""
    path.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
