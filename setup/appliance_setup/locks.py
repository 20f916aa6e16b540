"""The lock files: which there are, what they cost, and how their text is read.

What it is: ``SETS`` says what each set needs on disk, ``blocks`` and ``pins`` read a file that uv
compiled, ``digest`` names a state of several.
What it refuses to be: a resolver; that is uv's, in compile.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance_setup.preflight import GIB

_REQUIREMENT = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s\\]+)")


@dataclass(frozen=True)
class PackageSet:
    """One set of engines: its lock, what it downloads and occupies, and the room its installation needs.

    Sizes in GB of 10^9 bytes, with the tools and compiled bytecode. Those of the CPU sets were measured; the
    GPU set's download is the sum of its wheels and its size on disk an estimate from that.
    """

    name: str
    lock: str
    download_gb: float
    installed_gb: float
    disk_bytes: int
    note: str = ""


SETS = {
    "cpu": PackageSet("cpu", "cpu.txt", 0.8, 3.1, 4 * GIB),
    "cpu-pypi": PackageSet(
        "cpu-pypi",
        "cpu-pypi.txt",
        3.1,
        6.2,
        8 * GIB,
        "pip finds no wheel of torch 2.13.0+cpu here, so PyPI's CUDA build of torch comes with its NVIDIA libraries",
    ),
    "gpu": PackageSet("gpu", "gpu.txt", 5.1, 11.0, 14 * GIB),
}
DEV_LOCK = "dev.txt"
BOOTSTRAP_LOCK = "bootstrap.txt"


def blocks(text: str) -> dict[str, str]:
    """Package name -> its whole entry, hashes included, in the order of the file."""
    entries: dict[str, str] = {}
    for entry in re.split(r"(?m)^(?=[a-z0-9])", text):
        match = _REQUIREMENT.match(entry)
        if match:
            entries[match["name"]] = entry
    return entries


def pins(text: str) -> dict[str, str]:
    """Package name -> version."""
    found = {}
    for name, entry in blocks(text).items():
        match = _REQUIREMENT.match(entry)
        assert match is not None
        found[name] = match["version"]
    return found


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents of ``files``."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
