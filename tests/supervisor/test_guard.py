"""Nothing of an engine outlives it, whoever is killed: the supervisor, the engine's main process, the guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import alive, wait_until

HERE = Path(__file__).parent
GONE_WITHIN_S = 5.0


@dataclass
class Tree:
    """A running engine tree: its supervisor, the guard, and all pids (main first)."""

    supervisor: subprocess.Popen[str]
    guard: int
    pids: list[int]

    @property
    def main(self) -> int:
        return self.pids[0]

    def all_gone(self) -> bool:
        return not any(alive(pid) for pid in [*self.pids, self.guard])

    def line(self) -> str:
        assert self.supervisor.stdout is not None
        return self.supervisor.stdout.readline().strip()


class Starter:
    """Starts trees and kills what a failing test leaves."""

    def __init__(self, home: Path, environ: dict[str, str]) -> None:
        self._home = home
        self._environ = environ
        self.trees: list[Tree] = []

    def __call__(self, *options: str) -> Tree:
        pidfile = self._home / "pids"
        argv = (sys.executable, "-I", "-S", str(HERE / "tree.py"), str(pidfile), *options)
        supervisor = subprocess.Popen(
            (sys.executable, str(HERE / "holder.py"), str(self._home), *argv),
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert supervisor.stdout is not None
        word, main, guard = supervisor.stdout.readline().split()
        assert word == "started"
        wait_until(pidfile.exists, 5, "the tree wrote its pids")
        pids = [int(pid) for pid in pidfile.read_text().split()]
        assert pids[0] == int(main) and len(pids) == 5
        tree = Tree(supervisor, int(guard), pids)
        self.trees.append(tree)
        return tree


@pytest.fixture
def start(home: Path, environ: dict[str, str]) -> Iterator[Starter]:
    starter = Starter(home, environ)
    yield starter
    for tree in starter.trees:
        tree.supervisor.kill()
        tree.supervisor.communicate()
        for pid in tree.pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_the_tree_really_has_a_process_outside_the_engines_group(start: Starter) -> None:
    tree = start()
    groups = {os.getpgid(pid) for pid in tree.pids}
    assert os.getpgid(tree.main) == tree.main
    assert len(groups) == 2
    assert os.getpgid(tree.guard) not in groups


def test_kill_9_of_the_supervisor(start: Starter) -> None:
    tree = start("deaf")
    tree.supervisor.kill()
    wait_until(tree.all_gone, GONE_WITHIN_S, "everything was gone after kill -9 of the supervisor")


def test_kill_9_of_the_engines_main_process(start: Starter) -> None:
    tree = start("deaf")
    os.kill(tree.main, signal.SIGKILL)
    assert tree.line() == f"gone {int(signal.SIGKILL)}"
    assert tree.all_gone()  # "gone" is said after the last of them, not before


def test_kill_9_of_the_guard(start: Starter) -> None:
    tree = start("deaf")
    os.kill(tree.guard, signal.SIGKILL)
    wait_until(tree.all_gone, GONE_WITHIN_S, "everything was gone after kill -9 of the guard")
    assert tree.line() == f"gone {int(signal.SIGKILL)}"


def test_kill_9_of_the_guard_while_the_supervisor_hangs_takes_the_main_process_at_once(start: Starter) -> None:
    tree = start("deaf")
    tree.supervisor.send_signal(signal.SIGSTOP)
    os.kill(tree.guard, signal.SIGKILL)
    wait_until(lambda: not alive(tree.main), GONE_WITHIN_S, "the kernel killed the main process")
    tree.supervisor.send_signal(signal.SIGCONT)
    wait_until(tree.all_gone, GONE_WITHIN_S, "the supervisor did the rest when it ran again")


def test_sigterm_to_the_guard_stops_the_engine(start: Starter) -> None:
    tree = start()
    os.kill(tree.guard, signal.SIGTERM)
    assert tree.line() == f"gone {int(signal.SIGTERM)}"
    assert tree.all_gone()


def test_a_main_process_that_leaves_by_itself_takes_its_orphans_along(start: Starter) -> None:
    tree = start("exit=7")
    assert tree.line() == f"gone {7 << 8}"
    assert tree.all_gone()


def test_stop_gives_the_engine_its_grace(start: Starter) -> None:
    tree = start()
    assert tree.supervisor.stdin is not None
    tree.supervisor.stdin.write("stop 30\n")
    tree.supervisor.stdin.flush()
    assert tree.line() == f"gone {int(signal.SIGTERM)}"
    assert tree.all_gone()


def test_an_engine_deaf_to_sigterm_is_killed_when_its_grace_is_over(start: Starter) -> None:
    tree = start("deaf")
    assert tree.supervisor.stdin is not None
    began = time.monotonic()
    tree.supervisor.stdin.write("stop 0.3\n")
    tree.supervisor.stdin.flush()
    assert tree.line() == f"gone {int(signal.SIGKILL)}"
    assert time.monotonic() - began >= 0.3
    assert tree.all_gone()


def test_shared_memory_of_a_process_that_died_before_the_end_goes_too(start: Starter) -> None:
    path = Path(f"/dev/shm/appliance-test-{os.getpid()}")
    tree = start(f"shares={path}")
    assert path.exists()
    assert tree.supervisor.stdin is not None
    tree.supervisor.stdin.write("stop 30\n")
    tree.supervisor.stdin.flush()
    assert tree.line() == "gone 0"
    assert not path.exists()


def test_the_guard_is_small(start: Starter) -> None:
    tree = start()
    status = Path(f"/proc/{tree.guard}/status").read_text()
    rss_kb = int(status.partition("VmRSS:")[2].split()[0])
    assert rss_kb < 20_000


def test_the_engine_inherits_neither_the_lock_nor_the_guards_socket(start: Starter) -> None:
    tree = start()
    targets = {os.readlink(f"/proc/{tree.main}/fd/{fd}") for fd in os.listdir(f"/proc/{tree.main}/fd")}
    assert not any(target.startswith("socket:") or target.endswith("/lock") for target in targets)
    guard_targets = {os.readlink(f"/proc/{tree.guard}/fd/{fd}") for fd in os.listdir(f"/proc/{tree.guard}/fd")}
    assert any(target.endswith("/lock") for target in guard_targets)
