"""A small bundle of real files, and a way to make archives that no honest writer would."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.bundle import signing
from appliance.bundle.listing import NAME, SIGNATURE, Manifest, described, encode
from appliance.bundle.write import write

Member = tuple[tarfile.TarInfo, bytes]


class Workshop:
    """Files, a key, and archives made of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = path / "bundle.key"
        self.public = signing.make_key(self.key)
        self.sources: dict[str, Path] = {}
        for name, data in (
            ("a.txt", b"one"),
            ("models/m/weights.bin", bytes(range(256)) * 5000),
            ("wheels/x.whl", b"w"),
        ):
            source = path / "files" / name
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(data)
            self.sources[name] = source

    def manifest(self) -> Manifest:
        files = tuple(described(self.sources[name], name) for name in sorted(self.sources))
        return Manifest(1, "0.1.0", "cpu", ("m",), files)

    def sign(self, data: bytes) -> bytes:
        return signing.sign(self.key, data)

    def honest(self, name: str = "bundle.tar.zst") -> Path:
        target = self.path / name
        write(self.manifest(), self.sources, self.sign, target)
        return target

    def members(self, listed: bytes | None = None) -> list[Member]:
        data = encode(self.manifest()) if listed is None else listed
        found = [(member(NAME, len(data)), data), (member(SIGNATURE, 64), self.sign(data))]
        for name in sorted(self.sources):
            content = self.sources[name].read_bytes()
            found.append((member(name, len(content)), content))
        return found

    def forged(self, members: list[Member], after: bytes = b"") -> Path:
        """An archive of exactly these members."""
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
        target = self.path / "forged.tar.zst"
        packed = subprocess.run(("zstd", "-q", "-c"), input=plain.getvalue() + after, capture_output=True, check=True)
        target.write_bytes(packed.stdout)
        return target


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def make_member() -> Callable[..., tarfile.TarInfo]:
    return member
