"""A checkpoint in the official layout, pulled by the store: converted, verified, and translating in the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.hosts.translate_model import Direction, Line, directions_in
from appliance_models import catalogue, manifest
from appliance_models.errors import StoreError
from appliance_models.store import Store, servable

_ENTRY = """
name = "{name}"
title = "Generated"
task = "translate"
engine = "indictrans2"
licence = "MIT"
languages = ["eng_Latn", "hin_Deva"]

[local]
path = "{path}"
include = ["config.json", "model.safetensors", "dict.SRC.json", "dict.TGT.json", "model.SRC", "model.TGT"]

[convert]
kind = "indictrans2"
produces = ["model.bin", "config.json", "model.SRC", "model.TGT", "dict.SRC.json", "dict.TGT.json"]
"""


@pytest.fixture
def pulled(tmp_path: Path, make_checkpoint: Callable[..., Path]) -> tuple[Store, Path]:
    models = tmp_path / "models"
    models.mkdir()
    source = make_checkpoint()
    (models / "mine-en-indic.toml").write_text(_ENTRY.format(name="mine-en-indic", path=source))
    return Store(models), source


def test_a_pull_converts_and_the_host_translates(pulled: tuple[Store, Path]) -> None:
    store, _ = pulled
    directory = store.ensure(catalogue.load("mine-en-indic", own=store.models_dir))
    assert servable(store.models_dir, "mine-en-indic") == directory
    assert not (directory / "model.safetensors").exists()  # what it was made of is pinned, not kept
    (way, path), *others = directions_in("mine-en-indic", directory).items()
    assert (way, others) == ("en-indic", [])
    direction = Direction(path, way, "mine-en-indic")
    (written,) = direction.run([Line(direction.pieces("eng_Latn hin_Deva open file"))])
    assert written.read > 2 and 0.0 < written.probability <= 1.0


def test_what_was_converted_is_verified(pulled: tuple[Store, Path]) -> None:
    store, _ = pulled
    entry = catalogue.load("mine-en-indic", own=store.models_dir)
    directory = store.ensure(entry)
    data = bytearray((directory / "model.bin").read_bytes())
    data[-1] ^= 1
    (directory / "model.bin").write_bytes(data)
    assert store.verify(entry)
    with pytest.raises(StoreError, match="appliance models pull mine-en-indic"):
        servable(store.models_dir, "mine-en-indic")
    store.ensure(entry)
    assert store.verify(entry) == [] and manifest.touched(directory) == []


def test_half_a_checkpoint_is_one_sentence(pulled: tuple[Store, Path]) -> None:
    store, source = pulled
    (source / "config.json").write_text("{}")
    with pytest.raises(StoreError, match=r"conversion of mine-en-indic ended .*config\.json"):
        store.ensure(catalogue.load("mine-en-indic", own=store.models_dir))
    assert not (store.models_dir / "mine-en-indic").exists()
