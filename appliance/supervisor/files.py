"""The files around one engine: its state, its lock, its log, and the sockets a dead one left behind.

What it is: ``run/NAME.json`` (state, replaced atomically), ``run/NAME.lock`` (held by the supervisor and by
the guard, so it stays taken until nothing of the engine is left).
What it refuses to be: a store. Everything here may be deleted while the engine is stopped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import time
from pathlib import Path

import msgspec

from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.types import EngineState

# vllm names its ZeroMQ sockets with a bare UUID below VLLM_RPC_BASE_PATH and never removes them
_VLLM_IPC_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOCK_RETRY_S = 0.05
_decoder = msgspec.json.Decoder(EngineState)


def make_private(directory: Path, shared: bool = False) -> None:
    """``directory`` for its owner only (0700), also when it existed.

    ``shared``: where its group may read it already, that stays (the hosted process' socket, which the gateway's user
    has to reach).
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = directory.stat().st_mode & 0o050 if shared else 0
    directory.chmod(0o700 | kept)


def replace_file(path: Path, content: bytes, mode: int | None = None) -> bool:
    """Replace ``path`` in one step, its directory made where it is not there. False where the disk does not take it:
    no engine ends because a file about it cannot be written."""
    part = path.with_suffix(f"{path.suffix}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_bytes(content)
        if mode is not None:
            part.chmod(mode)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return False
    return True


def write_state(path: Path, state: EngineState) -> bool:
    """Replace ``path`` in one step: a reader sees the old state or the new one. False where it cannot be written."""
    # of a hosted engine by another user of the group: its gateway
    return replace_file(path, msgspec.json.encode(state), 0o640 if state.kind == "hosted" else None)


def read_state(path: Path) -> EngineState | None:
    """The state, None when there is none that can be read."""
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def take_lock(path: Path, within_s: float = 0.0) -> int | None:
    """An open descriptor that holds ``path`` locked, or None when another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < give_up:
                time.sleep(_LOCK_RETRY_S)  # flock has no timeout
                continue
            os.close(fd)
            return None
        with contextlib.suppress(OSError):  # a full disk: then nobody can say who holds it, and it is held all the same
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return fd


def lock_owner(path: Path) -> int:
    """The pid that wrote itself into a lock, 0 when unknown."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return 0


def listener_pid(path: Path) -> int | None:
    """Who listens on the Unix socket ``path``: its pid, 0 when it cannot be told, None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(bytes(path))
        except BlockingIOError:  # its backlog is full, so somebody owns it
            return 0
        except OSError as e:
            if e.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK, errno.EPROTOTYPE):
                return None
            raise
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def clear_socket(path: Path, engine: str) -> None:
    """Remove what a dead engine left at ``path``; refuse when a living process listens there."""
    owner = listener_pid(path)
    if owner is not None:
        raise CannotStart(
            f"engine {engine!r} cannot listen on {path}: process {owner or 'unknown'} already does;"
            f" stop it, or rename the engine in appliance.toml",
            Exit.TAKEN,
        )
    path.unlink(missing_ok=True)


def sweep_ipc(run: Path) -> int:
    """Remove the ZeroMQ sockets of dead vllm engines below ``run``; those of living ones stay."""
    swept = 0
    for path in run.iterdir():
        if _VLLM_IPC_NAME.fullmatch(path.name) and path.is_socket() and listener_pid(path) is None:
            path.unlink(missing_ok=True)
            swept += 1
    return swept
