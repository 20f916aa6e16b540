"""The 22 scheduled languages and English: 25 tags and one more, and every dialect of codes people write them in.

What it is: one table, and ``parse`` from whatever a caller wrote (``hi``, ``hin``, ``hi-IN``, ``hin_Deva``,
``Hindi``, ``हिन्दी``, Sarvam's ``od-IN``, Whisper's ``panjabi``) to the FLORES tag that IndicTrans2 uses inside.
What it refuses to be: a guesser. What is not in the table is an error with the list and the nearest entry.
Where a language has two scripts, a code that names none means the one that CLDR's likely subtags give for the bare
language (ks and sd Perso-Arabic, mni Bengali); a region does not change that.
What it costs: one dictionary look-up for an exact code, about 5 µs for a compound one. No I/O.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from types import MappingProxyType

import msgspec

from appliance.errors import BadRequest


class Language(msgspec.Struct, frozen=True):
    """One language. ``tags`` begins with the default; ``codes`` and ``names`` are further spellings of it."""

    bcp47: str
    tags: tuple[str, ...]
    name: str
    native: str
    codes: tuple[str, ...]
    names: tuple[str, ...] = ()


class Script(msgspec.Struct, frozen=True):
    """One script: ISO 15924 code, English name, direction (``ltr`` or ``rtl``) and further names."""

    code: str
    name: str
    direction: str
    names: tuple[str, ...] = ()


class Code(msgspec.Struct, frozen=True):
    """What a caller's code means: the tag, and whether the code asked for that language in Latin letters."""

    tag: str
    romanised: bool


class UnknownLanguage(BadRequest):
    """400: a code or name that is none of the known languages; the message lists them."""

    code = "unknown_language"


def _language(bcp47: str, tags: str, name: str, native: str, codes: str, names: str | tuple[str, ...] = "") -> Language:
    more = tuple(names.split()) if isinstance(names, str) else names
    return Language(bcp47, tuple(tags.split()), name, native, tuple(codes.split()), more)


ENGLISH = "eng_Latn"
SCHEDULED: tuple[Language, ...] = (
    _language("as", "asm_Beng", "Assamese", "অসমীয়া", "asm", "asamiya axomiya অসমিয়া"),
    _language("bn", "ben_Beng", "Bengali", "বাংলা", "ben", "bangla বাঙলা"),
    _language("brx", "brx_Deva", "Bodo", "बड़ो", "brx", "boro बोड़ो बर' बोरो बर"),
    _language("doi", "doi_Deva", "Dogri", "डोगरी", "doi dgo", "dogari"),
    _language("gu", "guj_Gujr", "Gujarati", "ગુજરાતી", "guj", "gujrati gujerati"),
    _language("hi", "hin_Deva", "Hindi", "हिन्दी", "hin", "हिंदी"),
    _language("kn", "kan_Knda", "Kannada", "ಕನ್ನಡ", "kan", "canarese"),
    _language("ks", "kas_Arab kas_Deva", "Kashmiri", "کٲشُر", "kas", "koshur कॉशुर काशुर कश्मीरी کشمیری کٲشر"),
    _language("kok", "gom_Deva", "Konkani", "कोंकणी", "gom knn", ("goan konkani", "कोङ्कणी")),
    _language("mai", "mai_Deva", "Maithili", "मैथिली", "mai"),
    _language("ml", "mal_Mlym", "Malayalam", "മലയാളം", "mal"),
    _language("mni", "mni_Beng mni_Mtei", "Manipuri", "মৈতৈলোন্", "mni", "meitei meetei meiteilon মণিপুরী ꯃꯤꯇꯩꯂꯣꯟ"),
    _language("mr", "mar_Deva", "Marathi", "मराठी", "mar"),
    _language("ne", "npi_Deva", "Nepali", "नेपाली", "npi nep"),
    _language("or", "ory_Orya", "Odia", "ଓଡ଼ିଆ", "ory ori od", "oriya"),
    _language("pa", "pan_Guru", "Punjabi", "ਪੰਜਾਬੀ", "pan", "panjabi"),
    _language("sa", "san_Deva", "Sanskrit", "संस्कृतम्", "san", "संस्कृत"),
    _language("sat", "sat_Olck", "Santali", "ᱥᱟᱱᱛᱟᱲᱤ", "sat", "santhali ᱥᱟᱱᱛᱟᱞᱤ संताली"),
    _language("sd", "snd_Arab snd_Deva", "Sindhi", "سنڌي", "snd", "सिन्धी सिंधी سندھی"),
    _language("ta", "tam_Taml", "Tamil", "தமிழ்", "tam", "தமிழ"),
    _language("te", "tel_Telu", "Telugu", "తెలుగు", "tel"),
    _language("ur", "urd_Arab", "Urdu", "اردو", "urd", "اُردُو"),
)  # fmt: skip
LANGUAGES: tuple[Language, ...] = (*SCHEDULED, _language("en", ENGLISH, "English", "English", "eng"))
INDIC_TAGS: tuple[str, ...] = tuple(tag for language in SCHEDULED for tag in language.tags)
TAGS: tuple[str, ...] = (*INDIC_TAGS, ENGLISH)

SCRIPTS: tuple[Script, ...] = (
    Script("Arab", "Perso-Arabic", "rtl", ("arabic", "nastaliq", "naskh", "persoarabic", "aran")),
    Script("Beng", "Bengali", "ltr", ("bangla", "bengali-assamese", "eastern nagari")),
    Script("Deva", "Devanagari", "ltr", ("nagari", "devnagari", "deva nagari")),
    Script("Gujr", "Gujarati", "ltr"),
    Script("Guru", "Gurmukhi", "ltr"),
    Script("Knda", "Kannada", "ltr"),
    Script("Latn", "Latin", "ltr", ("roman", "romanised", "romanized", "transliterated")),
    Script("Mlym", "Malayalam", "ltr"),
    Script("Mtei", "Meetei Mayek", "ltr", ("meitei mayek", "meitei", "meetei")),
    Script("Olck", "Ol Chiki", "ltr", ("olchiki", "ol cemet")),
    Script("Orya", "Odia", "ltr", ("oriya",)),
    Script("Taml", "Tamil", "ltr"),
    Script("Telu", "Telugu", "ltr"),
)

# Whisper has a token for these and for English; the others it writes as something else.
_WHISPER = frozenset(("as", "bn", "gu", "hi", "kn", "ml", "mr", "ne", "pa", "sa", "sd", "ta", "te", "ur", "en"))
_LONGEST = 64
# what stands between the parts of a code or name, and the marks that decorate native names
_BETWEEN = re.compile(r"[\s_\-./,()\[\]'’]+")
_REGION = re.compile(r"[a-z]{2}|[0-9]{3}")
_VARIANT = re.compile(r"[a-z0-9]{5,8}|[0-9][a-z0-9]{3}")
# how services name their voices and locales: "Hindi (India)", "English (United States)"
_PLACES = frozenset(
    ("india", "bangladesh", "nepal", "pakistan", "sri lanka", "singapore", "united kingdom", "united states")
)
# a language typed in Latin letters with English in between has a name of its own
_TYPED = MappingProxyType(
    {"hinglish": "hin_Deva", "tanglish": "tam_Taml", "tenglish": "tel_Telu", "banglish": "ben_Beng"}
)


def _plain(text: str) -> str:
    """Case, width, joiners, nukta composition and separators made alike."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = "".join(c for c in folded if unicodedata.category(c) != "Cf")
    return _BETWEEN.sub(" ", folded).strip()


def _spellings() -> dict[str, Language]:
    table: dict[str, Language] = {}
    for language in LANGUAGES:
        iso3 = language.tags[0][:3]
        for spelling in (language.bcp47, iso3, language.name, language.native, *language.codes, *language.names):
            known = table.setdefault(_plain(spelling), language)
            assert known is language, f"{spelling} names two languages"
    return table


_LANGUAGE = MappingProxyType(_spellings())
_OF_TAG = MappingProxyType({tag: language for language in LANGUAGES for tag in language.tags})
_SCRIPT = MappingProxyType({script.code: script for script in SCRIPTS})
_SCRIPT_NAMES = MappingProxyType(
    {_plain(name): script.code for script in SCRIPTS for name in (script.code, script.name, *script.names)}
)
_EXACT = MappingProxyType(
    {tag: Code(tag, False) for tag in TAGS} | {language.bcp47: Code(language.tags[0], False) for language in LANGUAGES}
)


def parse(code: str, param: str | None = None) -> str:
    """The tag ``code`` stands for, with the script it names or the language's default one.

    Raises UnknownLanguage, also for a code that asks for Latin letters: there is no such tag to translate to.
    """
    found = resolve(code, param)
    if found.romanised:
        name = language_of(found.tag).name
        raise UnknownLanguage(
            f"{_shown(code)} asks for {name} in Latin letters, which is no target here; give {bcp47(found.tag)!r}",
            param=param,
        )
    return found.tag


def resolve(code: str, param: str | None = None) -> Code:
    """The tag ``code`` stands for, and whether it asks for Latin letters (``hi-Latn``). Raises UnknownLanguage."""
    exact = _EXACT.get(code)
    if exact is not None:
        return exact
    words = _plain(code[: _LONGEST + 1]).split() if len(code) <= _LONGEST else []
    if len(words) == 1 and words[0] in _TYPED:
        return Code(_TYPED[words[0]], True)
    for cut in range(len(words), 0, -1):
        language = _LANGUAGE.get(" ".join(words[:cut]))
        if language is not None:
            return _with_script(language, words[cut:], code, param)
    raise _unknown(code, param)


def tags_of(code: str, param: str | None = None) -> tuple[str, ...]:
    """Every tag of the language ``code`` stands for, the asked script (or the default) first."""
    tag = resolve(code, param).tag
    return (tag, *(other for other in _OF_TAG[tag].tags if other != tag))


def language_of(tag: str) -> Language:
    """The language of one of ``TAGS``. Raises KeyError for anything else."""
    return _OF_TAG[tag]


def script_of(tag: str) -> str:
    """ISO 15924 code of one of ``TAGS``."""
    _OF_TAG[tag]
    return tag[4:]


def script(code: str) -> Script:
    """The script with ISO 15924 ``code``. Raises KeyError."""
    return _SCRIPT[code]


def direction(tag: str) -> str:
    """``rtl`` for the Perso-Arabic tags, else ``ltr``."""
    return _SCRIPT[script_of(tag)].direction


def bcp47(tag: str, written_in: str | None = None) -> str:
    """The BCP-47 form of ``tag``: the script is named only where it is not the language's default one.

    ``written_in`` is the script a text actually has: ``bcp47("hin_Deva", "Latn")`` is ``hi-Latn``.
    """
    language = _OF_TAG[tag]
    actual = written_in or script_of(tag)
    return language.bcp47 if actual == script_of(language.tags[0]) else f"{language.bcp47}-{actual}"


def display_name(tag: str) -> str:
    """English name, with the script in brackets where the language has two: ``Sindhi (Devanagari)``."""
    language = _OF_TAG[tag]
    return language.name if len(language.tags) == 1 else f"{language.name} ({_SCRIPT[script_of(tag)].name})"


def iso639_3(tag: str) -> str:
    """Three letters: ``npi``, ``ory``, ``gom``."""
    _OF_TAG[tag]
    return tag[:3]


def whisper_code(tag: str) -> str | None:
    """Whisper's code for the tag's language, None where Whisper has no token for it."""
    code = _OF_TAG[tag].bcp47
    return code if code in _WHISPER else None


def _with_script(language: Language, rest: list[str], code: str, param: str | None) -> Code:
    """The tag for a language and what followed it: a script, a region, both, or a script's name."""
    # BCP-47 extensions and private use say nothing about language or script
    for i, word in enumerate(rest):
        if len(word) == 1:
            rest = rest[:i]
            break
    if not rest:
        return Code(language.tags[0], False)
    asked = _SCRIPT_NAMES.get(" ".join(rest))
    if asked is None and len(rest) > 1:
        asked = _SCRIPT_NAMES.get(rest[0])
        rest = rest[1:] if asked is not None else rest
    elif asked is not None:
        rest = []
    if asked is None and len(rest) == 1 and _LANGUAGE.get(rest[0]) is language:
        rest = []  # "Odia/Oriya", "Meitei (Manipuri)": two names of one language
    if rest and not _is_region(rest):
        raise _unknown(code, param)
    if asked is None:
        return Code(language.tags[0], False)
    for tag in language.tags:
        if script_of(tag) == asked:
            return Code(tag, False)
    if asked == "Latn":
        return Code(language.tags[0], True)
    written = " or ".join(_SCRIPT[script_of(tag)].name for tag in language.tags)
    raise UnknownLanguage(
        f"{_shown(code)}: {language.name} is handled in {written} here; give {language.bcp47!r}", param=param
    )


def _is_region(rest: list[str]) -> bool:
    """Whether ``rest`` is a region, perhaps with BCP-47 variants, or a place's name."""
    coded = _REGION.fullmatch(rest[0]) is not None and all(_VARIANT.fullmatch(word) for word in rest[1:])
    return coded or " ".join(rest) in _PLACES


def _shown(code: str) -> str:
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in code[:_LONGEST])
    return repr(clean if len(code) <= _LONGEST else clean + "…")


def _unknown(code: str, param: str | None) -> UnknownLanguage:
    nearest = ""
    # difflib is quadratic in the length of what it compares
    if 0 < len(code) <= _LONGEST and (near := difflib.get_close_matches(_plain(code), _LANGUAGE, n=1, cutoff=0.7)):
        language = _LANGUAGE[near[0]]
        nearest = f"did you mean {language.bcp47!r} ({language.name})? "
    known = ", ".join(f"{bcp47(tag)} ({display_name(tag)})" for tag in TAGS)
    return UnknownLanguage(f"{_shown(code)} is not a language known here; {nearest}known: {known}", param=param)
