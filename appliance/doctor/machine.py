"""The machine under the appliance: system, GPU and driver, disk, clock, certificate, a way out.

What it is: one function a question; each measures and judges. What could be dangerous to ask is passed in.
What it refuses to be: thorough about hardware; ``nvidia-smi -q`` and smartctl are.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.doctor import Check, green, red, yellow
from appliance.settings import Settings

_LOW_BYTES, _VERY_LOW_BYTES = 10_000_000_000, 2_000_000_000
_OLDEST_DRIVER = 580
_RENEW_DAYS, _LATE_DAYS = 30, 7
_OUT_WITHIN_S = 2.0
# public resolvers, by address: a box without name service is not proven closed by a name that does not resolve
OUTSIDE = (("1.1.1.1", 443), ("8.8.8.8", 443), ("2606:4700:4700::1111", 443))


def said(*command: str) -> str | None:
    """What a program prints, None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def system(version: str) -> Check:
    """What support asks first."""
    libc = "".join(platform.libc_ver())
    return green("versions", f"appliance {version}, Python {platform.python_version()}, {platform.release()}, {libc}")


def gpu(on_cpu: bool, ask: Callable[..., str | None] = said) -> Check:
    """GPU and driver, against the engines that are installed."""
    answer = ask("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not answer:
        if on_cpu:
            return green("gpu", "none, and the engines are the builds for CPUs")
        return red("gpu", "nvidia-smi does not answer", "look at `dmesg | grep -i nvrm`, then reinstall the driver")
    first = answer.splitlines()
    name, _, driver = first[0].rpartition(",")
    found = f"{len(first)} x {name.strip()}, driver {driver.strip()}"
    if on_cpu:
        return yellow(
            "gpu", f"{found}, and the engines are the builds for CPUs", "set appliance_set: gpu in the inventory"
        )
    if int(driver.strip().split(".")[0]) < _OLDEST_DRIVER:
        return red("gpu", found, f"install a driver of branch {_OLDEST_DRIVER} or newer")
    return green("gpu", found)


def disk(home: Path, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free) -> Check:
    """A ledger that cannot be written refuses requests, so this comes long before that."""
    left = free(home)
    found = f"{left / 1e9:.1f} GB free at {home}"
    fix = f"free some: `du -xh {home} | sort -h | tail` shows what is large"
    if left < _VERY_LOW_BYTES:
        return red("disk", found, fix)
    return yellow("disk", found, fix) if left < _LOW_BYTES else green("disk", found)


def clock(ask: Callable[..., str | None] = said) -> Check:
    """Whether somebody sets it: months, expiries and permits go by it."""
    answer = ask("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if answer == "yes":
        return green("clock", f"{now}, synchronised")
    if answer is None:
        return yellow("clock", f"{now}; nobody here knows whether it is right", "compare it with another machine's")
    return red(
        "clock", f"{now}, not synchronised", "name a time server: `timedatectl timesync-status` shows who is asked"
    )


def private(settings: Settings) -> Check:
    """Whether sockets and the first key are their owner's only."""
    wrong = [
        str(path)
        for path, allowed in ((settings.run, 0o700), (settings.admin_key_path, 0o600))
        if path.exists() and path.stat().st_mode & 0o777 & ~allowed
    ]
    long = len(bytes(settings.run))
    if wrong:
        return red("sockets", f"{', '.join(wrong)} can be read by others", f"chmod go= {' '.join(wrong)}")
    if not settings.run.exists():
        return yellow(
            "sockets", f"{settings.run} is not there: nothing has been started", "systemctl start appliance.target"
        )
    names = sorted(path.name for path in settings.run.glob("*.sock"))
    return green("sockets", f"{settings.run} ({long} bytes, 0700): {', '.join(names) or 'none'}")


def certificate(path: Path, now: datetime) -> Check | None:
    """How long the proxy's certificate is good for; None where there is none to be read."""
    try:
        path.stat()
        # the standard library reads a certificate's end only from a connection or by this function of its tests;
        # it is there in every CPython that this runs on, 3.11
        until = ssl._ssl._test_decode_cert(str(path))["notAfter"]  # type: ignore[attr-defined]
    except FileNotFoundError:
        return None
    except (OSError, ssl.SSLError):
        return yellow("certificate", f"{path} cannot be read", "ask as root")
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC)
    days = (ends - now).days
    found = f"{path} is good for {days} days, until {ends:%Y-%m-%d}"
    fix = "run site.yml again (own CA), or supply a new one (edge_certificate)"
    if days < _LATE_DAYS:
        return red("certificate", found, fix)
    return yellow("certificate", found, fix) if days < _RENEW_DAYS else green("certificate", found)


def routed(address: tuple[str, int]) -> bool:
    """Whether the kernel knows a way there. Connecting a UDP socket asks its routing table and sends nothing."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect(address)
    except OSError:
        return False
    return True


def reachable(address: tuple[str, int]) -> bool:
    """Whether a connection opens. It is closed at once, with nothing sent over it."""
    try:
        with socket.create_connection(address, timeout=_OUT_WITHIN_S):
            return True
    except OSError:
        return False


def egress(
    try_it: bool,
    tries: Sequence[tuple[str, int]] = OUTSIDE,
    route: Callable[[tuple[str, int]], bool] = routed,
    connect: Callable[[tuple[str, int]], bool] = reachable,
) -> Check:
    """Whether this user has a way out, which on a local-only box nobody has, and elsewhere the hosted user only.

    Without ``try_it`` not one packet leaves: only routes are looked up, and behind one a firewall may still refuse.
    """
    who = f"uid {os.getuid()}"
    fix = "run the hardening role: its firewall lets nobody out but the hosted process' user"
    ways = [address for address in tries if route(address)]
    if not ways:
        return green("egress", f"no way out for {who}: the machine has no route")
    if not try_it:
        return yellow(
            "egress", f"there is a route out; whether the firewall lets {who} use it was not tried", "--try-egress"
        )
    open_ways = [address[0] for address in ways if connect(address)]
    if not open_ways:
        return green("egress", f"no way out for {who}: {len(ways)} public addresses refused or dropped")
    return red("egress", f"{who} can reach {', '.join(open_ways)}", fix)
