"""What goes into a bundle: the release, the wheels of a target's lock, models, licences, lists.

What it is: ``wheels`` brings what the locks name, each against its hash, into a directory that later runs go on with;
``parts`` gives every file with the name it gets in the bundle, and writes the lists that are made here.
What it refuses to be: a resolver, or a judge of licences: a model whose licence nobody here accepted is not bundled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from appliance.bundle import BundleError, sbom
from appliance.bundle.listing import File, Manifest, described

if TYPE_CHECKING:
    from appliance_models.store import Store

Target = Literal["cpu", "cpu-pypi", "gpu"]
# what the roles install; which mirror or medium it comes from is the site's business
DEBIAN = (
    "age", "ca-certificates", "libnuma1", "netbase", "nftables", "nginx-light", "openssl", "procps", "prometheus",
    "prometheus-node-exporter", "python3.11", "python3.11-venv", "tar", "zstd",
)  # fmt: skip
Say = Callable[[str], None]


def wheels(locks: Path, target: Target, directory: Path, environ: Mapping[str, str]) -> None:
    """Every wheel of the target's locks in ``directory``; what is there already is not fetched again. BundleError."""
    directory.mkdir(parents=True, exist_ok=True)
    for lock in (locks / f"{target}.txt", locks / "bootstrap.txt"):
        if not lock.is_file():
            raise BundleError(f"{lock} is not there; run this in the directory of a release, or name it with --source")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(directory), "-r", str(lock)]
        done = subprocess.run(command, env=dict(environ), stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise BundleError(
                f"the wheels of {lock.name} could not be fetched ({last[:300]}); the same command goes on"
            )


def parts(
    archive: Path, wheel_directory: Path, store: Store, models: Sequence[str], work: Path, version: str, target: Target
) -> tuple[Manifest, dict[str, Path]]:
    """The manifest, and where each of its files lies now. Raises BundleError, StoreError."""
    sources = {"appliance.tar.gz": archive}
    found = sorted(wheel_directory.glob("*.whl"))
    if not found:
        raise BundleError(f"{wheel_directory} holds no wheel; leave --wheels out to have them fetched")
    sources |= {f"wheels/{path.name}": path for path in found}
    licences: dict[str, str] = {}
    for name in models:
        licences[name] = _model(store, name, sources)
    files = {name: described(path, name) for name, path in sources.items()}
    stated = {name: (licence, files[f"models/{name}/manifest.json"].sha256) for name, licence in licences.items()}
    listed = [(path, files[f"wheels/{path.name}"]) for path in found]
    made = {
        "sbom.cdx.json": sbom.made(version, listed, stated),
        "debian-packages.txt": "".join(f"{name}\n" for name in DEBIAN).encode(),
        "licences.json": json.dumps(dict(sorted(licences.items())), indent=1).encode() + b"\n",
    }
    for name, data in made.items():
        path = work / name
        path.write_bytes(data)
        sources[name], files[name] = path, described(path, name)
    ordered: tuple[File, ...] = tuple(files[name] for name in sorted(files))
    return Manifest(1, version, target, tuple(sorted(models)), ordered), sources


def _model(store: Store, name: str, sources: dict[str, Path]) -> str:
    """Add every file of an installed model; its licence. Raises BundleError, StoreError."""
    from appliance_models import catalogue, licences, manifest

    model = catalogue.load(name, own=store.models_dir)
    if model.must_accept and licences.of(store.models_dir, model) is None:
        raise BundleError(
            f"{name} is under {model.licence}, which nobody here has accepted, so it is not bundled; read"
            f" {model.licence_url} and run `appliance models accept {name}`"
        )
    directory = store.path(model)
    installed = manifest.read(directory)
    if installed is None or not store.sound(model):
        raise BundleError(f"{name} is not here whole; run `appliance models pull {name}` first")
    names = ["manifest.json", *(entry.path for entry in installed.files)]
    for each in names:
        if os.path.islink(directory / each):
            raise BundleError(f"{directory / each} is a link; pull the model again")
        sources[f"models/{name}/{each}"] = directory / each
    return model.licence
