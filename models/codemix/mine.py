"""``make codemix``: English words in Indian scripts, found in parallel text, for ``mode=codemix``.

What it is: for each language, the words that sound like an English word and stand for it nearly wherever they occur:
the consonants of the word in Latin letters are those of an English word in the same line, and at least ``SURE`` of the
word's lines hold that English word. Written to ``appliance/codemix/words.json``.
What it refuses to be: a transliterator. A word that is not in the list stays as it is, and so does one with an ending.
The text is LibreOffice's translations (MPL-2.0), so the words are those of screens and offices.
Cost: 15 s and 300 MB.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.languages import LANGUAGES, script_of
from appliance.transliterate import transliterate

LEAST, SURE = 3, 0.6
_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u0dff\u200c\u200d]+)?")
_ENGLISH = re.compile(r"(?<![A-Za-z])[a-z]{3,}(?![A-Za-z])")
_OUT = Path(__file__).resolve().parents[2] / "appliance" / "codemix" / "words.json"
# Words of Indian languages that sound like the English ones they translate: cousins (नाम, नव, इतर) and accidents.
_COUSINS = frozenset(
    {"name", "true", "time", "new", "other", "state", "invalid", "preview", "binding", "activate", "decimal", "only"}
)
_HEARD = (
    ("ph", "f"), ("sh", "s"), ("tch", "c"), ("ch", "c"), ("th", "t"), ("dh", "d"), ("kh", "k"), ("gh", "g"),
    ("bh", "b"), ("jh", "j"), ("ck", "k"), ("qu", "kv"), ("x", "ks"), ("w", "v"), ("z", "j"),
)  # fmt: skip
_SPELLED = ((r"(?:t|c|s)i(?=on|al)", "s"), (r"c(?=[eiy])", "s"), (r"g(?=[ey])", "j"), (r"q", "k"))


def bones(word: str, english: bool) -> str:
    """The consonants as they are heard, whoever wrote them down."""
    heard = word.lower()
    if english:
        for pattern, sound in (*_SPELLED, (r"c(?!h)", "k")):
            heard = re.sub(pattern, sound, heard)
    for letters, sound in _HEARD:
        heard = heard.replace(letters, sound)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"[aeiouyh]", "", heard))


def alike(a: str, b: str) -> bool:
    """Equal, or one letter off inside where there are at least five."""
    if a == b:
        return len(a) >= 2
    if min(len(a), len(b)) < 5 or abs(len(a) - len(b)) > 1 or a[-1] != b[-1]:
        return False
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[at + 1 :] == b[at + 1 :] or a[at:] == b[at + 1 :] or a[at + 1 :] == b[at:]


def stands_for(latin: str, english: str) -> bool:
    """Whether ``latin``, a word of an Indian language in Latin letters, is ``english`` as it is pronounced there."""
    if english in _COUSINS or not latin:
        return False
    vowels = "aeiouy"
    begins = (latin[0] in vowels) == (english[0] in vowels)
    sounded = re.sub(r"(?<=[^aeiou])e$", "", english)  # file ends in a consonant; fail-e is the word with an ending
    ends = latin[-1] not in vowels or sounded[-1] in vowels + "rw"
    return begins and ends and alike(bones(latin, False), bones(english, True))


def romanised(word: str, tag: str) -> str:
    """``word`` in Latin letters, "" where no rules lead there."""
    try:
        return transliterate(word, tag=tag, source=script_of(tag), target="Latn", scheme="informal").lower()
    except ApplianceError:
        return ""


def main() -> None:
    """Read the parallel text that the command line names; write the list."""
    tags = {tag for language in LANGUAGES for tag in language.tags if not tag.endswith(("Arab", "Latn"))}
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    usual: Counter[str] = Counter()  # as written: names of countries and people are never in small letters
    beside: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    with lzma.open(sys.argv[1], "rt", encoding="utf-8") as lines:
        for line in lines:
            tag, english, native = line.rstrip("\n").split("\t")[:3]
            if tag not in tags:
                continue
            usual.update(set(_ENGLISH.findall(english)))
            words = set(_ENGLISH.findall(english.lower()))
            for word in set(_WORD.findall(native)):
                if len(word) >= 3 and not word.isascii():
                    seen[tag][word] += 1
                    beside[tag][word].update(words)
    kept: dict[str, dict[str, str]] = {}
    for tag, counts in sorted(seen.items()):
        found = {}
        for word, count in counts.items():
            if count < LEAST:
                continue
            near = [e for e, together in beside[tag][word].most_common(4) if together >= SURE * count]
            if near and (latin := romanised(word, tag)):
                english = next((e for e in near if usual[e] >= LEAST and stands_for(latin, e)), None)
                if english is not None:
                    found[word] = english
        if found:
            kept[tag] = dict(sorted(found.items()))
        print(tag, len(counts), len(found), file=sys.stderr)
    _OUT.write_text(json.dumps(kept, ensure_ascii=False, separators=(",", ":"), indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
