"""The prose of an answer: what is left of it without code, addresses, numbers and names; and the language of that.

What it is: ``prose(text)`` and ``wrong_language``, which says whether an answer came in another language or script than
its customer's. Code, JSON, links, product names and words that the customer used are nobody's language.
What it refuses to be: strict. Where too little is left, or ``language_id`` is not sure, nothing is wrong; Latin letters
are fine where the customer types them, and so is the language's own script.
What it costs: 0.1 to 0.2 ms for 200 characters; no more than 2,000 are looked at.
"""

from __future__ import annotations

import re

from appliance.language_id import Identified, identify
from appliance.languages import ENGLISH, LANGUAGES, TAGS, language_of, script_of

LONGEST = 2000
_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]{1,200}`")
_MARKUP = re.compile(
    r"<[^<>\n]{1,200}>|\{\{[^{}]{0,200}\}\}|https?://\S+|www\.\S+|\S+@\S+|(?<!\w)[\w.-]*[_/\\][\w./\\-]*"
)
_WORD = re.compile(r"[^\W_]+(?:['’\u200c\u200d\-][^\W_]+)*|[^\W\d_]", re.UNICODE)
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+")
# How many letters have to be left: to see the script; to tell English in Latin letters; to tell two languages that
# share a script, which is where language_id is wrong if it is.
_LEAST, _LEAST_LATIN, _LEAST_SHARED = 6, 16, 28
_SURE, _SURE_LATIN = 0.9, 0.9
_UNKNOWN = "und_Zzzz"
_NEAR = frozenset(
    frozenset(pair)
    for pair in (
        # written alike, and taken for each other in short texts
        ("hin_Deva", "doi_Deva"), ("hin_Deva", "mai_Deva"), ("hin_Deva", "san_Deva"), ("mar_Deva", "gom_Deva"),
        ("hin_Deva", "npi_Deva"), ("hin_Deva", "snd_Deva"), ("hin_Deva", "kas_Deva"), ("ben_Beng", "asm_Beng"),
        ("ben_Beng", "mni_Beng"), ("urd_Arab", "kas_Arab"), ("urd_Arab", "snd_Arab"), ("mai_Deva", "npi_Deva"),
        ("mai_Deva", "doi_Deva"), ("doi_Deva", "snd_Deva"), ("kas_Arab", "snd_Arab"),
        ("mar_Deva", "snd_Deva"),
    )
)  # fmt: skip
_NAMES = {
    name.casefold(): language.tags
    for language in LANGUAGES
    for name in (language.name, language.native, *language.names)
    if len(name) > 3
}


def prose(text: str) -> str:
    """``text`` without code, markup, addresses, paths and numbers."""
    text = text[:LONGEST]
    stripped = text.lstrip()
    if stripped.startswith(("{", "[")) and _looks_like_json(stripped):
        return ""
    return _MARKUP.sub(" ", _INLINE.sub(" ", _FENCED.sub(" ", text)))


def wrong_language(text: str, language: str | None, romanised: bool = False, asked: str = "") -> str | None:
    """The tag of the language that ``text`` is in, where that is not the customer's; None where nothing is wrong.

    ``language`` is the customer's (FLORES tag; None: not known, and nothing is wrong), ``romanised``: they type it in
    Latin letters. ``asked`` is what they said: words of it may come back, and a language named in it may be answered
    in. A language in no table gives ``und_`` with its script.
    """
    if language not in TAGS:
        return None
    wanted = language_of(language).tags
    text = prose(text) if ENGLISH in wanted else _without_names(prose(text), asked)
    letters = sum(map(str.isalpha, text))
    if letters < _LEAST:
        return None
    found = identify(text)
    if not found.script:  # letters that nobody here knows: Chinese, Cyrillic
        return _UNKNOWN
    if found.tag in wanted:
        return _script_wrong(found, wanted, romanised, letters, asked)
    if _named(asked, found):
        return None
    return _other(found, wanted, romanised, letters)


def _script_wrong(found: Identified, wanted: tuple[str, ...], romanised: bool, letters: int, asked: str) -> str | None:
    """The right language in Latin letters, where the customer writes its own; anything else is right."""
    if not found.romanised or romanised or letters < _LEAST_LATIN or "latin" in asked.casefold():
        return None
    return f"{wanted[0][:3]}_Latn"


def _other(found: Identified, wanted: tuple[str, ...], romanised: bool, letters: int) -> str | None:
    """Of an answer that is not, or not for certain, in the language wanted."""
    scripts = {script_of(tag) for tag in wanted}
    if found.script == "Latn" and ENGLISH not in wanted:
        least = _LEAST_LATIN
        if romanised:  # what people type is half English; only plain English is another language
            sure = found.tag == ENGLISH and found.confidence >= _SURE and not found.mixed
            return ENGLISH if sure and letters >= 2 * least else None
        return (found.tag or "und_Latn") if letters >= least else None
    if found.script not in scripts:
        if found.tag is None and found.script == "Latn":
            return None  # English with many names, or a language in Latin letters that nobody here knows
        if found.script == "Latn" and (found.confidence < _SURE_LATIN or letters < _LEAST_SHARED):
            return None
        return found.tag or f"und_{found.script}"
    if found.tag is None or (found.romanised and found.confidence < _SURE):
        return None
    shared = frozenset((found.tag, next((tag for tag in wanted if script_of(tag) == found.script), wanted[0])))
    if letters < _LEAST_SHARED or found.confidence < _SURE or shared in _NEAR:
        return None
    return found.tag


def _without_names(text: str, asked: str) -> str:
    """Latin words with a capital or that the customer used are names in a text of another script."""
    known = {word.casefold() for word in _LATIN_WORD.findall(asked[:LONGEST])}
    return _LATIN_WORD.sub(lambda m: " " if _a_name(m[0]) or m[0].casefold() in known else m[0], text)


def _a_name(word: str) -> bool:
    return word != word.lower() and not (len(word) == 1 and word == "I")


def _named(asked: str, found: Identified) -> bool:
    """Whether the customer names the language they were answered in: "say it in Tamil"."""
    if found.tag is None:
        return False
    folded = asked[:LONGEST].casefold()
    return any(found.tag in tags and name in folded for name, tags in _NAMES.items())


def _looks_like_json(text: str) -> bool:
    return bool(re.match(r"[\[{]\s*(?:[\[{\"\]}]|-?\d|true|false|null)", text))


def words(text: str) -> list[str]:
    """The words of ``text`` in any script, casefolded."""
    return _WORD.findall(text.casefold())
