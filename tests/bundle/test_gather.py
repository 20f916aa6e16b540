"""What goes in: real wheels and models, licences asked for first, a parts list that can be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from appliance.bundle import BundleError, gather, sbom
from appliance.bundle.listing import File, described, encode
from appliance_models.store import Store

METADATA = "Metadata-Version: 2.4\nName: Some_Thing\nVersion: 1.2\n"


def wheel(directory: Path, metadata: str, name: str = "some_thing-1.2-py3-none-any.whl") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("some_thing-1.2.dist-info/METADATA"), metadata)
    return path


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\n", "MIT OR Apache-2.0"),
        ("License: BSD\n  the whole text\n", "BSD"),
        ("License: x\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("", ""),
    ],
)
def test_a_wheel_states_its_licence(tmp_path: Path, lines: str, licence: str) -> None:
    assert sbom.wheel_licence(wheel(tmp_path, METADATA + lines)) == ("Some_Thing", "1.2", licence)


def test_the_parts_list(tmp_path: Path) -> None:
    path = wheel(tmp_path, METADATA + "License-Expression: MIT\n")
    listed = [(path, described(path, f"wheels/{path.name}"))]
    document = json.loads(sbom.made("0.1.0", listed, {"m": ("Apache-2.0", "0" * 64)}))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert [one["type"] for one in document["components"]] == ["library", "machine-learning-model"]
    assert document["components"][0]["purl"] == "pkg:pypi/some-thing@1.2"
    assert document["components"][0]["licenses"] == [{"license": {"name": "MIT"}}]
    assert document["components"][0]["hashes"] == [{"alg": "SHA-256", "content": listed[0][1].sha256}]
    assert sbom.made("0.1.0", listed, {"m": ("Apache-2.0", "0" * 64)}) == sbom.made(
        "0.1.0", listed, {"m": ("Apache-2.0", "0" * 64)}
    )


def test_what_is_no_wheel(tmp_path: Path) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_text("no")
    with pytest.raises(BundleError, match="is no wheel"):
        sbom.wheel_licence(path)


def test_parts_without_a_model_are_the_same_each_time(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", METADATA)
    archive = tmp_path / "release.tar.gz"
    archive.write_bytes(b"release")
    found = []
    for each in ("one", "two"):
        work = tmp_path / each
        work.mkdir()
        store = Store(tmp_path / "models")
        found.append(gather.parts(archive, tmp_path / "wheels", store, [], work, "0.1.0", "cpu")[0])
    assert encode(found[0]) == encode(found[1])
    names = [file.path for file in found[0].files]
    assert names == sorted(names) and "sbom.cdx.json" in names and "debian-packages.txt" in names
    assert all(isinstance(file, File) for file in found[0].files)


def test_a_model_that_is_not_here_and_one_whose_licence_nobody_accepted(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", METADATA)
    archive = tmp_path / "release.tar.gz"
    archive.write_bytes(b"release")
    store = Store(tmp_path / "models")
    with pytest.raises(BundleError, match="not here whole; run `appliance models pull smollm2"):
        gather.parts(archive, tmp_path / "wheels", store, ["smollm2-135m-instruct"], tmp_path, "0.1.0", "cpu")
    with pytest.raises(BundleError, match="nobody here has accepted, so it is not bundled"):
        gather.parts(archive, tmp_path / "wheels", store, ["gemma-3-270m-it"], tmp_path, "0.1.0", "cpu")


def test_without_wheels(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no wheel"):
        gather.parts(tmp_path, tmp_path, Store(tmp_path), [], tmp_path, "0.1.0", "cpu")
