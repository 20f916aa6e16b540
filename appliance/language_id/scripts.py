"""Which script a code point is written in.

What it is: one table over the basic plane, by Unicode block, of the thirteen scripts the appliance knows; everything
that is no letter is ``NONE``, letters and vowel signs of any other script are ``OTHER``.
What it refuses to be: the Unicode Scripts property. Danda, digits and punctuation are nobody's here, on purpose.
What it costs: 1 ms to build, once; then one look-up a character.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

NONE, OTHER = 0, 14
# by number; the first and the last name no script
SCRIPTS: tuple[str, ...] = (
    "", "Latn", "Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Arab", "Olck", "Mtei", "Zzzz",
)  # fmt: skip
_BLOCKS: tuple[tuple[str, int, int], ...] = (
    ("Latn", 0x0041, 0x0250), ("Latn", 0x1E00, 0x1F00), ("Deva", 0x0900, 0x0980), ("Deva", 0xA8E0, 0xA900),
    ("Beng", 0x0980, 0x0A00), ("Guru", 0x0A00, 0x0A80), ("Gujr", 0x0A80, 0x0B00), ("Orya", 0x0B00, 0x0B80),
    ("Taml", 0x0B80, 0x0C00), ("Telu", 0x0C00, 0x0C80), ("Knda", 0x0C80, 0x0D00), ("Mlym", 0x0D00, 0x0D80),
    ("Arab", 0x0600, 0x0700), ("Arab", 0x0750, 0x0780), ("Arab", 0x08A0, 0x0900), ("Arab", 0xFB50, 0xFE00),
    ("Arab", 0xFE70, 0xFEFF), ("Olck", 0x1C50, 0x1C80), ("Mtei", 0xABC0, 0xAC00), ("Mtei", 0xAAE0, 0xAB00),
)  # fmt: skip
# blocks of letters that the appliance does not know; what lies between them is punctuation, symbols and surrogates
_OTHERS: tuple[tuple[int, int], ...] = (
    (0x0250, 0x02B0), (0x0370, 0x0600), (0x0700, 0x0750), (0x0780, 0x08A0), (0x0D80, 0x1C50), (0x1C80, 0x1CD0),
    (0x1D00, 0x1DC0), (0x1F00, 0x2000), (0x2C00, 0x2DE0), (0x3040, 0xA8E0), (0xA900, 0xAAE0), (0xAB00, 0xABC0),
    (0xAC00, 0xD800), (0xF900, 0xFB50), (0xFF66, 0xFFDD),
)  # fmt: skip


def script_table() -> NDArray[np.uint8]:
    """65,536 numbers: indexes into ``SCRIPTS`` by UTF-16 unit. What lies past the basic plane is ``NONE``."""
    table = np.zeros(65536, dtype=np.uint8)
    for start, end in _OTHERS:
        table[start:end] = OTHER
    for name, start, end in _BLOCKS:
        number = SCRIPTS.index(name)
        for code in range(start, end):
            if unicodedata.category(chr(code))[0] in "LM":
                table[code] = number
    return table
