"""What is refused, and that nothing is on the disk by then."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from appliance.bundle import BundleError, signing
from appliance.bundle.listing import File, encode, good_path
from appliance.bundle.read import unpack, verify

if TYPE_CHECKING:
    from conftest import Workshop

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
MakeMember = Callable[..., tarfile.TarInfo]


def refused(workshop: Workshop, bundle: Path) -> str:
    """The sentence; neither the directory nor its beginnings exist afterwards."""
    target = workshop.path / "out"
    before = sorted(workshop.path.iterdir())
    with pytest.raises(BundleError) as caught:
        unpack(bundle, workshop.public, target)
    assert sorted(workshop.path.iterdir()) == before
    return str(caught.value)


def test_what_was_packed_comes_out(workshop: Workshop) -> None:
    bundle = workshop.honest()
    seen: list[int] = []
    manifest, digest = verify(bundle, workshop.public, seen.append)
    assert sum(seen) == manifest.bytes
    assert unpack(bundle, workshop.public, workshop.path / "out") == (manifest, digest)
    for name, source in workshop.sources.items():
        assert (workshop.path / "out" / name).read_bytes() == source.read_bytes()


def test_the_same_inputs_give_the_same_bytes(workshop: Workshop) -> None:
    first = workshop.honest("one").read_bytes()
    for source in workshop.sources.values():
        source.touch()  # another time is no other input
    assert workshop.honest("two").read_bytes() == first


def test_a_changed_byte_anywhere(workshop: Workshop) -> None:
    bundle = workshop.honest()
    plain = subprocess.run(("zstd", "-d", "-q", "-c", str(bundle)), capture_output=True, check=True).stdout
    # headers, manifest, signature, contents: one in each block of the first kilobytes, and inside the large file
    for at in (*range(0, 4096, 157), len(plain) // 2):
        if plain[at] == 0 and at % 512 > 350:
            continue  # padding behind a member's name or content, which nothing reads
        bad = bytearray(plain)
        bad[at] ^= 1
        packed = subprocess.run(("zstd", "-q", "-c"), input=bytes(bad), capture_output=True, check=True).stdout
        (workshop.path / "bad").write_bytes(packed)
        try:
            manifest, _ = verify(workshop.path / "bad", workshop.public)
        except BundleError:
            continue
        # what a reader takes over it ignores: then it must be a field of the tar header, not of what is unpacked
        assert manifest == workshop.manifest()
        assert plain[at - at % 512 + 257 : at - at % 512 + 262] == b"ustar" or plain[at] == 0, at


def test_a_damaged_file_a_cut_one_and_none(workshop: Workshop) -> None:
    bundle = workshop.honest()
    whole = bundle.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-3], b"no bundle at all", b""):
        bundle.write_bytes(broken)
        refused(workshop, bundle)
    assert "is not there" in refused(workshop, workshop.path / "nowhere")


def test_somebody_else_signed_it(workshop: Workshop, tmp_path: Path) -> None:
    bundle = workshop.honest()
    stranger = signing.make_key(tmp_path / "stranger.key")
    with pytest.raises(BundleError, match="not signed by this key"):
        verify(bundle, stranger)
    with pytest.raises(BundleError, match="no public key"):
        verify(bundle, workshop.key)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        "..",
        "",
        "a\\b",
        "a\nb",
        "a/" * 40 + "b",
        "MANIFEST.json",
    ],
)
def test_paths_that_would_be_written_elsewhere_even_when_signed(workshop: Workshop, path: str) -> None:
    found = workshop.manifest()
    evil = msgspec.structs.replace(found, files=(File(path, 0, "0" * 64), *found.files))
    text = refused(workshop, workshop.forged(workshop.members(encode(evil))))
    assert "would be written elsewhere" in text
    assert not good_path(path) or path == "MANIFEST.json"


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.LNKTYPE, "MANIFEST.json"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
def test_links_and_devices_where_a_file_has_to_be(
    workshop: Workshop, make_member: MakeMember, kind: bytes, link: str
) -> None:
    members = workshop.members()
    members[2] = (make_member("a.txt", 0, kind, link), b"")
    assert "has to be a file" in refused(workshop, workshop.forged(members))


def test_a_link_smuggled_in_before_a_file(workshop: Workshop, make_member: MakeMember) -> None:
    members = workshop.members()
    members.insert(3, (make_member("models", 0, tarfile.SYMTYPE, "/tmp"), b""))
    assert "has to be a file" in refused(workshop, workshop.forged(members))


def test_another_order_one_more_one_less_and_something_behind(workshop: Workshop, make_member: MakeMember) -> None:
    members = workshop.members()
    assert "has to be a file" in refused(workshop, workshop.forged([*members[:2], *reversed(members[2:])]))
    assert "which its manifest does not" in refused(workshop, workshop.forged([*members, (make_member("z", 1), b"z")]))
    assert "ends before" in refused(workshop, workshop.forged(members[:-1]))
    assert "goes on after its end" in refused(workshop, workshop.forged(members, b"more"))
    assert "has to be a file" in refused(workshop, workshop.forged(members[1:]))


def test_another_content_of_the_same_length(workshop: Workshop) -> None:
    members = workshop.members()
    info, data = members[2]
    members[2] = (info, b"x" * len(data))
    assert "not what was signed" in refused(workshop, workshop.forged(members))


def test_a_directory_that_is_there_is_left_alone(workshop: Workshop) -> None:
    bundle, target = workshop.honest(), workshop.path / "out"
    target.mkdir()
    with pytest.raises(BundleError, match="exists already"):
        unpack(bundle, workshop.public, target)
