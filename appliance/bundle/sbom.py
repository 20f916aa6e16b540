"""``sbom.cdx.json``: what is in a bundle, as CycloneDX 1.6 has it: Python packages, models, licences, hashes.

What it is: names, versions and licences as the wheels' own METADATA state them.
What it refuses to be: an opinion on licences. What a wheel does not state is absent.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.bundle import BundleError
from appliance.bundle.listing import File

_NAMESPACE = uuid.UUID("6f7d3c1e-5a0b-5c58-9d52-3f6e5c1c8a10")
_SPDX = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")


def wheel_licence(path: Path) -> tuple[str, str, str]:
    """Name, version and stated licence of a wheel, the last empty where it states none. Raises BundleError."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            text = archive.read(name).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, StopIteration):
        raise BundleError(f"{path.name} is no wheel; remove it and create the bundle again") from None
    metadata = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)
    stated = metadata.get("License-Expression") or ""
    if not stated:
        classes = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
        first = str(metadata.get("License") or "").strip().splitlines()[:1]  # some put the whole text there
        stated = ", ".join(classes or first)
    return str(metadata["Name"]), str(metadata["Version"]), str(stated)[:200]


def made(version: str, wheels: Iterable[tuple[Path, File]], models: Mapping[str, tuple[str, str]]) -> bytes:
    """The document. ``models`` are name -> (licence, SHA-256 of its manifest). No time and no host is in it."""
    components: list[dict[str, Any]] = []
    for path, file in wheels:
        name, number, licence = wheel_licence(path)
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{number}"
        components.append(_component("library", name, number, licence, file.sha256) | {"purl": purl, "bom-ref": purl})
    for name, (licence, sha256) in sorted(models.items()):
        reference = {"bom-ref": f"model/{name}"}
        components.append(_component("machine-learning-model", name, "", licence, sha256) | reference)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component("application", "inference-appliance", version, "Apache-2.0", "")},
        "components": components,
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _component(kind: str, name: str, version: str, licence: str, sha256: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": kind, "name": name}
    if version:
        found["version"] = version
    if licence:
        one = "expression" if _SPDX.fullmatch(licence) and " " in licence else "license"
        found["licenses"] = [{one: licence if one == "expression" else {"name": licence}}]
    if sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return found
