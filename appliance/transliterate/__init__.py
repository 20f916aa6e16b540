"""From one script to another: the nine Brahmic scripts, Ol Chiki, Meetei Mayek, Perso-Arabic (Sindhi, Kashmiri), Latin.

What it is: rules, with Devanagari as the hub, and for Latin letters ISO 15919 both ways and an informal romanisation.
What it refuses to be: a guesser. Informal Latin letters (``mera order kab aayega``) do not say which vowels are long or
which t is meant; that takes a learned model (``hosts/translate``), and here it is an error that says so. No translation
either: the language stays what it was.
What it costs: 20 to 100 µs for 200 characters; no I/O, no dependencies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from appliance.errors import BadRequest, NotBuilt
from appliance.languages import display_name, language_of, script
from appliance.transliterate.arabic import arabic_to_hub, hub_to_arabic
from appliance.transliterate.brahmic import BLOCKS, from_hub, lossless, to_hub
from appliance.transliterate.latin import from_iso, plain, silent, to_informal, to_iso
from appliance.transliterate.meetei import bengali_to_mayek, mayek_to_bengali
from appliance.transliterate.olchiki import hub_to_olchiki, olchiki_to_hub

__all__ = [
    "LATIN", "LEARNED", "NotByRules", "NotInstalled", "from_hub", "from_iso", "lossless", "plain", "silent", "to_hub",
    "to_informal", "to_iso", "transliterate",
]  # fmt: skip

Scheme = Literal["iso15919", "informal"]
Digits = Literal["keep", "native", "ascii"]

LATIN = "Latn"
# the catalogue's model that holds a learned transliterator
LEARNED = "indictrans2-embedded"
_DIGITS = {
    **{code: "".join(chr(base + 0x66 + n) for n in range(10)) for code, base in BLOCKS.items()},
    "Arab": "۰۱۲۳۴۵۶۷۸۹", "Olck": "᱐᱑᱒᱓᱔᱕᱖᱗᱘᱙", "Mtei": "꯰꯱꯲꯳꯴꯵꯶꯷꯸꯹", LATIN: "0123456789",
}  # fmt: skip
_RULED = frozenset(("snd", "kas"))


class NotInstalled(NotBuilt):
    """501: informal Latin letters need a learned transliterator."""

    code = "not_installed"


class NotByRules(BadRequest):
    """400: no rule leads from this script to that one for this language."""

    code = "no_rules"


def transliterate(
    text: str, tag: str, source: str, target: str, scheme: Scheme = "iso15919", digits: Digits = "keep"
) -> str:
    """``text``, in the language of ``tag`` and the script ``source``, in the script ``target`` (ISO 15924 codes).

    Letters of other scripts stay. Raises NotInstalled for informal Latin letters into anything, NotByRules where
    there is no way (Urdu, Perso-Arabic of other languages).
    """
    if source == target:
        return _numbered(text, target, digits)
    if source == LATIN and scheme == "informal":
        raise _learned(tag)
    direct = _DIRECT.get((source, target))
    converted = direct(text) if direct is not None else _out(_in(text, tag, source), tag, target, scheme)
    return _numbered(converted, target, digits)


_DIRECT: dict[tuple[str, str], Callable[[str], str]] = {
    ("Beng", "Mtei"): bengali_to_mayek,
    ("Mtei", "Beng"): mayek_to_bengali,
}


def _in(text: str, tag: str, source: str) -> str:
    """In Devanagari."""
    if source in BLOCKS:
        return to_hub(text, source)
    if source == LATIN:
        return from_iso(text)
    if source == "Olck":
        return olchiki_to_hub(text)
    if source == "Mtei":
        return to_hub(mayek_to_bengali(text), "Beng")
    if source == "Arab" and tag[:3] in _RULED:
        return arabic_to_hub(text, tag[:3])
    raise _no_rules(tag, source)


def _out(hub: str, tag: str, target: str, scheme: Scheme) -> str:
    if target in BLOCKS:
        return from_hub(hub, target, tag)
    if target == LATIN:
        return to_iso(hub) if scheme == "iso15919" else to_informal(hub, tag)
    if target == "Olck":
        return hub_to_olchiki(hub)
    if target == "Mtei":
        return bengali_to_mayek(from_hub(hub, "Beng", "mni_Beng"))
    if target == "Arab" and tag[:3] in _RULED:
        return hub_to_arabic(hub, tag[:3])
    raise _no_rules(tag, target)


def _numbered(text: str, target: str, digits: Digits) -> str:
    """Decimal digits as asked for."""
    if digits == "keep":
        return text
    wanted = _DIGITS[target] if digits == "native" else _DIGITS[LATIN]
    return re.sub(r"\d", lambda digit: wanted[unicodedata.digit(digit[0])], text)


def _learned(tag: str) -> NotInstalled:
    name = language_of(tag).name
    return NotInstalled(
        f"{name} typed in informal Latin letters needs a learned transliterator, and none is served here; rules would"
        f" guess. Serve one ([engines.translate] with the model {LEARNED}), or send ISO 15919 with scheme iso15919",
        param="input",
    )


def _no_rules(tag: str, code: str) -> NotByRules:
    return NotByRules(
        f"no rules lead from or to {script(code).name} letters for {display_name(tag)}; Perso-Arabic is done for Sindhi"
        " and Kashmiri only",
        param="target",
    )
