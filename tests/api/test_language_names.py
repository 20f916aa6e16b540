"""Names of languages against Whisper's own list."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from appliance.api.language_names import language_name


def test_names() -> None:
    assert language_name("hi") == "hindi"
    assert language_name("ht") == "haitian creole"
    assert language_name("english") == "english"
    assert language_name(None) == ""


def test_every_language_of_whisper_has_its_name() -> None:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("transformers is not installed")
    path = Path(spec.submodule_search_locations[0], "models/whisper/tokenization_whisper.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LANGUAGES":
            languages: dict[str, str] = ast.literal_eval(node.value)
    assert len(languages) > 90
    assert {code: language_name(code) for code in languages} == languages
