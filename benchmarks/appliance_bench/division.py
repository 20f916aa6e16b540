"""How a machine can be divided between engines: whose parts there are, and the knobs of a division.

What it is: ``parts_of`` reads a mix from a suite, with what each engine is started with beside its share; ``divisions``
are threads and workers on CPUs, and on a GPU the KV cache and, where NVIDIA MPS runs, shares of the multiprocessors.
What it refuses to be: the knobs of one engine (``knobs``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from appliance_bench import fingerprint, knobs, profiles, rig, suites, workloads
from appliance_bench.records import RecordError
from appliance_bench.search import Config, Value, config
from appliance_bench.workloads import ENGINES, Workload

_KV_SHARES = (0.3, 0.5, 0.7)
_PERCENTS = (0, 20, 40, 60, 80)


class Part(Struct, frozen=True):
    """An engine's part of the mix.

    ``base``: what it is started with, but for its share of the machine; ``tuned``: the profile's table it is from.
    """

    task: str
    model: str
    workload: Workload
    weight: float
    base: Config
    tuned: Mapping[str, Any] = {}

    @property
    def limit_ms(self) -> float:
        """How long an answer is of use."""
        return max((t.limit_ms for t in self.workload.targets if t.metric != "tpot"), default=10_000.0)


def parts_of(name: str, profile: Path, cores: int, gpu: bool) -> list[Part]:
    """The first mixed cell of a suite: one workload an engine, two engines at least. Raises RecordError."""
    sheet = suites.load(name)
    mixed = next((cell.mixed for cell in sheet.cells if cell.mixed), {})
    found: dict[str, Part] = {}
    for workload_name, weight in mixed.items():
        workload = workloads.load(workload_name)
        task = workload.sheet.engine
        if task not in ENGINES or task in found:
            raise RecordError(
                f"the suite {name} cannot be split: {workload_name} is for the {task} engine, and a mix for a split"
                f" has one workload for each of {', '.join(ENGINES)}"
            )
        model = rig.MODELS[task]
        table = _tuned(task, model, profile)
        base = config(**table["knobs"]) if table else knobs.knobs(task, cores, gpu).shipped
        found[task] = Part(task, model, workload, weight, base, table)
    if len(found) < 2:
        raise RecordError(f"the suite {name} has no cell with a mix of two engines; --workload mixed has one")
    total = sum(part.weight for part in found.values())
    return [replace(part, weight=part.weight / total) for part in found.values()]


def _tuned(task: str, model: str, profile: Path) -> dict[str, Any]:
    """What ``tune`` found for the model on this machine, where model and versions are still the same; else nothing."""
    table: dict[str, Any] = profiles.read(profile).get("models", {}).get(model, {})
    same = (
        table.get("revision") == profiles.revision(profiles.home() / "models", model)
        and table.get("versions") == versions_of(task, fingerprint.fingerprint()["versions"])
        and table.get("knobs")
    )
    return table if same else {}


def versions_of(task: str, installed: Mapping[str, str]) -> dict[str, str]:
    return {package: version for package, version in installed.items() if package in profiles.PACKAGES[task]}


class Divisions(Struct, frozen=True):
    """Knobs as ``task.knob``, with their values in order."""

    space: dict[str, tuple[Value, ...]]
    shipped: Config
    hints: tuple[Config, ...]


def divisions(parts: Sequence[Part], cores: int, gpu_mib: int, mps: bool) -> Divisions:
    """Of a machine with so many cores, or a GPU of so much memory (0: none)."""
    return _of_gpu(parts, gpu_mib, mps) if gpu_mib else _of_cores(parts, cores)


def _of_cores(parts: Sequence[Part], cores: int) -> Divisions:
    def name(part: Part) -> str:
        return f"{part.task}.{'threads' if part.task == 'chat' else 'workers'}"

    def value(part: Part) -> int:
        return int(dict(part.base).get(name(part).partition(".")[2], 0)) or max(1, cores - 1)

    space: dict[str, tuple[Value, ...]] = {}
    for part in parts:
        space[name(part)] = tuple(sorted({*(n for n in (1, 2, 4, 8, 16, 32) if n <= cores), value(part)}))
    shipped = {name(part): value(part) for part in parts}
    least: dict[str, Value] = {key: values[0] for key, values in space.items()}
    others: dict[str, Value] = {key: least[key] if key != "chat.threads" else cores for key in space}
    hints = [config(**one) for one in (least, others, {**others, "chat.threads": max(1, cores - 1)})]
    return Divisions(space, config(**shipped), _others(hints, config(**shipped), space))


def _of_gpu(parts: Sequence[Part], gpu_mib: int, mps: bool) -> Divisions:
    space: dict[str, tuple[Value, ...]] = {}
    tasks = [part.task for part in parts]
    if "chat" in tasks:
        # 0: as the memory plan has it
        space["chat.kv_cache_bytes"] = (0, *(int(gpu_mib * share) << 20 for share in _KV_SHARES))
    if mps:
        space |= {f"{task}.gpu_percent": _PERCENTS for task in tasks}
    shipped: dict[str, Value] = dict.fromkeys(space, 0)
    hints: list[dict[str, Value]] = []
    if mps:
        small = {f"{task}.gpu_percent": 20 for task in tasks if task != "chat"}
        hints += [{**shipped, **small}, {**shipped, **small, "chat.gpu_percent": 80}]
    if "chat" in tasks:
        hints.append({**shipped, "chat.kv_cache_bytes": space["chat.kv_cache_bytes"][2]})
    return Divisions(space, config(**shipped), _others([config(**h) for h in hints], config(**shipped), space))


def _others(hints: Sequence[Config], shipped: Config, space: Mapping[str, Sequence[Value]]) -> tuple[Config, ...]:
    """Each once, without the default, and only of values that are searched."""
    known = [h for h in dict.fromkeys(hints) if h != shipped and all(value in space[key] for key, value in h)]
    return tuple(known)


def engine_config(which: Config, part: Part) -> Config:
    """What ``part``'s engine is started with under a division."""
    own = {key.partition(".")[2]: value for key, value in which if key.partition(".")[0] == part.task}
    return config(**{**dict(part.base), **own})


def mps_runs() -> bool:
    """Whether NVIDIA's multi-process service is there for this user's processes."""
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps").is_dir()
