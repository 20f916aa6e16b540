"""Where an engine's model lies, checked before anything is started.

What it is: the store's directory for a model it calls servable (whole, licence accepted, nothing changed since it was
hashed), or the store's one sentence that says how to get it; and the arguments the catalogue gives its engine.
What it refuses to be: a downloader. Starting an engine never fetches anything.
"""

from __future__ import annotations

from pathlib import Path

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit

# what the catalogue calls an engine -> the kind of appliance.toml that runs it
_KIND_OF = {
    "vllm": "vllm",
    "whisper": "whisper",
    "indictrans2": "translate",
    "torch-cuda": "translate",
    "indicconformer": "conformer",
}


def model_directory(settings: Settings, model: str) -> Path:
    """The directory of ``model``. Raises CannotStart when it may not be served."""
    if Path(model).is_absolute() or ".." in Path(model).parts:
        raise CannotStart(
            f"the model {model!r} leads out of {settings.models_dir}; name one that `appliance models list` shows",
            Exit.MODEL_MISSING,
        )
    directory = settings.models_dir / model
    try:
        from appliance_models.errors import StoreError
        from appliance_models.store import servable
    except ModuleNotFoundError:  # a source tree of which only ./ is on the path; installed, both always are
        if (directory / "config.json").is_file():
            return directory
        raise CannotStart(f"model {model!r} is not there: {directory}", Exit.MODEL_MISSING) from None
    try:
        return servable(settings.models_dir, model)
    except StoreError as e:
        raise CannotStart(str(e), Exit.MODEL_MISSING) from None


def check_kind(settings: Settings, engine: EngineSettings) -> None:
    """That the catalogue names ``engine``'s kind as what serves its model. Raises CannotStart.

    vLLM given a Whisper directory would load for a minute and end with a traceback.
    """
    try:
        from appliance_models.errors import StoreError
        from appliance_models.store import engine_of
    except ModuleNotFoundError:
        return
    try:
        serves = engine_of(settings.models_dir, str(engine.model))
    except StoreError as e:
        raise CannotStart(str(e), Exit.BAD_ARGUMENTS) from None
    kind = None if serves is None else _KIND_OF.get(serves)
    if kind is not None and engine.kind in _KIND_OF.values() and engine.kind != kind:
        raise CannotStart(
            f'model {engine.model!r} is served by kind = "{kind}" and not by "{engine.kind}"; change the kind or the'
            f" model in appliance.toml (`appliance models list` shows both)",
            Exit.BAD_ARGUMENTS,
        )


def on_torch(settings: Settings, model: str) -> bool:
    """Whether the catalogue has PyTorch run a translation model instead of CTranslate2."""
    try:
        from appliance_models.store import engine_of
    except ModuleNotFoundError:
        return False
    return engine_of(settings.models_dir, model) == "torch-cuda"


def model_arguments(settings: Settings, model: str) -> tuple[str, ...]:
    """What the catalogue starts the engine of ``model`` with, before the operator's own arguments."""
    try:
        from appliance_models.store import arguments
    except ModuleNotFoundError:
        return ()
    return arguments(settings.models_dir, model)


def model_languages(settings: Settings, model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags ``model`` speaks by the catalogue, and those it is preferred for; empty where nothing is known."""
    try:
        from appliance_models.errors import StoreError
        from appliance_models.store import languages
    except ModuleNotFoundError:
        return (), ()
    try:
        return languages(settings.models_dir, model)
    except StoreError:  # a catalogue that cannot be read was reported where it stops a start; this is a hint
        return (), ()
