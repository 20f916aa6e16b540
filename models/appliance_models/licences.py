"""Who agreed to which licence, and when: ``licences.json`` beside the models.

What it is: a record for each model whose licence has to be accepted before it may be pulled or served.
What it refuses to be: forgiving. A licence that changed in the catalogue has to be accepted again.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance_models.entry import Model
from appliance_models.errors import NotAccepted, StoreError

_FILE = "licences.json"


class Acceptance(Struct, frozen=True):
    """``who`` agreed to ``licence`` (its text at ``url``) for ``model``; ``at`` is ISO 8601 in UTC."""

    model: str
    licence: str
    url: str
    who: str
    at: str


def read(models_dir: Path) -> tuple[Acceptance, ...]:
    """All records, oldest first. Raises StoreError for a file that cannot be read: nothing is then accepted."""
    path = models_dir / _FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Acceptance, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise StoreError(f"{path} cannot be read ({e}); mend it, or move it away and accept again") from None


def of(models_dir: Path, model: Model) -> Acceptance | None:
    """The record that covers ``model`` as the catalogue has it now."""
    now = (model.name, model.licence, model.licence_url)
    return next((a for a in reversed(read(models_dir)) if (a.model, a.licence, a.url) == now), None)


def accept(models_dir: Path, model: Model, who: str, at: str) -> Acceptance:
    """Add a record, durably."""
    acceptance = Acceptance(model.name, model.licence, model.licence_url or "", who, at)
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / ".licences.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = msgspec.json.encode((*read(models_dir), acceptance))
        part = models_dir / f".{_FILE}.part"
        with part.open("wb") as out:
            out.write(msgspec.json.format(records, indent=2) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        part.replace(models_dir / _FILE)
    return acceptance


def require(models_dir: Path, model: Model) -> None:
    """Raise NotAccepted when the licence of ``model`` has to be accepted and was not."""
    if model.must_accept and of(models_dir, model) is None:
        raise NotAccepted(
            f"{model.name} is under {model.licence}, which somebody has to accept first; read {model.licence_url}"
            f" and run `appliance models accept {model.name}`"
        )
