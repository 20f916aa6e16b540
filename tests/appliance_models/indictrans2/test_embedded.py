"""The embedded models do what their card says: on held-out texts, and on what customers typed."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from appliance_models.indictrans2.training.evaluate import translate_texts
from appliance_models.indictrans2.training.export import ctranslate

ROOT = Path(__file__).resolve().parents[3]
EMBEDDED = ROOT / "models/appliance_models/embedded/indictrans2-embedded"
_EQUAL = ((r"न्दी", "ंदी"), ("यी$", "ई"), ("ये$", "ए"), ("येगा$", "एगा"), ("ँ", "ं"), ("लिये", "लिए"))


@pytest.mark.parametrize(
    ("way", "source", "target", "text", "wanted"),
    [
        ("en-indic", "eng_Latn", "hin_Deva", "Open file", "फ़ाइल खोलें"),
        ("en-indic", "eng_Latn", "tam_Taml", "Open file", "கோப்பைத் திற"),
        ("indic-en", "tam_Taml", "eng_Latn", "கோப்பைத் திற", "Open File"),
    ],
)
def test_it_translates_menus(way: str, source: str, target: str, text: str, wanted: str) -> None:
    assert translate_texts([text], source, target, ctranslate(EMBEDDED / way)) == [wanted]


def test_typed_hindi_comes_out_as_the_card_says() -> None:
    rows = (ROOT / "tests/data/transliterate/hindi.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [row.split("\t") for row in rows if not row.startswith("#")]
    out = translate_texts([typed for typed, _ in pairs], "eng_Latn", "hin_Deva", ctranslate(EMBEDDED / "latn-indic"))
    hindi, english = [], []
    for (_, wanted), got in zip(pairs, out, strict=True):
        words = list(zip(wanted.split(), got.split(), strict=True))
        hindi += [folded(a) == folded(b) for a, b in words if not a.isascii()]
        english += [a == b for a, b in words if a.isascii()]
    assert len(pairs) == 42 and sum(hindi) / len(hindi) > 0.8 and sum(english) / len(english) > 0.65


def folded(word: str) -> str:
    for a, b in _EQUAL:
        word = re.sub(a, b, word)
    return unicodedata.normalize("NFD", word).replace("\u093c", "")
