"""Does a second engine fit beside the one it is to replace, where the memory plan puts it?

What it is: ``needed_bytes``, what an engine takes, and ``room_bytes``, what is free for it: measured on its own GPUs
(or in RAM, within the control group), less what other engines were granted and have not taken up yet.
What it refuses to be: the memory plan, which shares the machine out; this decides how a swap is done.
What it costs: a measurement of the machine, once a swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import planned, processes
from appliance.supervisor.hardware import Gpu, Hardware
from appliance.supervisor.planned import Held
from appliance.supervisor.vllm import on_cpu

MIB = 1024 * 1024
# what vLLM's three processes hold beside weights and cache (2.8 GB in all with 135M parameters, serving.md)
_VLLM_BESIDE = 2048 * MIB
_HOST_BESIDE = 256 * MIB


def needed_bytes(engine: EngineSettings, directory: Path | None) -> int:
    """What an engine takes: its weights, its cache, and what its processes hold beside that."""
    weights = 0
    if directory is not None:
        weights = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    cache = int(engine.kv_cache_bytes or 0)
    if engine.kind == "vllm":
        places = max(1, len(engine.gpus or ()))  # the cache is said for each GPU
        return weights + places * (cache + _VLLM_BESIDE)
    return weights + (cache if engine.kind == "fake" else 0) + _HOST_BESIDE


def room_bytes(settings: Settings, name: str, engine: EngineSettings, environ: Mapping[str, str]) -> int:
    """What is free for ``engine``, which is to take the place of ``name``. Raises CannotStart.

    On several GPUs it is what the fullest of them has, for each: they are filled alike.
    """
    found = planned.measure(environ, on_cpu())
    others = [each for each in planned.holders(settings) if each.grant.engine != name]
    if engine.gpus is None:  # nothing was planned for it
        free = [gpu.free_bytes - _promised_on(gpu, others) for gpu in found.gpus]
        return max(free) if free else _ram(found, others)
    if not engine.gpus:
        return _ram(found, others)
    free = [gpu.free_bytes - _promised_on(gpu, others) for gpu in found.gpus if gpu.index in engine.gpus]
    return min(free, default=0) * len(free)


def _ram(found: Hardware, others: list[Held]) -> int:
    return found.ram_free_bytes - sum(_promised_in_ram(each) for each in others)


def _promised_in_ram(held: Held) -> int:
    """What an engine may still take of RAM. One whose memory nobody may read has taken what it wants."""
    grant = held.grant
    sizes = [planned.resident_bytes(pid) for pid in _pids(held)]
    if None in sizes:
        return 0
    taken = sum(size for size in sizes if size is not None)
    return max(0, (grant.host_bytes if grant.gpus else grant.budget_bytes) - taken)


def _promised_on(gpu: Gpu, others: list[Held]) -> int:
    """What engines may still take of ``gpu``. One whose memory the driver does not tell has taken what it wants."""
    promised = 0
    for held in others:
        if gpu.index in held.grant.gpus:
            pids = _pids(held)
            sizes = [process.used_bytes for process in gpu.processes if process.pid in pids]
            if None not in sizes:
                taken = sum(size for size in sizes if size is not None)
                promised += max(0, held.grant.budget_bytes // len(held.grant.gpus) - taken)
    return promised


def _pids(held: Held) -> set[int]:
    return {held.pid, *processes.descendants(held.pid)}
