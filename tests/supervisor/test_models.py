"""A model that is not whole never reaches an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.supervisor.models import model_directory
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
    with pytest.raises(CannotStart, match=r"is not there in full: .*appliance_models ensure whisper-base") as refused:
        model_directory(settings, MODEL)
    assert refused.value.code == Exit.MODEL_MISSING


def test_absent(settings: Settings) -> None:
    with pytest.raises(CannotStart, match=r"'whisper-base' is not there: .*make models"):
        model_directory(settings, MODEL)


def test_a_directory_of_the_operators_own_needs_no_manifest(settings: Settings) -> None:
    own = settings.models_dir / "our-own"
    own.mkdir(parents=True)
    with pytest.raises(CannotStart):
        model_directory(settings, "our-own")
    (own / "config.json").write_text("{}")
    assert model_directory(settings, "our-own") == own
