"""What a machine has, as one JSON object on standard output. Runs on the target before anything is installed.

What it refuses to be: a judge (templates/verdict.j2 is), or a change to the machine.
"""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys


def answer(*command):
    """What a command prints, or nothing where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def free_mb(path):
    """Free space where ``path`` is or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free // 1_000_000


def taken(port):
    """Whether a process listens on ``port`` already. The appliance's own, of an earlier run, does not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


def main(root, home, ports):
    """Print everything."""
    with open("/proc/meminfo", encoding="ascii") as file:
        ram_mb = int(file.readline().split()[1]) * 1024 // 1_000_000
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        flags = next((line.split(":", 1)[1].split() for line in file if line.startswith("flags")), [])
    installed = os.path.islink(os.path.join(root, "current"))
    found = {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "glibc": platform.libc_ver()[1],
        "avx2": not flags or "avx2" in flags,
        "cores": os.cpu_count(),
        "ram_mb": ram_mb,
        "root_free_mb": free_mb(root),
        "home_free_mb": free_mb(home),
        "gpus": [
            line for line in answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines() if line
        ],
        "driver": answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0],
        "nvidia_on_the_bus": bool(answer("lspci", "-d", "10de:")),
        "clock": answer("timedatectl", "show", "-p", "NTPSynchronized", "--value"),
        "booted": os.path.isdir("/run/systemd/system"),
        "installed": installed,
        "ports_taken": [] if installed else [port for port in ports if taken(port)],
    }
    print(json.dumps(found))


main(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3].split(",") if port])
