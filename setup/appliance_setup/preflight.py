"""What the machine has to offer before anything is downloaded, and which set of packages fits it.

What it is: checks that each fail with one sentence naming the fix, and ``gpu_answers``.
What it refuses to be: an installer of system packages.
What it costs: milliseconds, and up to a second for ``nvidia-smi`` where it exists.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from appliance_setup.errors import SetupError

GIB = 1024**3
# PyPI's torch 2.13 is a CUDA 13 build, and CUDA 13 starts with this driver branch.
_OLDEST_DRIVER = 580
# Every wheel of the locks is manylinux_2_28 or older.
_OLDEST_GLIBC = (2, 28)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Refuse any Python but 3.11: the locks name wheels of 3.11 only."""
    if version[:2] != (3, 11):
        have = ".".join(map(str, version))
        raise SetupError(
            f"this is Python {have} and the appliance needs 3.11; name one with PYTHON=/path/to/python3.11 make …"
        )


def check_venv_module() -> None:
    """Refuse a Python whose packager split ensurepip off, as Debian does."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments; install what is missing with"
            " apt-get install -y python3.11-venv"
        ) from None


def check_platform(
    system: str = sys.platform,
    machine: str = platform.machine(),
    libc: Callable[[], tuple[str, str]] = platform.libc_ver,
) -> None:
    """Refuse anything but Linux on x86-64 with glibc 2.28 or newer."""
    if system != "linux" or machine not in ("x86_64", "AMD64"):
        raise SetupError(f"this machine is {system} on {machine}; the appliance runs on Linux on x86_64 only")
    name, version = libc()
    if name != "glibc":
        raise SetupError(
            "this Linux has no glibc and the engines' wheels need it; use Debian 12, Ubuntu 22.04, RHEL 9 or newer"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_GLIBC:
        raise SetupError(
            f"this Linux has glibc {version} and the engines' wheels need 2.28;"
            " use Debian 12, Ubuntu 22.04, RHEL 9 or newer"
        )


def check_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Refuse a processor without AVX2, which vLLM's CPU kernels are compiled for."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # Some sandboxes hide it; the engine itself would then say so.
    flags = [line for line in text.splitlines() if line.startswith("flags")]
    if flags and "avx2" not in flags[0].split():
        raise SetupError(
            "this processor has no AVX2 and vLLM's CPU build needs it; use a machine from 2014 or later,"
            " and for a virtual machine set its CPU type to host"
        )


def check_libnuma(load: Callable[[str], object] = ctypes.CDLL) -> None:
    """Refuse a system without libnuma, which vLLM's CPU extension links to."""
    try:
        load("libnuma.so.1")
    except OSError:
        raise SetupError(
            "libnuma.so.1 is missing and vLLM needs it; install it with: apt-get install -y libnuma1"
            " (RHEL: dnf install -y numactl-libs)"
        ) from None


def check_disk(where: Path, needed_bytes: int, free: Callable[[Path], int] | None = None) -> None:
    """Refuse to start a download that would not fit on the file system of ``where``."""
    existing = where
    while not existing.exists():
        existing = existing.parent
    available = free(existing) if free else shutil.disk_usage(existing).free
    if available < needed_bytes:
        raise SetupError(
            f"{existing} has {available / GIB:.1f} GiB free and this set-up needs {needed_bytes / GIB:.1f} GiB;"
            " free some space or clone to a larger disk"
        )


def gpu_answers(run: Callable[[list[str]], subprocess.CompletedProcess[str]] | None = None) -> bool:
    """Whether an NVIDIA GPU is there for us: ``nvidia-smi`` answers and lists at least one.

    Raises SetupError when it answers with a driver that is too old for the GPU set.
    """
    if run is None:
        if shutil.which("nvidia-smi") is None:
            return False
        run = _run_briefly
    try:
        answer = run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    except (OSError, subprocess.TimeoutExpired):
        return False
    lines = answer.stdout.split()
    if answer.returncode != 0 or not lines:
        return False
    major = lines[0].split(".")[0]
    if major.isdigit() and int(major) < _OLDEST_DRIVER:
        raise SetupError(
            f"the NVIDIA driver is {lines[0]} and CUDA 13 needs {_OLDEST_DRIVER} or newer; update the driver,"
            " or run on the CPU with APPLIANCE_SET=cpu make …"
        )
    return True


def _run_briefly(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def check_machine(gpu: bool) -> None:
    """Every check that needs no knowledge of sizes; ``gpu`` leaves out what only the CPU build needs."""
    check_python()
    check_platform()
    check_venv_module()
    if not gpu:
        check_avx2()
        check_libnuma()


def chosen_device(environ: dict[str, str] | None = None) -> str:
    """``gpu`` or ``cpu``: ``APPLIANCE_SET`` where it is set, else what ``nvidia-smi`` says."""
    wanted = (environ if environ is not None else dict(os.environ)).get("APPLIANCE_SET", "")
    if wanted not in ("", "cpu", "gpu"):
        raise SetupError(f"APPLIANCE_SET is {wanted!r}; leave it out, or set it to cpu or gpu")
    return wanted or ("gpu" if gpu_answers() else "cpu")
