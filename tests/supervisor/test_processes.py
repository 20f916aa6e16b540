"""Walking and killing process trees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support import alive, wait_until

from appliance.supervisor import processes

Spawn = Callable[..., "subprocess.Popen[str]"]

# the first thread ends, another lives: the kernel shows the process as a zombie that still holds everything
HALF_DEAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(300,)).start()
print("running", flush=True)
ctypes.CDLL(None).syscall(60, 0)
"""
PARENT_OF_HALF_DEAD = f"""
import subprocess, sys, time
sys.path.insert(0, {os.path.dirname(processes.__file__)!r})
import processes, os
child = subprocess.Popen([sys.executable, "-c", {HALF_DEAD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
stat = f"/proc/{{child.pid}}/stat"
while open(stat).read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
print("found", child.pid in processes.descendants(os.getpid()), flush=True)
print("left", processes.kill_below(os.getpid()), child.wait(), flush=True)
"""


def test_a_zombie_with_threads_left_counts_as_alive_and_is_killed(spawn: Spawn) -> None:
    output, error = spawn("-c", PARENT_OF_HALF_DEAD).communicate(timeout=20)
    assert output.splitlines() == ["found True", "left set() -9"], error


def test_a_plain_zombie_is_nobodys_descendant() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    try:
        wait_until(lambda: not alive(child.pid), 10, "the child had ended")
        assert os.path.exists(f"/proc/{child.pid}")
        assert child.pid not in processes.descendants(os.getpid())
    finally:
        child.wait()


def test_shared_memory_is_removed_once_nobody_maps_it() -> None:
    code = (
        "from multiprocessing import resource_tracker, shared_memory as s; m = s.SharedMemory(create=True, size=4096);"
        "resource_tracker.unregister(m._name, 'shared_memory'); print(m.name, flush=True); input()"
    )
    with subprocess.Popen(
        (sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        path = Path("/dev/shm") / child.stdout.readline().strip()
        assert path.exists()
        found = processes.shared_memory({child.pid})
        assert found == {str(path)}
        processes.remove_shared_memory(found)
        assert path.exists()  # it is in use
        child.kill()
    processes.remove_shared_memory(found)
    assert not path.exists()
