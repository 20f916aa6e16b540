"""A model that is not whole never reaches an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.supervisor.instance import build_command
from appliance.supervisor.models import check_kind, model_arguments, model_directory, on_torch
from appliance_models import catalogue, manifest

MODEL = "whisper-base"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, run=tmp_path / "run")


@pytest.fixture
def installed(settings: Settings) -> Path:
    """As the store leaves it: files, and a manifest of this catalogue's recipe."""
    directory = settings.models_dir / MODEL
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.bin").write_bytes(b"weights")
    manifest.write(manifest.describe(catalogue.load(MODEL), directory), directory)
    return directory


def test_whole(settings: Settings, installed: Path) -> None:
    assert model_directory(settings, MODEL) == installed


@pytest.mark.parametrize("damaged", ["model.bin", "manifest.json"])
def test_truncated(settings: Settings, installed: Path, damaged: str) -> None:
    (installed / damaged).write_bytes(b"w")
    with pytest.raises(CannotStart, match=r"is not there in full: .*appliance models pull whisper-base") as refused:
        model_directory(settings, MODEL)
    assert refused.value.code == Exit.MODEL_MISSING


def test_absent(settings: Settings) -> None:
    with pytest.raises(CannotStart, match=r"'whisper-base' is not there: .*appliance models pull"):
        model_directory(settings, MODEL)


@pytest.mark.parametrize("model", ["../outside", "/etc", "a/../../outside"])
def test_a_name_that_leads_out_of_the_store_is_refused(settings: Settings, model: str) -> None:
    (settings.home / "outside").mkdir()
    (settings.home / "outside" / "config.json").write_text("{}")
    with pytest.raises(CannotStart, match="leads out of"):
        model_directory(settings, model)


def test_a_directory_of_the_operators_own_needs_no_manifest(settings: Settings) -> None:
    own = settings.models_dir / "our-own"
    own.mkdir(parents=True)
    with pytest.raises(CannotStart):
        model_directory(settings, "our-own")
    (own / "config.json").write_text("{}")
    assert model_directory(settings, "our-own") == own


def test_a_licence_nobody_accepted_keeps_an_engine_from_starting(settings: Settings) -> None:
    with pytest.raises(CannotStart, match=r"under LicenseRef-Gemma.*appliance models accept gemma-3-1b-it") as refused:
        model_directory(settings, "gemma-3-1b-it")
    assert refused.value.code == Exit.MODEL_MISSING


def test_a_file_that_changed_since_it_was_hashed(settings: Settings, installed: Path) -> None:
    (installed / "model.bin").write_bytes(b"wrights")
    with pytest.raises(CannotStart, match=r"model\.bin changed since it was checked"):
        model_directory(settings, MODEL)


@pytest.mark.parametrize(
    ("kind", "model", "serves"),
    [
        ("vllm", MODEL, "whisper"),
        ("whisper", "qwen3-8b", "vllm"),
        ("vllm", "indictrans2-en-indic-1b", "translate"),
        ("whisper", "indic-conformer-600m-multilingual", "conformer"),
    ],
)
def test_a_kind_that_does_not_serve_the_model_is_refused_in_one_sentence(
    settings: Settings, installed: Path, kind: str, model: str, serves: str
) -> None:
    engine = EngineSettings.model_validate({"kind": kind, "model": model})
    with pytest.raises(CannotStart) as refused:
        build_command(settings, "e", engine, {})
    assert str(refused.value).startswith(f'model {model!r} is served by kind = "{serves}" and not by "{kind}"; change')
    assert refused.value.code == Exit.BAD_ARGUMENTS


def test_a_model_of_the_operators_own_goes_with_any_kind(settings: Settings) -> None:
    check_kind(settings, EngineSettings(kind="vllm", model="our-own"))


def test_the_catalogue_names_arguments(settings: Settings) -> None:
    assert model_arguments(settings, "qwen3-8b") == ("--default-chat-template-kwargs", '{"enable_thinking": false}')
    assert model_arguments(settings, "our-own") == ()


def test_the_catalogue_has_pytorch_run_a_translation_model(settings: Settings) -> None:
    """By an entry of the operator's own; its recipe is the shipped one's, so nothing has to be pulled again."""
    name = "indictrans2-embedded"
    shipped = catalogue.CATALOGUE / f"{name}.toml"
    directory = settings.models_dir / name
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    manifest.write(manifest.describe(catalogue.load(name), directory), directory)
    engine = EngineSettings.model_validate({"kind": "translate", "task": "translate", "model": name})
    assert not on_torch(settings, name)
    assert "--torch" not in build_command(settings, "t", engine, {}).argv
    own = shipped.read_text().replace('engine = "indictrans2"', 'engine = "torch-cuda"\nreplaces_shipped = true')
    (settings.models_dir / f"{name}.toml").write_text(own)
    assert on_torch(settings, name)
    argv = build_command(settings, "t", engine, {}).argv
    assert argv[argv.index("--torch") + 1] == name and f"{name}={directory}" in argv
    with pytest.raises(CannotStart, match='served by kind = "translate"'):
        build_command(settings, "t", EngineSettings(kind="vllm", model=name), {})
