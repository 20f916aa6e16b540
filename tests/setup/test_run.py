"""``setup/run`` and make, as a person meets them: one sentence where Python 3.11 is missing, a list of targets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shim(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    for tool in ("dirname",):
        (path / tool).symlink_to(f"/usr/bin/{tool}")
    return subprocess.run(
        ["/bin/sh", str(ROOT / "setup" / "run"), "install", "--dev"],
        env={"PATH": str(path), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_python_there_is_one_sentence(tmp_path: Path) -> None:
    answer = run(tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("setup: Python 3.11 was not found; install it")
    assert answer.stderr.count("\n") == 1


def test_a_shim_that_answers_nothing_is_passed_over(tmp_path: Path) -> None:
    shim(tmp_path, "python3.11", "echo 'no such version' >&2; exit 127")
    shim(tmp_path, "python3", 'case "$1" in -c) exit 0;; esac; echo "chosen $*"')
    answer = run(tmp_path)
    assert answer.stdout == f"chosen {ROOT / 'setup'} install --dev\n"


def test_a_named_python_comes_first(tmp_path: Path) -> None:
    shim(tmp_path, "python3.11", 'case "$1" in -c) exit 0;; esac; echo wrong')
    shim(tmp_path, "mine", 'case "$1" in -c) exit 0;; esac; echo mine')
    assert run(tmp_path, PYTHON=str(tmp_path / "mine")).stdout == "mine\n"


@pytest.mark.parametrize("target", ["serve", "test", "check", "lock", "clean", "help", "bench-gateway", "bench-speech"])
def test_help_is_the_default_and_lists_every_target(target: str) -> None:
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"make {target} " in answer.stdout
