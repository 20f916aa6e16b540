"""``appliance doctor --bundle``: what support needs in one file, without anything that is not support's business.

What it is: the checks, settings without secrets, states, histories, and the ends of logs, each passed through the same
blotting as the logs themselves (keys, bearer tokens, passwords in URLs), and with home and host name taken out.
What it refuses to be: a dump. No ledger, no key, no prompt, no model is in it.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import socket
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.doctor import Check
from appliance.logs import blotted
from appliance.settings import Settings

_LOG_TAIL = 256 * 1024
# a line of settings whose name says that its value is nobody's business, or may hold one
_SECRET_LINE = re.compile(r"(?im)^(\s*[\w.\"-]*(?:key|secret|token|password|url|headers)[\w.\"-]*\s*=\s*).*$")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")


def redacted(text: str, settings: Settings) -> str:
    """``text`` without secrets, the box's name, and addresses other than loopback's."""
    text = blotted(text).replace(str(settings.home), "HOME").replace(str(settings.run), "RUN")
    host = socket.gethostname()
    if len(host) > 2:
        text = re.sub(rf"\b{re.escape(host)}\b", "HOST", text)
    return _ADDRESS.sub(lambda match: match[0] if match[0].startswith(("127.", "0.")) else "ADDRESS", text)


def write(settings: Settings, checks: Sequence[Check], target: Path, made_unix_s: float) -> list[str]:
    """Write the archive to ``target``, mode 0600; the names in it. Raises OSError, FileExistsError among them."""
    parts = {"doctor.json": msgspec.json.format(msgspec.json.encode(list(checks)), indent=1).decode()}
    parts |= {f"settings/{name}": text for name, text in _settings(settings)}
    for directory, pattern in ((settings.run, "*.json"), (settings.home / "engines", "*.json")):
        parts |= {f"{directory.name}/{path.name}": _tail(path) for path in sorted(directory.glob(pattern))}
    parts |= {f"logs/{path.name}": _tail(path) for path in sorted(settings.logs_dir.glob("*.log"))}
    with (
        open(target, "xb", opener=_private) as file,
        gzip.GzipFile("", "wb", 6, file, made_unix_s) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, text in parts.items():
            data = redacted(text, settings).encode()
            member = tarfile.TarInfo(f"appliance-doctor/{name}")
            member.size, member.mtime, member.mode = len(data), int(made_unix_s), 0o600
            tar.addfile(member, io.BytesIO(data))
    return list(parts)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _settings(settings: Settings) -> list[tuple[str, str]]:
    found = []
    for name in ("appliance.toml", "policy.toml"):
        text = _tail(settings.home / name)
        if text:
            found.append((name, _SECRET_LINE.sub(r'\1"…"', text)))
    return found


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
