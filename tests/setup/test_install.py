"""The stamp: written last, removed first, so that no interruption is ever taken for a whole environment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from appliance_setup import install as room
from appliance_setup import preflight, process
from appliance_setup.errors import SetupError
from appliance_setup.install import Layout, install, read_stamp

TORCH = "torch==2.13.0+cpu \\\n    --hash=sha256:00\n"


class FakeChildren:
    """Stands in for process.run: makes the venv that is asked for, and is interrupted where told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[str] = []
        self.dies_at = -1
        self.has_wheel = True
        self.held: list[Sequence[int]] = []

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        hold: Sequence[int] = (),
        quiet: bool = False,
    ) -> None:
        line = " ".join(command).replace(str(self.root), "ROOT")
        if len(self.commands) == self.dies_at:
            raise KeyboardInterrupt
        self.commands.append(line)
        self.held.append(hold)
        if "-m venv" in line:
            (self.root / ".venv" / "bin").mkdir(parents=True)
            (self.root / ".venv" / "bin" / "python").touch()
        if "--dry-run" in line and not self.has_wheel:
            raise SetupError("no such wheel")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    for name in ("cpu.txt", "cpu-pypi.txt", "gpu.txt", "dev.txt", "bootstrap.txt"):
        (tmp_path / "locks" / name).write_text(TORCH)
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


@pytest.fixture
def children(root: Path, monkeypatch: pytest.MonkeyPatch) -> FakeChildren:
    fake = FakeChildren(root)
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(room.registry, "pip_config", lambda python, environ: {})
    monkeypatch.setattr(preflight, "check_disk", lambda where, needed: None)
    monkeypatch.setattr(preflight, "check_machine", lambda gpu: None)
    return fake


def go(root: Path, *, dev: bool = False, device: str = "cpu") -> list[str]:
    said: list[str] = []
    install(root, dev=dev, environ={"APPLIANCE_SET": device, "PATH": os.environ["PATH"]}, say=said.append)
    return said


def synced(children: FakeChildren) -> list[str]:
    return [line for line in children.commands if " pip sync " in line]


def test_a_second_run_does_nothing(root: Path, children: FakeChildren) -> None:
    go(root)
    before = len(children.commands)
    assert go(root) == []
    assert len(children.commands) == before


def test_interrupted_at_any_child_the_next_run_starts_afresh(root: Path, children: FakeChildren) -> None:
    go(root)
    steps = len(children.commands)
    for step in range(steps):
        subprocess.run(["rm", "-rf", str(root / ".venv")], check=True)
        children.commands.clear()
        children.dies_at = step
        with pytest.raises(KeyboardInterrupt):
            go(root)
        assert read_stamp(Layout(root)) is None, step
        children.dies_at = -1
        children.commands.clear()
        go(root)
        assert read_stamp(Layout(root)) is not None, step
        assert "-m venv" in children.commands[0], step


def test_interrupted_while_changing_a_whole_environment_it_is_made_afresh(root: Path, children: FakeChildren) -> None:
    go(root)
    (root / "locks" / "cpu.txt").write_text(TORCH + "rich==15 \\\n    --hash=sha256:01\n")
    children.dies_at = len(children.commands) + 2
    with pytest.raises(KeyboardInterrupt):
        go(root)
    children.dies_at = -1
    children.commands.clear()
    assert any("no set-up finished" in line for line in go(root))
    assert "-m venv" in children.commands[0]


def test_a_changed_lock_changes_the_environment_in_place(root: Path, children: FakeChildren) -> None:
    go(root)
    (root / "locks" / "cpu.txt").write_text(TORCH + "rich==15 \\\n    --hash=sha256:01\n")
    children.commands.clear()
    go(root)
    assert not [line for line in children.commands if "-m venv" in line]
    assert synced(children)


def test_tools_once_installed_stay_installed(root: Path, children: FakeChildren) -> None:
    go(root, dev=True)
    assert go(root) == []
    (root / "pyproject.toml").write_text("# changed")
    children.commands.clear()
    go(root)
    assert "dev.txt" in synced(children)[0]


def test_without_the_cpu_wheel_pypis_torch_is_taken_and_its_size_said(root: Path, children: FakeChildren) -> None:
    children.has_wheel = False
    said = go(root)
    assert "locks/cpu-pypi.txt" in synced(children)[0]
    assert any("PyPI's CUDA build" in line for line in said)
    assert any("3.1 GB to download, 6.2 GB on disk" in line for line in said)
    assert read_stamp(Layout(root)).package_set == "cpu-pypi"  # type: ignore[union-attr]
    assert go(root) == []


def test_a_gpu_gets_the_gpu_set_and_never_asks_for_the_cpu_wheel(root: Path, children: FakeChildren) -> None:
    go(root, device="gpu")
    assert "locks/gpu.txt" in synced(children)[0]
    assert not [line for line in children.commands if "--dry-run" in line]


def test_a_gpu_that_came_later_changes_the_set(root: Path, children: FakeChildren) -> None:
    go(root)
    go(root, device="gpu")
    assert "locks/gpu.txt" in synced(children)[-1]


def test_a_moved_clone_is_made_afresh(root: Path, children: FakeChildren, tmp_path: Path) -> None:
    go(root)
    stamp = (root / ".venv" / room.STAMP).read_text()
    (root / ".venv" / room.STAMP).write_text(stamp.replace(str(root), "/elsewhere"))
    assert read_stamp(Layout(root)) is None


def test_a_vanished_python_is_made_afresh(root: Path, children: FakeChildren) -> None:
    go(root)
    (root / ".venv" / "bin" / "python").unlink()
    children.commands.clear()
    go(root)
    assert "-m venv" in children.commands[0]


def test_children_hold_the_lock_of_a_killed_parent(root: Path, children: FakeChildren) -> None:
    go(root)
    assert all(len(hold) == 1 for hold in children.held)


def test_two_at_once_run_one_after_the_other(root: Path, children: FakeChildren) -> None:
    waiting, said = threading.Event(), []

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    holder = os.open(root / "locks", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    environ = {"APPLIANCE_SET": "cpu"}
    second = threading.Thread(target=lambda: install(root, dev=False, environ=environ, say=say))
    second.start()
    try:
        assert waiting.wait(10)
        assert "another set-up is at work" in said[0]
        assert children.commands == []
    finally:
        os.close(holder)
        second.join(10)
    assert read_stamp(Layout(root)) is not None


def test_a_venv_behind_a_link_is_not_deleted(root: Path, children: FakeChildren, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (root / ".venv").symlink_to(tmp_path / "precious")
    with pytest.raises(SetupError, match="symbolic link"):
        go(root)
    assert (tmp_path / "precious").is_dir()


def test_a_failing_child_becomes_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; sys.exit('error: Failed to fetch https://me:s3cret@mirror.example/simple')"
    with pytest.raises(SetupError, match="registry cannot be reached"):
        process.run([sys.executable, "-c", code], cwd=tmp_path, environ=os.environ)
    assert "s3cret" not in capfd.readouterr().err
