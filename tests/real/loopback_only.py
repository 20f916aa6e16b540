"""``python loopback_only.py ARGV…``: run ARGV in a network namespace that has nothing but loopback.

Exits with 77 and a reason where the kernel does not permit that (a container without CAP_SYS_ADMIN and without
user namespaces).
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x1 | 0x40
NOT_PERMITTED = 77


def unshare_network() -> None:
    """As root directly, else inside a user namespace where this user is itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return
    uid = os.getuid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        print(f"no network namespace here: {os.strerror(errno)}", file=sys.stderr)
        sys.exit(NOT_PERMITTED)
    with open("/proc/self/uid_map", "w", encoding="ascii") as file:
        file.write(f"{uid} {uid} 1")


def raise_loopback() -> None:
    """A new namespace's ``lo`` is down; Gloo, which vLLM's worker uses, looks for an interface with 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))


if __name__ == "__main__":
    unshare_network()
    raise_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])
