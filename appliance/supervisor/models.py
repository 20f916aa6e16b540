"""Where an engine's model lies, checked before anything is started.

What it is: the store's directory for a catalogue name, whole by its manifest (sizes; the store hashed every byte
when it put it there), or one sentence that says how to get it.
What it refuses to be: a downloader. Starting an engine never fetches anything.
"""

from __future__ import annotations

from pathlib import Path

from appliance.settings import Settings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit


def model_directory(settings: Settings, model: str) -> Path:
    """The directory of ``model``. Raises CannotStart when it is not there, or not in full."""
    directory = settings.models_dir / model
    if _whole(settings.models_dir, model, directory):
        return directory
    what = "is not there in full" if directory.exists() else "is not there"
    raise CannotStart(
        f"model {model!r} {what}: {directory}; run `make models`, or `python -m appliance_models ensure {model}`",
        Exit.MODEL_MISSING,
    )


def _whole(models_dir: Path, model: str, directory: Path) -> bool:
    try:
        from appliance_models import catalogue
        from appliance_models.store import Store
    except ModuleNotFoundError:  # a source tree of which only ./ is on the path; installed, both always are
        return (directory / "config.json").is_file()
    entry = catalogue.load_all().get(model)
    if entry is None:  # a directory that the operator put there
        return (directory / "config.json").is_file()
    return Store(models_dir).installed(entry)
