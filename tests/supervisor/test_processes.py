"""Walking and killing process trees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

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
