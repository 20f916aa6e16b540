"""What became of an engine's last runs, and what its next run has to know: ``HOME/engines/NAME.json``.

What it is: the last 20 ends with their classes, the memory profile the engine has stepped down to, the model it was
swapped to, and whether somebody stopped it. ``appliance status`` shows it, ``engine run`` starts by it.
What it refuses to be: a log (that is ``logs/NAME.log``), or precious: deleted, the engine starts as configured.
What it costs: one small file, replaced at each end of a run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.files import replace_file

KEPT = 20


class Ending(Struct, frozen=True):
    """One run: when it began and ended (Unix seconds), its class (``Exit.word``), code, profile, and a sentence."""

    started_unix_s: float
    ended_unix_s: float
    what: str
    code: int
    model: str
    profile: int
    detail: str


class History(Struct, frozen=True):
    """``configured`` is a digest of the settings that ``profile`` and ``model`` belong to.

    ``model`` is empty where the configured one runs.
    """

    configured: str = ""
    profile: int = 0
    model: str = ""
    endings: tuple[Ending, ...] = ()

    def ended(self, ending: Ending) -> History:
        """With one more end."""
        return replace(self, endings=(*self.endings, ending)[-KEPT:])


_decoder = msgspec.json.Decoder(History)


def path_of(settings: Settings, name: str) -> Path:
    """Where the history of engine ``name`` lies."""
    return settings.home / "engines" / f"{name}.json"


def digest(engine: EngineSettings) -> str:
    """Changes when the engine's settings do."""
    return hashlib.sha256(engine.model_dump_json().encode()).hexdigest()[:16]


def read(settings: Settings, name: str) -> History:
    """The history of ``name``; profile and swapped model lapse when the operator has changed the engine's settings."""
    try:
        found = _decoder.decode(path_of(settings, name).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = History()
    engine = settings.engines.get(name)
    now = digest(engine) if engine is not None else ""
    return found if found.configured == now else History(configured=now, endings=found.endings)


def write(settings: Settings, name: str, history: History) -> bool:
    """Replace it in one step. False where the disk does not take it."""
    return replace_file(path_of(settings, name), msgspec.json.encode(history))
