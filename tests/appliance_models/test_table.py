"""docs/models.md shows the catalogue as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance_models import catalogue
from appliance_models.table import replaced, table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_the_documentation_shows_the_catalogue_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    made = replaced(text, table(catalogue.load_all().values()))
    assert text == made, "run python -m appliance_models.table docs/models.md"


def test_what_is_unknown_is_a_dash() -> None:
    lines = table(catalogue.load_all().values()).splitlines()
    row = next(line for line in lines if line.startswith("| `sarvam-m` "))
    assert row == "| `sarvam-m` | chat | vllm | `sarvamai/sarvam-m` | Apache-2.0 | – | – | 32,768 | 11 |"


def test_a_file_without_markers_is_refused() -> None:
    with pytest.raises(ValueError):
        replaced("# Models", "| |")
