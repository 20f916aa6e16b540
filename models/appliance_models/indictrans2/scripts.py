"""Brahmic scripts to Devanagari and back, the way IndicTrans2 unifies them: by position in the Unicode block.

What it is: one translation table a direction and script, built at import.
``to_devanagari`` is IndicNLP's offset mapping to the letter, because the published weights were trained on it.
``from_devanagari`` differs where that mapping yields code points that do not exist or letters that nobody writes: a
letter that the target script lacks becomes its nearest relative, and Odia gets its own ya and wa.
What it refuses to be: a phonetic transliterator. Perso-Arabic, Ol Chiki, Meetei Mayek and Latin pass unchanged.
What it costs: about 1 µs a sentence.
"""

from __future__ import annotations

import unicodedata

from appliance_models.indictrans2.tags import TAGS, Tag

DEVANAGARI = 0x0900
# Offsets up to here are laid out alike in every block; dandas are shared by all scripts and stay.
_LAST = 0x6F
_DANDAS = (0x64, 0x65)
# Where a script lacks the letter at an offset, what comes nearest, tried in turn. Two offsets stand for a sequence.
_NEAREST: dict[int, tuple[int, ...]] = {
    0x00: (0x01,), 0x01: (0x02,), 0x04: (0x0F,), 0x0B: (0x30, 0x3F), 0x0C: (0x32, 0x3F), 0x0D: (0x0F,), 0x0E: (0x0F,),
    0x11: (0x13,), 0x12: (0x13,), 0x29: (0x28,), 0x31: (0x30,), 0x33: (0x32,), 0x34: (0x33,), 0x35: (0x2C,),
    0x36: (0x37,), 0x37: (0x38,), 0x3A: (0x4C,), 0x3B: (0x3E,), 0x43: (0x4D, 0x30, 0x41), 0x44: (0x43,),
    0x45: (0x47,), 0x46: (0x47,), 0x49: (0x4B,), 0x4A: (0x4B,), 0x4E: (0x47,), 0x4F: (0x4C,),
    0x55: (0x47,), 0x56: (0x41,), 0x57: (0x42,),
    0x58: (0x15, 0x3C), 0x59: (0x16, 0x3C), 0x5A: (0x17, 0x3C), 0x5B: (0x1C, 0x3C), 0x5C: (0x21, 0x3C),
    0x5D: (0x22, 0x3C), 0x5E: (0x2B, 0x3C), 0x5F: (0x2F, 0x3C), 0x60: (0x0B,), 0x61: (0x0C,), 0x62: (0x43,),
    0x63: (0x43,), 0x03: (0x02,), 0x3C: (), 0x3D: (),
}  # fmt: skip


def _letter(base: int, offset: int) -> str:
    """The script's character at ``offset``, its nearest relative, or Devanagari's own where it has none."""
    if unicodedata.name(chr(base + offset), ""):
        return chr(base + offset)
    nearest = _NEAREST.get(offset)
    if nearest is None:
        return chr(DEVANAGARI + offset)
    return "".join(_letter(base, o) for o in nearest)


def _tamil(offset: int) -> int:
    """Tamil writes one letter for the four stops of a row (ja apart), and ssa for sha."""
    if 0x15 <= offset <= 0x28 and offset != 0x1C and (offset - 0x15) % 5 != 4:
        return offset - (offset - 0x15) % 5
    return {0x2B: 0x2A, 0x2C: 0x2A, 0x2D: 0x2A, 0x36: 0x37}.get(offset, offset)


def _out_table(tag: Tag, base: int) -> dict[int, str]:
    table = {}
    for offset in range(_LAST + 1):
        if offset in _DANDAS:
            continue
        table[DEVANAGARI + offset] = _letter(base, _tamil(offset) if tag.script == "Taml" else offset)
    if tag.script == "Orya":
        table[0x0935] = "ୱ"  # ଵ (U+0B35) is in the block but not in use
    return table


def _in_table(tag: Tag, base: int) -> dict[int, str]:
    table = {base + o: chr(DEVANAGARI + o) for o in range(_LAST + 1) if o not in _DANDAS}
    if tag.script == "Orya":
        table[0x0B71] = "व"  # beyond the common range, so IndicNLP leaves it
    return table


_UNIFIED = {name: tag.base for name, tag in TAGS.items() if tag.base not in (None, DEVANAGARI)}
_IN = {name: _in_table(TAGS[name], base) for name, base in _UNIFIED.items() if base is not None}
_OUT = {name: _out_table(TAGS[name], base) for name, base in _UNIFIED.items() if base is not None}


def to_devanagari(text: str, tag: Tag) -> str:
    """``text`` of ``tag`` as the model reads it."""
    table = _IN.get(tag.name)
    return text if table is None else text.translate(table)


def from_devanagari(text: str, tag: Tag) -> str:
    """The model's ``text`` in the script of ``tag``."""
    table = _OUT.get(tag.name)
    if table is None:
        return text
    text = text.translate(table)
    return text.replace("ଯ଼", "ୟ") if tag.script == "Orya" else text
