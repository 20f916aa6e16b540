"""What ``appliance models`` shows: rows, fields and states of the store, in words.

What it refuses to be: a command; nothing here changes anything.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance_models.entry import Model
    from appliance_models.manifest import Manifest
    from appliance_models.store import Store

_UNKNOWN = "?"


@dataclass
class Shelf:
    """What every command here works with."""

    settings: Settings
    store: Store

    def load(self, name: str) -> Model:
        from appliance_models import catalogue

        return catalogue.load(name, own=self.settings.models_dir)

    def load_all(self) -> dict[str, Model]:
        from appliance_models import catalogue

        return catalogue.load_all(own=self.settings.models_dir)

    def is_own(self, name: str) -> bool:
        return (self.settings.models_dir / f"{name}.toml").exists()

    def manifest(self, name: str) -> Manifest | None:
        from appliance_models import manifest

        return manifest.read(self.settings.models_dir / name)

    def state(self, model: Model) -> str:
        """One word or two about what is on the disk."""
        from appliance_models import licences

        if self.store.sound(model):
            blocked = model.must_accept and licences.of(self.settings.models_dir, model) is None
            return "licence not accepted" if blocked else "installed"
        if self.store.path(model).exists():
            return "damaged" if self.manifest(model.name) else "own directory"
        return "begun" if self.store.begun(model) else "-"

    def in_use(self) -> set[str]:
        """Models that engines have open, by their state files."""
        from appliance.supervisor.files import read_state

        used: set[str] = set()
        for path in self.settings.run.glob("*.json"):
            state = read_state(path)
            if state is not None and state.phase not in ("stopped", "failed") and _alive(state.supervisor_pid):
                used |= set(state.models)
                engine = self.settings.engines.get(state.name)
                used |= {engine.model} if engine and engine.model else set()
        return used


def row(opened: Shelf, model: Model) -> dict[str, Any]:
    installed = opened.manifest(model.name)
    count = sum(entry.bytes for entry in installed.files) if installed else None
    return {
        "name": model.name,
        "title": model.title,
        "task": model.task,
        "engine": model.engine,
        "licence": model.licence,
        "languages": list(model.languages),
        "state": opened.state(model),
        "bytes": count or model.installed_bytes or model.weights_bytes,
        "own": opened.is_own(model.name),
    }


def strangers(opened: Shelf, known: dict[str, Model]) -> list[dict[str, Any]]:
    """Directories that a deleted entry, or the operator, left."""
    rows = []
    directories = opened.settings.models_dir.glob("*") if opened.settings.models_dir.is_dir() else ()
    for path in sorted(path for path in directories if path.is_dir()):
        if path.name in known or path.name.startswith("."):
            continue
        found = opened.manifest(path.name)
        if found is not None or (path / "config.json").is_file():
            count = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            about = {"task": found.task, "engine": found.engine, "licence": found.licence} if found else {}
            rows.append({"name": path.name, "state": "in no catalogue", "bytes": count, **about})
    return rows


def cell(row: dict[str, Any], head: str) -> str:
    if head == "size":
        return size(row["bytes"])
    if head == "languages":
        return _languages(row.get("languages") or [])
    return str(row.get(head, _UNKNOWN))


def _languages(tags: Sequence[str]) -> str:
    """Few by name, many by number."""
    codes = [tag[:3] for tag in tags]
    return " ".join(codes) if len(codes) <= 3 else f"{len(set(codes))} languages"


def size(count: int | None) -> str:
    if count is None:
        return _UNKNOWN
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6)):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def fields(opened: Shelf, model: Model, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of ``show``."""
    yield "name", model.name + (" (your own entry)" if row["own"] else "")
    yield "title", model.title
    yield "task", f"{model.task}, on the engine {model.engine}"
    if model.arguments:
        yield "arguments", shlex.join(model.arguments)
    yield "source", model.source + (" (gated)" if model.hub and model.hub.gated else "")
    yield "licence", f"{model.licence} ({model.licence_url or 'LICENSE in its files'})"
    yield "accepted", licence(opened, model)["accepted"]
    yield "languages", ", ".join(model.languages)
    yield "context", f"{model.context_tokens:,} tokens" if model.context_tokens else "unknown, or none"
    if model.parameters:
        yield "parameters", f"{model.parameters:,}"
    memory = model.memory
    yield "weights", size(model.weights_bytes)
    if memory.kv_bytes_per_token:
        yield (
            "KV cache",
            f"{memory.kv_bytes_per_token:,} bytes a token (16 bits)"
            + (
                f", of which {memory.kv_windowed_bytes_per_token:,} for at most {memory.kv_window_tokens:,} tokens"
                if memory.kv_window_tokens
                else ""
            ),
        )
    if memory.workspace_bytes:
        yield "workspace", size(memory.workspace_bytes)
    yield "state", row["state"] + (f" in {opened.store.path(model)}" if row["state"] != "-" else "")
    installed = opened.manifest(model.name)
    if installed and installed.origin:
        commit = f" at {installed.origin.commit}" if installed.origin.commit else ""
        yield "came from", f"{installed.origin.kind} {installed.origin.where}{commit}"
    for number, text in enumerate(model.unverified):
        yield "" if number else "not verified", text
    for number, text in enumerate(model.facts):
        yield "" if number else "facts from", text


def licence(opened: Shelf, model: Model) -> dict[str, Any]:
    from appliance_models import licences

    found = licences.of(opened.settings.models_dir, model) if model.must_accept else None
    accepted = f"by {found.who} at {found.at}" if found else "needed, not yet" if model.must_accept else "not needed"
    return {
        "model": model.name,
        "licence": model.licence,
        "must_accept": model.must_accept,
        "accepted": accepted,
        "who": found.who if found else None,
        "at": found.at if found else None,
        "url": model.licence_url,
    }


def say_pulled(opened: Shelf, model: Model, directory: Path, was_there: bool, before: Manifest | None) -> None:
    """Where it is, and which hashes were taken on trust; ``before`` is what was installed until now."""
    installed = opened.manifest(model.name)
    count = sum(entry.bytes for entry in installed.files) if installed else 0
    verb = "was there already" if was_there else "is there"
    click.echo(f"{model.name} {verb}: {directory} ({size(count)}, {model.licence})")
    if installed and installed.origin:
        known = {file.to: file.sha256 for file in model.files if file.sha256}
        known |= {path: entry.sha256 for path, entry in before.pinned.items()} if before else {}
        new = [path for path, entry in installed.pinned.items() if known.get(path) != entry.sha256]
        if new and installed.origin.kind == "hub":
            click.echo(
                f"  SHA-256 of {len(new)} files: the hub's word at commit {installed.origin.commit[:12]}, trusted this"
                " time and pinned from now on"
            )
        elif new:
            click.echo(f"  SHA-256 of {len(new)} files are pinned as they came from {installed.origin.where}")


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
