"""pip's configuration, said again in uv's words.

What it is: an enterprise mirror, its certificate and its credentials are configured once, for pip
(``pip.conf`` or ``PIP_*``), and uv reads none of that. ``uv_environment`` is the translation.
What it refuses to be: a printer. Index URLs carry credentials, so values travel in the environment
of the child process only; ``scrub`` is for text that somebody else wrote.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Later sections win: pip reads [global], then the section of the command, then PIP_*.
_SECTIONS = ("global", "install", ":env:")
_LINE = re.compile(r"^(?P<section>:env:|[a-z]+)\.(?P<key>[a-z-]+)=(?P<value>.*)$")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def pip_config(python: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What ``pip config list`` of ``python`` says, one value a key. Empty when pip cannot tell."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environ))
    return parse_config(answer.stdout) if answer.returncode == 0 else {}


def parse_config(text: str) -> dict[str, str]:
    """Lines such as ``global.index-url='https://…'`` -> ``{"index-url": "https://…"}``."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match["section"] in found:
            found[match["section"]][match["key"]] = _unquoted(match["value"])
    merged: dict[str, str] = {}
    for section in _SECTIONS:
        merged.update(found[section])
    return merged


def _unquoted(value: str) -> str:
    try:
        read = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    return read if isinstance(read, str) else value


def uv_environment(config: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with UV_* (and TLS and proxy variables) added from ``config``; what is set already stays."""
    wanted: dict[str, str] = {}
    if "index-url" in config:
        wanted["UV_DEFAULT_INDEX"] = config["index-url"]
    if "extra-index-url" in config:
        wanted["UV_INDEX"] = " ".join(config["extra-index-url"].split())
        # uv would stop at the first index that knows a name; pip looks at all. Hashes keep it safe.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in config:
        wanted["UV_FIND_LINKS"] = ",".join(config["find-links"].split())
    if "trusted-host" in config:
        wanted["UV_INSECURE_HOST"] = " ".join(config["trusted-host"].split())
    if config.get("keyring-provider") == "subprocess":
        wanted["UV_KEYRING_PROVIDER"] = "subprocess"
    timeout = config.get("timeout", config.get("default-timeout", ""))
    if timeout.isdigit():
        wanted["UV_HTTP_TIMEOUT"] = timeout
    if "cert" in config:
        wanted["SSL_CERT_FILE"] = config["cert"]
    if "client-cert" in config:
        wanted["SSL_CLIENT_CERT"] = config["client-cert"]
    if "proxy" in config:
        wanted["ALL_PROXY"] = config["proxy"]
    return {**wanted, **environ}


def uv_flags(config: Mapping[str, str]) -> list[str]:
    """What of pip's configuration uv takes as a flag only."""
    return ["--no-index"] if config.get("no-index", "").lower() in ("1", "true", "yes", "on") else []


def scrub(text: str) -> str:
    """``text`` without the user and password of any URL in it."""
    return _CREDENTIALS.sub("***@", text)


def explain(output: str) -> str:
    """One sentence for a failed pip or uv, from what it printed."""
    low = output.lower()
    for marks, sentence in _CAUSES:
        if any(mark in low for mark in marks):
            return sentence
    last = [line.strip() for line in scrub(output).splitlines() if line.strip()][-1:]
    return f"the installer failed ({last[0] if last else 'it printed nothing'}); run the same command again"


_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("no space left on device",),
        "the disk is full; free some space and run the same command again",
    ),
    (
        ("hash mismatch", "do not match the hashes"),
        "the registry served a file whose hash is not the locked one; point pip at a registry that serves the"
        " original files, or run make lock if you mean to trust the new ones",
    ),
    (
        ("invalid peer certificate", "certificate verify failed", "unknownissuer"),
        "the registry's certificate is not trusted; name your CA bundle with"
        " pip config set global.cert /path/to/ca.pem",
    ),
    (
        ("401 unauthorized", "403 forbidden", "status code 401", "status code 403"),
        "the registry refused the credentials; mend index-url in pip's configuration",
    ),
    (
        (
            "failed to fetch",
            "error sending request",
            "could not connect",
            "connection refused",
            "connection error",
            "name resolution",
            "dns error",
            "network is unreachable",
            "failed to establish a new connection",
            "timed out",
        ),
        "the package registry cannot be reached; connect this machine, or point pip at a mirror with"
        " pip config set global.index-url URL",
    ),
    (
        ("no solution found", "no matching distribution", "was not found in"),
        "the package registry does not answer or lacks a locked package; connect this machine, or point pip at a"
        " full mirror with pip config set global.index-url URL",
    ),
)


def shown(command: list[str]) -> str:
    """``command`` as a person would type it, for messages."""
    return scrub(shlex.join(command))
