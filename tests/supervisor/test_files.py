"""Locks, stale sockets, atomic state."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.supervisor import files
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.types import EngineState

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def test_a_lock_is_one_processs_and_names_it(home: Path) -> None:
    first = files.take_lock(home / "l")
    assert first is not None
    assert files.take_lock(home / "l", within_s=0.1) is None
    assert files.lock_owner(home / "l") == os.getpid()
    os.close(first)
    second = files.take_lock(home / "l")
    assert second is not None
    os.close(second)


def test_the_owner_of_no_lock(home: Path) -> None:
    assert files.lock_owner(home / "absent") == 0


def test_a_live_socket_is_told_from_a_dead_one(home: Path) -> None:
    path = home / "s"
    assert files.listener_pid(path) is None
    with bound(path):
        assert files.listener_pid(path) == os.getpid()
        with pytest.raises(CannotStart, match="already does") as refused:
            files.clear_socket(path, "e")
        assert refused.value.code == Exit.TAKEN
    assert files.listener_pid(path) is None
    files.clear_socket(path, "e")
    assert not path.exists()


def test_sweeping_spares_living_engines_and_everything_that_is_not_vllms(home: Path) -> None:
    dead, live, other = home / UUID, home / UUID.replace("0f8f", "1f8f"), home / "chat.sock"
    file = home / UUID.replace("0f8f", "2f8f")
    file.write_text("a file that only looks like one")
    bound(dead).close()
    bound(other).close()
    with bound(live):
        assert files.sweep_ipc(home) == 1
    assert not dead.exists()
    assert live.exists() and other.exists() and file.exists()


def test_state_round_trip_leaves_no_part_behind(home: Path) -> None:
    state = EngineState("e", "fake", "chat", "ready", "/s", ("m",), "", 1.5, 2, 3, 4)
    files.write_state(home / "e.json", state)
    assert files.read_state(home / "e.json") == state
    assert [path.name for path in home.iterdir()] == ["e.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"x":' + b"[" * 100_000])
def test_a_state_that_cannot_be_read_is_none(home: Path, content: bytes) -> None:
    (home / "e.json").write_bytes(content)
    assert files.read_state(home / "e.json") is None
