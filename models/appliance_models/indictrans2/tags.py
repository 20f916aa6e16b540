"""The 26 tags of IndicTrans2, and for each the rules its text follows.

What it is: one table. ``rules`` names the family of normalisation and tokenisation (IndicNLP's language code), and
``base`` the first code point of a script that is unified to Devanagari before the model sees it.
What it refuses to be: a parser of other language codes; ``appliance.languages`` is.
"""

from __future__ import annotations

from types import MappingProxyType

import msgspec

ENGLISH = "eng_Latn"


class UnknownTag(ValueError):
    """A tag that is none of IndicTrans2's; the message lists them."""


class Tag(msgspec.Struct, frozen=True):
    """One tag: its name, its script, the rules for its text, the digit that is its zero."""

    name: str
    script: str
    rules: str
    base: int | None
    zero: str


_SCRIPTS: dict[str, tuple[int | None, str]] = {
    "Arab": (None, "۰"),
    "Beng": (0x0980, "০"),
    "Deva": (0x0900, "०"),
    "Gujr": (0x0A80, "૦"),
    "Guru": (0x0A00, "੦"),
    "Knda": (0x0C80, "೦"),
    "Latn": (None, "0"),
    "Mlym": (0x0D00, "൦"),
    "Mtei": (None, "꯰"),
    "Olck": (None, "᱐"),
    "Orya": (0x0B00, "୦"),
    "Taml": (0x0B80, "௦"),
    "Telu": (0x0C00, "౦"),
}
# Devanagari languages without rules of their own follow Hindi's; Meetei Mayek and Ol Chiki are listed as IndicTrans2
# was trained: with Hindi's and Odia's normaliser.
_RULES = (
    "asm_Beng:as ben_Beng:bn brx_Deva:hi doi_Deva:hi eng_Latn:en gom_Deva:hi guj_Gujr:gu hin_Deva:hi kan_Knda:kn "
    "kas_Arab:ur kas_Deva:hi mai_Deva:hi mal_Mlym:ml mar_Deva:hi mni_Beng:bn mni_Mtei:hi npi_Deva:hi ory_Orya:or "
    "pan_Guru:pa san_Deva:hi sat_Olck:or snd_Arab:ur snd_Deva:hi tam_Taml:ta tel_Telu:te urd_Arab:ur"
)


def _tag(entry: str) -> Tag:
    name, rules = entry.split(":")
    script = name.partition("_")[2]
    base, zero = _SCRIPTS[script]
    return Tag(name, script, rules, base, zero)


TAGS: MappingProxyType[str, Tag] = MappingProxyType({tag.name: tag for tag in map(_tag, _RULES.split())})


def find(name: str) -> Tag:
    """The tag of that name; ``UnknownTag`` lists the known ones."""
    found = TAGS.get(name)
    if found is None:
        raise UnknownTag(f"IndicTrans2 has no language tag {name!r}: use one of {', '.join(TAGS)}")
    return found
