"""The profile that ``appliance bench tune`` left for this machine, and what of it an engine is started with.

What it is: ``tuned`` reads ``HOME/profiles/``, finds the file of this hardware and driver, in it the engine's model,
and compares revision and versions. All the same: the engine gets the measured arguments, before the operator's own,
which win. Anything different: nothing of it is used, and the sentence says which part differed.
What it refuses to be: a tuner (``benchmarks/appliance_bench`` writes the file), or a guess: half a match is none.
What it costs: a file, and one run of nvidia-smi where there is one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance.settings import EngineSettings, Settings

_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
_SMI_TIMEOUT_S = 20.0


class Tuned(Struct, frozen=True):
    """``args``, ``threads``, ``gpu_percent`` and ``kv_cache_bytes`` (0: not set) of a matching profile.

    ``said`` is for people, empty where there is none.
    """

    args: tuple[str, ...] = ()
    threads: int = 0
    gpu_percent: int = 0
    kv_cache_bytes: int = 0
    said: str = ""
    matches: bool = False

    def apply(self, engine: EngineSettings, configured: EngineSettings | None = None) -> EngineSettings:
        """``engine`` with what was measured, wherever the operator has set nothing himself.

        ``configured``: his settings, where ``engine`` also has what the memory plan granted, which gives way.
        """
        if not self.matches:
            return engine
        own = configured or engine
        changes: dict[str, object] = {"extra_args": (*self.args, *engine.extra_args)}
        if self.threads and not own.threads:
            changes["threads"] = self.threads
        if self.gpu_percent and not own.gpu_percent:
            changes["gpu_percent"] = self.gpu_percent
        if self.kv_cache_bytes and own.kv_cache_bytes is None:
            changes["kv_cache_bytes"] = self.kv_cache_bytes
        return engine.model_copy(update=changes)


def tuned(settings: Settings, engine: EngineSettings, machine: Callable[[], Mapping[str, Any]] | None = None) -> Tuned:
    """What the profile of this machine says of ``engine``. Never raises: without a profile it starts as shipped."""
    directory = settings.home / "profiles"
    paths = sorted(directory.glob("*.toml")) if engine.model else []
    if not paths:
        return Tuned()
    here = (machine or this_machine)()
    path = directory / f"{digest(here)}.toml"
    if path not in paths:
        other, found = _nearest(paths, here)
        where = f"profile {other.stem} is for another machine" if found else f"{other.name} in profiles/ cannot be read"
        return Tuned(said=f"runs as shipped: {where}{f' ({found})' if found else ''}")
    return _of_model(path, settings, engine)


def _of_model(path: Path, settings: Settings, engine: EngineSettings) -> Tuned:
    try:
        profile = tomllib.loads(path.read_text(encoding="utf-8"))
        table = profile["models"].get(engine.model)
        if table is None:
            return Tuned()
        if differs := _differs(table, settings, engine):
            return Tuned(said=f"runs as shipped: profile {path.stem} was measured with {differs}")
        args = tuple(str(each) for each in table["args"])
        share = (int(table.get("gpu_percent", 0)), int(table.get("kv_cache_bytes", 0)))
        return Tuned(args, int(table["threads"]), *share, f"runs with profile {path.stem} ({_worth(table)})", True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return Tuned(said=f"runs as shipped: profile {path.stem} cannot be read ({type(e).__name__}: {e})"[:200])


def _worth(table: Mapping[str, Any]) -> str:
    """What was measured, in a few words."""
    slo = ", ".join(f"{name}={limit:g}" for name, limit in table["slo"].items())
    goodput = f"{table['goodput_per_s']:.3g} requests/s within {slo}"
    if ratio := table.get("against_default"):
        return f"{goodput}, {ratio[0]:.2f}x as shipped"
    return f"{goodput}, as shipped"


def _differs(table: Mapping[str, Any], settings: Settings, engine: EngineSettings) -> str:
    """The first part that is not as it was measured; empty where all is."""
    if table["kind"] != engine.kind:
        return f"kind {table['kind']}, and this is {engine.kind}"
    here = revision(settings.models_dir, str(engine.model))
    if table["revision"] != here:
        return f"revision {table['revision']} of {engine.model}, and this is {here or 'unknown'}"
    for package, version in table["versions"].items():
        if (now := _version(package)) != version:
            return f"{package} {version}, and this is {now or 'not installed'}"
    return ""


def _nearest(paths: list[Path], here: Mapping[str, Any]) -> tuple[Path, str]:
    """The profile that differs least from ``here``, and in what; ("" for one that cannot be read)."""
    found = []
    for path in paths:
        try:
            there = tomllib.loads(path.read_text(encoding="utf-8"))["machine"]
            parts = _parts(there), _parts(here)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found.append((99, path, ""))
            continue
        clauses = [
            f"{key}: {parts[0].get(key, 'none')}, here {parts[1].get(key, 'none')}"
            for key in sorted(parts[0].keys() | parts[1].keys())
            if parts[0].get(key) != parts[1].get(key)
        ]
        found.append((len(clauses), path, "; ".join(clauses) or "it was written by another version"))
    _, path, clauses_said = min(found, key=lambda each: each[0])
    return path, clauses_said


def _parts(machine: Mapping[str, Any]) -> dict[str, str]:
    parts = {key: str(value) for key, value in machine["hardware"].items() if key != "gpus"}
    parts["gpus"] = ", ".join(machine["hardware"]["gpus"]) or "none"
    parts["driver"] = str(machine["driver"] or "none")
    return parts


# this machine, as the benchmarks name it


def digest(machine: Mapping[str, Any]) -> str:
    """A profile's name: twelve hex digits."""
    return hashlib.sha256(msgspec.json.encode(machine, order="sorted")).hexdigest()[:12]


def this_machine(proc: Path = Path("/proc")) -> dict[str, Any]:
    """CPU, cores, memory, GPUs and their driver; no names or serial numbers, so that equal servers share a profile."""
    rows = [[cell.strip() for cell in line.split(",")] for line in _smi().splitlines() if line.count(",") == 2]
    hardware = {
        "cpu": _field(proc / "cpuinfo", "model name") or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int((_field(proc / "meminfo", "MemTotal") or "0").split()[0]) / 2**20),
        "gpus": [f"{name}, {mib} MiB" for name, mib, _ in rows],
    }
    return {"hardware": hardware, "driver": rows[0][2] if rows else ""}


def revision(models_dir: Path, model: str) -> str:
    """Sixteen digits over the files of an installed model; empty where its manifest cannot be read."""
    try:
        files = json.loads((models_dir / model / "manifest.json").read_bytes())["files"]
        lines = sorted(f"{file['path']} {file['sha256']}" for file in files)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _smi() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _field(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
