"""What this machine has: GPUs with who uses them, RAM with the limit that counts, cores.

What it is: ``record`` takes the raw text of ``nvidia-smi`` and ``/proc``; ``parse`` makes a ``Hardware`` value of it.
The two are apart so that a recording of any machine can be planned for and tested on this one.
What it refuses to be: a driver binding. nvidia-smi comes with every driver, and its CSV output is documented
(``nvidia-smi --help-query-gpu``, ``--help-query-compute-apps``).
What it costs: two runs of nvidia-smi (about 50 ms each on a machine that keeps its driver loaded), nothing without.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

_GPU_FIELDS = "index,uuid,name,memory.total,memory.used,memory.free,mig.mode.current"
_PROCESS_FIELDS = "gpu_uuid,pid,process_name,used_gpu_memory"
_SMI_TIMEOUT_S = 20.0
_MIB = 1024 * 1024
# cgroup v1 says "no limit" with the largest multiple of a page below 2^63
_NO_LIMIT_BYTES = 1 << 60


class Cgroup(Struct, frozen=True):
    """One level of the control groups this process is in, as its files say it: v2 names, or those of v1."""

    path: str
    limit: str
    used: str
    stat: str = ""


class Recording(Struct, frozen=True, forbid_unknown_fields=True):
    """A machine as its own tools describe it. ``note`` says where the text comes from.

    ``gpus`` and ``gpu_processes``: what nvidia-smi prints, empty without one; ``smi_error``: why it could not.
    """

    note: str
    meminfo: str
    cores: int
    gpus: str = ""
    gpu_processes: str = ""
    smi_error: str = ""
    cgroups: tuple[Cgroup, ...] = ()


class GpuProcess(Struct, frozen=True):
    """A process that holds memory of a GPU. ``used_bytes`` is None where the driver does not tell (containers)."""

    pid: int
    name: str
    used_bytes: int | None


class Gpu(Struct, frozen=True):
    """One GPU. ``free_bytes`` is what the driver gives away; what it keeps for itself is in neither number."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    processes: tuple[GpuProcess, ...] = ()


class Hardware(Struct, frozen=True):
    """A machine. ``ram_free_bytes`` is what can be had without swapping, within every limit of a control group.

    ``ram_limit_bytes`` is the smaller of what is built in and what the control groups allow; ``limited_by`` names
    the control group where it is one. ``notes`` are sentences about what was found and not counted.
    """

    gpus: tuple[Gpu, ...]
    ram_limit_bytes: int
    ram_free_bytes: int
    cores: int
    limited_by: str = ""
    notes: tuple[str, ...] = ()


class Unreadable(Exception):
    """What describes the machine cannot be understood; the text is one sentence."""


# recording


def record(note: str, root: Path = Path("/"), smi: Callable[[str], str] | None = None) -> Recording:
    """This machine, now. ``root`` and ``smi`` are replaced in tests only."""
    ask = smi or _nvidia_smi
    gpus = processes = error = ""
    if smi is not None or shutil.which("nvidia-smi"):
        try:
            gpus, processes = ask(f"--query-gpu={_GPU_FIELDS}"), ask(f"--query-compute-apps={_PROCESS_FIELDS}")
        except Unreadable as e:
            error = str(e)
    return Recording(
        note=note,
        meminfo=_read(root / "proc/meminfo"),
        cores=len(os.sched_getaffinity(0)),
        gpus=gpus,
        gpu_processes=processes,
        smi_error=error,
        cgroups=tuple(_cgroups(root)),
    )


def _nvidia_smi(query: str) -> str:
    try:
        done = subprocess.run(
            ("nvidia-smi", query, "--format=csv,noheader,nounits"),
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unreadable(f"nvidia-smi could not be run ({e})") from None
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        raise Unreadable(f"nvidia-smi ended with exit code {done.returncode} ({said})")
    return done.stdout


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _cgroups(root: Path) -> list[Cgroup]:
    """Every level above this process that may limit its memory, from its own up."""
    found = []
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, names = mounts, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = mounts / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # inside a container the path is the host's and not there; what limits the container is mounted at the top
        here = base / path.strip("/")
        while True:
            if limit := _read(here / names[0]).strip():
                stat = "\n".join(s for s in _read(here / "memory.stat").splitlines() if "inactive_file" in s)
                shown = "/" + str(here.relative_to(base)).removeprefix(".")
                found.append(Cgroup(shown, limit, _read(here / names[1]).strip(), stat))
            if here == base:
                break
            here = here.parent
    return found


# parsing


def load(path: Path) -> Recording:
    """A recording from its JSON file. Raises Unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recording)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as e:
        raise Unreadable(f"{path} is no recording of a machine: {e}; make one with `appliance plan --record`") from None


def parse(recording: Recording, visible: str | None = None) -> Hardware:
    """The machine of a recording. ``visible`` is CUDA_VISIBLE_DEVICES where it is set. Raises Unreadable."""
    notes = []
    if recording.smi_error:
        notes.append(f"{recording.smi_error}, so no GPU is counted; run nvidia-smi to see what the driver says")
    processes = _processes(recording.gpu_processes)
    gpus = []
    for row in _rows(recording.gpus, 7, "--query-gpu"):
        gpu = _gpu(row, processes)
        if row[6].lower() == "enabled":
            notes.append(
                f"GPU {gpu.index} is divided by MIG, which this plan cannot see into, and not counted;"
                " `nvidia-smi -mig 0` undoes that"
            )
        elif visible is not None and not _is_visible(gpu, visible):
            notes.append(f"GPU {gpu.index} is hidden by CUDA_VISIBLE_DEVICES and not counted")
        else:
            gpus.append(gpu)
    total, free = _meminfo(recording.meminfo)
    limited_by = ""
    for group in recording.cgroups:
        limit, left = _within(group)
        if limit < total:
            total, limited_by = limit, group.path
        free = min(free, left)
    return Hardware(tuple(gpus), total, max(free, 0), recording.cores, limited_by, tuple(notes))


def _rows(text: str, columns: int, query: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(map(str.strip, row))]
    for row in rows:
        if len(row) != columns:
            raise Unreadable(f"nvidia-smi {query} gave {len(row)} columns where {columns} were asked: {', '.join(row)}")
    return rows


def _gpu(row: list[str], processes: Mapping[str, tuple[GpuProcess, ...]]) -> Gpu:
    total, used, free = (_mib(cell) for cell in row[3:6])
    if total is None or used is None or free is None or not row[0].isdigit():
        raise Unreadable(f"nvidia-smi does not say how much memory GPU {row[0]} ({row[2]}) has: {', '.join(row[3:6])}")
    return Gpu(int(row[0]), row[1], row[2], total, used, free, processes.get(row[1], ()))


def _processes(text: str) -> dict[str, tuple[GpuProcess, ...]]:
    found: dict[str, tuple[GpuProcess, ...]] = {}
    for uuid, pid, name, used in _rows(text, 4, "--query-compute-apps"):
        process = GpuProcess(int(pid) if pid.isdigit() else 0, name, _mib(used))
        found[uuid] = (*found.get(uuid, ()), process)
    return found


def _mib(cell: str) -> int | None:
    """Bytes of a number of MiB; None for ``[N/A]``, ``[Not Supported]`` and the like."""
    return int(cell) * _MIB if cell.isdigit() else None


def _is_visible(gpu: Gpu, visible: str) -> bool:
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return any(name == str(gpu.index) or (len(name) > 4 and gpu.uuid.startswith(name)) for name in names)


def _meminfo(text: str) -> tuple[int, int]:
    """Bytes built in and available."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (KeyError, ValueError, IndexError):
        raise Unreadable("/proc/meminfo does not say MemTotal and MemAvailable") from None


def _within(group: Cgroup) -> tuple[int, int]:
    """Bytes a control group allows and what is left of them; files it can drop from its cache count as left."""
    if not group.limit.isdigit() or int(group.limit) >= _NO_LIMIT_BYTES:
        return _NO_LIMIT_BYTES, _NO_LIMIT_BYTES
    stat = dict(line.split() for line in group.stat.splitlines() if len(line.split()) == 2)
    droppable = int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))
    used = int(group.used) if group.used.isdigit() else 0
    return int(group.limit), int(group.limit) - max(used - droppable, 0)
