"""A bundle appears whole, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from appliance.bundle import BundleError, signing
from appliance.bundle.listing import File
from appliance.bundle.write import write

if TYPE_CHECKING:
    from conftest import Workshop

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")


@pytest.mark.parametrize("change", [b"two", b"longer than it was", b""])
def test_a_file_that_changes_while_it_is_packed(workshop: Workshop, change: bytes) -> None:
    manifest = workshop.manifest()
    workshop.sources["a.txt"].write_bytes(change)
    target = workshop.path / "bundle"
    with pytest.raises(BundleError, match="create the bundle again"):
        write(manifest, workshop.sources, workshop.sign, target)
    assert not target.exists() and not target.with_name("bundle.part").exists()


def test_what_was_there_stays_until_the_new_one_is_whole(workshop: Workshop) -> None:
    target = workshop.honest()
    before = target.read_bytes()
    bad = workshop.manifest()
    bad = msgspec.structs.replace(bad, files=(*bad.files[:-1], File("wheels/x.whl", 1, "0" * 64)))
    with pytest.raises(BundleError):
        write(bad, workshop.sources, workshop.sign, target)
    assert target.read_bytes() == before


def test_a_key_others_can_read_signs_nothing(workshop: Workshop) -> None:
    workshop.key.chmod(0o644)
    with pytest.raises(BundleError, match="chmod 600"):
        workshop.sign(b"x")


def test_a_key_is_never_overwritten(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists already"):
        signing.make_key(workshop.key)
    assert (tmp_path / "bundle.key").stat().st_mode & 0o777 == 0o600
