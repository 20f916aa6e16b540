"""``appliance reload``: what of appliance.toml a running gateway takes on, and what it cannot.

What it is: the difference between two settings, name by name. Limits, time-outs, aliases, networks of the site and
the engines' list are taken on at once; requests under way keep the limits they began with.
What it refuses to be: partial in silence. What needs a restart is named, and a file with a mistake changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from appliance.api.service import Service
from appliance.engines.registry import check_attached
from appliance.settings import Settings, load_settings

# where it listens, and what the ledger and its months were opened with
_NEEDS_RESTART = ("server.host", "server.port", "site.timezone", "ledger")
_SECTIONS = ("server", "site")


def changed(old: Settings, new: Settings) -> list[str]:
    """The names of everything that differs: ``server.drain_s``, ``engines.chat``, ``aliases``."""
    names = []
    for field in type(old).model_fields:
        before, after = getattr(old, field), getattr(new, field)
        if field in ("home", "run") or before == after:
            continue
        if field in _SECTIONS:
            names += [f"{field}.{name}" for name in _differing(before, after)]
        elif field == "engines":
            names += [f"engines.{name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        else:
            names.append(field)
    return names


def _differing(before: BaseModel, after: BaseModel) -> list[str]:
    return [name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)]


def kept(old: Settings, new: Settings) -> Settings:
    """``new`` with what needs a restart as it was."""
    server = new.server.model_copy(update={"host": old.server.host, "port": old.server.port})
    site = new.site.model_copy(update={"timezone": old.site.timezone})
    return new.model_copy(update={"server": server, "site": site, "ledger": old.ledger})


def reload(service: Service, environ: Mapping[str, str]) -> dict[str, Any]:
    """Take on the file as it is now: ``applied`` and ``needs_restart``, names each. Raises SettingsError."""
    old = service.settings
    new = load_settings(environ)
    check_attached(new)
    names = changed(old, new)
    service.take_settings(kept(old, new))
    needs = [name for name in names if name in _NEEDS_RESTART]
    return {"applied": [name for name in names if name not in needs], "needs_restart": needs}
