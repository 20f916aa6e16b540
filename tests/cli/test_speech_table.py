"""docs/speech.md is what the command writes, and claims nothing nobody measured."""

from __future__ import annotations

from pathlib import Path

from appliance.cli.speech_table import table

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_document_is_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "speech.md").read_text(encoding="utf-8") == table(), "run `make speech-doc`"


def test_22_languages_and_english_have_a_row() -> None:
    rows = [line for line in table().splitlines() if line.startswith("| ") and "| `" in line and "`mode`" not in line]
    rows = [row for row in rows if row.count("|") == 7]
    assert len(rows) == 23
    assert sum("| `indic-conformer-600m-multilingual` | `whisper-base` |" in row for row in rows) == 14
    assert sum("| `indic-conformer-600m-multilingual` | – |" in row for row in rows) == 8
    assert sum("WER" in row for row in rows) == 1
