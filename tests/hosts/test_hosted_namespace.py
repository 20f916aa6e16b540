"""A gateway patched to call out by itself has no route: only the hosted process' user has one.

Needs root, ``ip`` and the right to make network namespaces; elsewhere it is skipped with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What each of the two users got."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a network namespace and to be two users in it")
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (package iproute2)")
    done = subprocess.run(
        (sys.executable, TESTS / "hosts" / "namespace_box.py"),
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"this machine allows no network namespaces: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_patched_gateway_cannot_connect(seen: dict[str, Any]) -> None:
    assert seen["gateway"]["patched"] == "hosted_unreachable"


def test_the_same_code_connects_as_the_hosted_user_so_it_is_the_route_that_is_missing(seen: dict[str, Any]) -> None:
    assert "candidates" in seen["hosted"]["patched"]


def test_the_gateway_gets_its_answer_through_the_hosted_process_with_a_permit_only(seen: dict[str, Any]) -> None:
    gateway = seen["gateway"]
    assert json.loads(gateway["allowed"])["choices"][0]["message"]["content"] == "t0 t1 t2 t3 t4 t5 "
    assert (gateway["without_permit"], gateway["forged"]) == ("permit_missing", "permit_invalid")


def test_a_local_only_tenant_gets_no_permit(seen: dict[str, Any]) -> None:
    assert seen["gateway"]["local_only"] == "residency"
