"""How the appliance's own hosts are started: speech-to-text, translation, hosted models, and the fake engine of tests.

What it is: pure functions from settings to an ``EngineCommand``.
What it refuses to be: an importer of what it starts (CTranslate2 and torch stay out of the supervisor).
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path

import appliance
from appliance.settings import Settings
from appliance.supervisor.command import EngineCommand
from appliance.supervisor.granted import visible_gpus
from appliance.supervisor.models import model_arguments, on_torch


def whisper_command(settings: Settings, name: str, model_dir: Path, environ: Mapping[str, str]) -> EngineCommand:
    """The Whisper host over the CTranslate2 directory ``model_dir``."""
    return _speech("appliance.hosts.whisper", settings, name, model_dir, environ)


def conformer_command(settings: Settings, name: str, model_dir: Path, environ: Mapping[str, str]) -> EngineCommand:
    """The IndicConformer host over the published files in ``model_dir``."""
    return _speech("appliance.hosts.conformer", settings, name, model_dir, environ)


def _speech(module: str, settings: Settings, name: str, model_dir: Path, environ: Mapping[str, str]) -> EngineCommand:
    engine = settings.engines[name]
    arguments = [
        *("--socket", str(settings.engine_socket(name))),
        *("--model-dir", str(model_dir)),
        *("--model-name", str(engine.model)),
        *("--max-audio-bytes", str(settings.server.max_audio_bytes)),
    ]
    if engine.threads:
        arguments += ["--threads", str(engine.threads)]
    given = model_arguments(settings, str(engine.model))
    seen = {**environ, **visible_gpus(engine)}
    return _host(module, settings, name, [*arguments, *given, *engine.extra_args], seen)


def translate_command(
    settings: Settings, name: str, models: Mapping[str, Path], environ: Mapping[str, str]
) -> EngineCommand:
    """The translation host over the directories of ``models``, the first of which leads."""
    engine = settings.engines[name]
    arguments = ["--socket", str(settings.engine_socket(name))]
    for model, directory in models.items():
        arguments += ["--model", f"{model}={directory}"]
        if on_torch(settings, model):
            arguments += ["--torch", model]
    if engine.threads:
        arguments += ["--threads", str(engine.threads)]
    for model in models:
        arguments += model_arguments(settings, model)
    seen = {**environ, **visible_gpus(engine)}
    return _host("appliance.hosts.translate", settings, name, [*arguments, *engine.extra_args], seen)


def hosted_command(settings: Settings, name: str, environ: Mapping[str, str]) -> EngineCommand:
    """The hosted process. It reads its settings and its key by itself: neither is anything for a command line."""
    arguments = ["--engine", name, "--socket", str(settings.engine_socket(name))]
    arguments += ["--drain-s", f"{settings.server.drain_s:g}"]
    home = {"APPLIANCE_HOME": str(settings.home), "APPLIANCE_RUN": str(settings.run)}
    return _host("appliance.hosts.hosted", settings, name, arguments, {**environ, **home})


def fake_command(settings: Settings, name: str, environ: Mapping[str, str]) -> EngineCommand:
    """The fake engine; its faults and pace come through ``extra_args``."""
    engine = settings.engines[name]
    arguments = ["--socket", str(settings.engine_socket(name))]
    for model in engine.models or ((engine.model,) if engine.model else ()):
        arguments += ["--model", model]
    return _host("appliance.hosts.fake", settings, name, [*arguments, *engine.extra_args], environ)


def _host(
    module: str, settings: Settings, name: str, arguments: list[str], environ: Mapping[str, str]
) -> EngineCommand:
    own = settings.cache_dir / name
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "TMPDIR": str(own / "tmp")}
    return EngineCommand(
        argv=(sys.executable, "-m", module, *arguments),
        env={**environ, **offline, **_source_path(environ)},
        cwd=own / "cwd",
        tmp=own / "tmp",
    )


def _source_path(environ: Mapping[str, str]) -> dict[str, str]:
    """The engine's working directory is its own, so a source tree that is not installed has to be named."""
    try:
        importlib.metadata.version("inference-appliance")
    except importlib.metadata.PackageNotFoundError:
        source = str(Path(appliance.__file__).parent.parent)
        return {"PYTHONPATH": ":".join(filter(None, (source, environ.get("PYTHONPATH"))))}
    return {}
