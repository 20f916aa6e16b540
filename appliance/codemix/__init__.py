"""Transcripts as people write who mix languages: English words in Latin letters inside another script.

What it is: a look-up of whole words in ``words.json``, which ``models/codemix/mine.py`` found in parallel text: the
English words of screens and offices as they are written in 20 scripts and languages.
What it refuses to be: a guesser. A word that is not in the list, or carries an ending, stays as it is.
What it costs: 110 kB, read when first asked for.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_WORD = re.compile(r"[^\W\d_][\w\u0900-\u0dff\u200c\u200d]*")
_NUKTA = "\u093c"


class NoWords(Exception):
    """No English words are known in this language's script."""


def codemix(text: str, tag: str) -> str:
    """``text`` of language ``tag`` with the English words that are known to be such. Raises NoWords."""
    known = _words().get(tag)
    if known is None:
        raise NoWords(f"no English words are known as {tag} writes them, so the transcript is as it was heard")
    return _WORD.sub(lambda found: known.get(_plain(found[0]), found[0]), text)


def _plain(word: str) -> str:
    """Decomposed, and without the dot that many leave out (फ़ाइल, फाइल)."""
    return unicodedata.normalize("NFD", word).replace(_NUKTA, "").replace("\u200c", "").replace("\u200d", "")


@cache
def _words() -> Mapping[str, Mapping[str, str]]:
    raw = json.loads((files(__name__) / "words.json").read_text(encoding="utf-8"))
    return {tag: {_plain(word): english for word, english in words.items()} for tag, words in raw.items()}
