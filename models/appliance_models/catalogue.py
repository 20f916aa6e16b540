"""One TOML a model: what it is for, under which licence, and exactly which bytes it is made of.

What it is: ``load`` and ``load_all`` turn ``catalogue/*.toml`` and an operator's own ``APPLIANCE_HOME/models/*.toml``
into ``entry.Model`` values, checked in full: an unknown key, a bad hash, a path that leaves its directory or a part
of an unnamed wheel is an error that names the file, the place and, for a key, the nearest known one.
What it refuses to be: a place where one entry silently hides another. An entry of the operator's own that takes a
shipped name has to say ``replaces_shipped = true``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance_models.entry import Convert, File, Hub, Local, Memory, Model, Part, Wheel
from appliance_models.errors import StoreError

CATALOGUE = Path(__file__).parent / "catalogue"

# where in an entry msgspec says an unknown key stands -> the keys that are known there
_TABLES: dict[str, type[Struct]] = {
    "": Model,
    ".hub": Hub,
    ".local": Local,
    ".memory": Memory,
    ".convert": Convert,
    ".wheels[...]": Wheel,
    ".files[...]": File,
    ".files[...].parts[...]": Part,
}
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$(?P<table>[^`]*)`)?")
_PLACE = re.compile(r"at `\$[^`]*?(?P<key>[A-Za-z_]+)(?:\[[^`\]]*\])*`")


def read(path: Path) -> Model:
    """One catalogue file. Raises StoreError naming the file and the place of what is wrong."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        model = msgspec.convert(tomllib.loads(text), Model)
    except msgspec.ValidationError as e:
        raise StoreError(f"the catalogue file {path} cannot be used: {_explained(str(e), text)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise StoreError(f"the catalogue file {path} cannot be used: {e}") from None
    if model.name != path.stem:
        raise StoreError(f"the catalogue file {path} names {model.name!r}; rename one after the other")
    return model


def load_all(directory: Path = CATALOGUE, own: Path | None = None) -> dict[str, Model]:
    """Every entry by name, in alphabetical order: those of ``directory`` and the operator's ``own``."""
    return {name: load(name, directory, own) for name in sorted(names(directory, own))}


def load(name: str, directory: Path = CATALOGUE, own: Path | None = None) -> Model:
    """One entry. Raises StoreError that lists the known ones (and the nearest) for an unknown name."""
    shipped, owned = _names(directory), _names(own)
    if own is not None and name in owned:
        model = read(own / f"{name}.toml")
        if name in shipped and not model.replaces_shipped:
            raise StoreError(
                f"{own / name}.toml has the name of a shipped entry; rename it, or add replaces_shipped = true to it"
            )
        return model
    if name in shipped:
        return read(directory / f"{name}.toml")
    known = sorted(shipped | owned)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    raise StoreError(f"the catalogue has no model {name!r}; {hint}")


def names(directory: Path = CATALOGUE, own: Path | None = None) -> set[str]:
    """The names of all entries, without reading them."""
    return _names(directory) | _names(own)


def _names(directory: Path | None) -> set[str]:
    """Hidden files are an editor's, not ours."""
    found = directory.glob("*.toml") if directory is not None else ()
    return {path.stem for path in found if not path.name.startswith(".")}


def _explained(said: str, text: str) -> str:
    """What msgspec said, with the line of the key and, for an unknown one, the nearest that is known."""
    unknown = _UNKNOWN_KEY.search(said)
    if unknown is None:
        place = _PLACE.search(said)
        return said + (_line(place["key"], text) if place else "")
    table = re.sub(r"\[[^\]]*\]", "[...]", unknown["table"] or "")
    known = _TABLES.get(table, Model).__struct_fields__
    near = difflib.get_close_matches(unknown["key"], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"{said}{_line(unknown['key'], text)}; {hint}"


def _line(key: str, text: str) -> str:
    """Where ``key`` is set, when it is set in one line only."""
    is_set = re.compile(rf"""^\s*\[+\s*{re.escape(key)}\s*\]|(?:^|[{{,])\s*["']?{re.escape(key)}["']?\s*=""")
    lines = [n for n, line in enumerate(text.splitlines(), 1) if is_set.search(line)]
    return f" (line {lines[0]})" if len(lines) == 1 else ""
