"""The check digits of Indian and card numbers: Verhoeff (Aadhaar), Luhn (cards), base 36 (GSTIN).

What it refuses to be: evidence by itself. One random number in ten passes Verhoeff or Luhn.
"""

from __future__ import annotations

# The dihedral group of ten elements, and the permutation by position (Verhoeff 1969).
_MULTIPLY = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_FIRST = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _permutations() -> tuple[tuple[int, ...], ...]:
    rows = [tuple(range(10))]
    for _ in range(7):
        rows.append(tuple(_FIRST[digit] for digit in rows[-1]))
    return tuple(rows)


_PERMUTE = _permutations()
_BASE36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def verhoeff(digits: str) -> bool:
    """Whether ASCII ``digits`` end in their Verhoeff check digit."""
    state = 0
    for position, digit in enumerate(reversed(digits)):
        state = _MULTIPLY[state][_PERMUTE[position % 8][int(digit)]]
    return state == 0


def luhn(digits: str) -> bool:
    """Whether ASCII ``digits`` end in their Luhn check digit (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def gstin(number: str) -> bool:
    """Whether the fifteenth character of an upper-case GSTIN is the check character of the first fourteen."""
    total = 0
    for position, character in enumerate(number[:14]):
        value = _BASE36.index(character) * (1 + position % 2)
        total += value // 36 + value % 36
    return _BASE36[-total % 36] == number[14]
