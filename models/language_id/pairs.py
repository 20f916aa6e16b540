"""What the learned transliterator is trained on: ``python pairs.py DATA OUT.tsv``, from the parallel data's Indic side.

What it is: lines of tag, synthetic romanised text, native text, and the native text again as the key that decides
between training and test, so that the ways of typing one text never part. Some texts get English words, alike on both
sides: customers mix them in, and the transliterator is to leave them as they are. The seeds' everyday phrases are
repeated, because user interfaces never say *my order* or *when will it come*.
What it refuses to be: real. Nobody typed the Latin letters; a hand-written set tests what that is worth.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from pathlib import Path

from corpus import rows, seeds, written_in
from romanise import romanised

# those whose unwritten vowels romanise.py knows
TAGS = ("hin_Deva", "mar_Deva", "ben_Beng", "tam_Taml", "tel_Telu", "kan_Knda", "mal_Mlym")
WAYS, SEED_WAYS, MIXED = 3, 30, 0.3
_ENGLISH = re.compile(r"[a-z]{4,}")
_COMMON = 20


def with_english(latin: str, native: str, words: list[str], rng: random.Random) -> tuple[str, str]:
    """One or two English words at the same places of both sides."""
    left, right = latin.split(" "), native.split(" ")
    for _ in range(rng.choice((1, 1, 2))):
        at, word = rng.randrange(len(right) + 1), rng.choice(words)
        left.insert(at, word)
        right.insert(at, word)
    return " ".join(left), " ".join(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=20261126)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    natives: dict[tuple[str, str], int] = {}
    english: Counter[str] = Counter()
    for tag, text, indic in rows(options.data):
        english.update(_ENGLISH.findall(text))
        if tag in TAGS and len(indic) <= 120 and written_in(indic, tag[4:]) and not re.search("[A-Za-z]", indic):
            natives[tag, indic] = WAYS
    for (script, tag), phrases in seeds().items():
        if tag in TAGS and script == tag[4:]:
            natives.update(((tag, phrase), SEED_WAYS) for phrase in phrases)
    words = sorted(word for word, count in english.items() if count >= _COMMON)
    with options.out.open("w", encoding="utf-8") as file:
        for (tag, native), ways in natives.items():
            for latin in {romanised(native, tag, rng) for _ in range(ways)}:
                latin = " ".join(latin.split())
                if len(latin.split(" ")) == len(native.split(" ")) and rng.random() < MIXED:
                    latin, text = with_english(latin, native, words, rng)
                else:
                    text = native
                file.write(f"{tag}\t{latin}\t{text}\t{native}\n")


if __name__ == "__main__":
    main()
