"""Indic text as IndicNLP normalises and cuts it, for nine scripts and Perso-Arabic.

What it is: ``normalise`` (one spelling for letters that Unicode can write in several ways), ``tokenise`` (punctuation
apart) and ``detokenise``. The published weights were trained on IndicNLP's forms, so these are the same forms.
What it refuses to be: spelling correction.
What it costs: 5–15 µs a sentence, linear in its length.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from appliance_models.indictrans2.tags import Tag

_PUNCTUATION = (
    ("„", '"'), ("“", '"'), ("”", '"'), ("–", "-"), ("—", " - "), ("´", "'"), ("‘", "'"), ("‚", "'"), ("’", "'"),
    ("''", '"'), ("…", "..."),
)  # fmt: skip
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\ufffe\u2060\u00ad\u200c\u200d")) | {0x200B: " ", 0xA0: " "}


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """``"AB>C D>EF"`` as pairs; spaces part the entries."""
    return tuple((left, right) for left, _, right in (entry.partition(">") for entry in text.split()))


# Applied in this order. The danda that some blocks reserve, the pipe that people type for it, composites, two-part
# vowels; the digits in the names are IndicNLP's reasons, see its indic_normalize.py.
_BEFORE: dict[str, tuple[tuple[str, str], ...]] = {
    "ml": _pairs("ണ്\u200d>ൺ ന്\u200d>ൻ ര്\u200d>ർ ല്\u200d>ൽ ള്\u200d>ൾ ക്\u200d>ൿ"),
    "pa": _pairs("ਅਾ>ਆ ੲਿ>ਇ ੲੀ>ਈ ੳੁ>ਉ ੳੂ>ਊ ੲੇ>ਏ ਅੈ>ਐ ੳੋ>ਓ ਅੌ>ਔ"),
}
_LETTERS: dict[str, tuple[tuple[str, str], ...]] = {
    "hi": _pairs(
        "\u0972>\u090f \u0929>\u0928\u093c \u0931>\u0930\u093c \u0934>\u0933\u093c \u0958>\u0915\u093c "
        "\u0959>\u0916\u093c \u095a>\u0917\u093c \u095b>\u091c\u093c \u095c>\u0921\u093c \u095d>\u0922\u093c "
        "\u095e>\u092b\u093c \u095f>\u092f\u093c |>\u0964"
    ),
    "pa": _pairs(
        "\u0a33>\u0a32\u0a3c \u0a36>\u0a38\u0a3c \u0a59>\u0a16\u0a3c \u0a5a>\u0a17\u0a3c \u0a5b>\u0a1c\u0a3c "
        "\u0a5e>\u0a2b\u0a3c \u0a64>\u0964 \u0a65>\u0965 |>\u0964"
    ),
    "gu": _pairs("\u0ae4>\u0964 \u0ae5>\u0965"),
    "or": _pairs(
        "\u0b05\u0b3e>\u0b06 \u0b0f\u0b57>\u0b10 \u0b13\u0b57>\u0b14 \u0b5c>\u0b21\u0b3c \u0b5d>\u0b22\u0b3c "
        "\u0b64>\u0964 \u0b65>\u0965 \u0b7c>\u0964 \u0b35>\u0b2c \u0b47\u0b56>\u0b58 \u0b47\u0b3e>\u0b4b "
        "\u0b47\u0b57>\u0b4c"
    ),
    "bn": _pairs(
        "\u09dc>\u09a1\u09bc \u09dd>\u09a2\u09bc \u09df>\u09af\u09bc \u09e4>\u0964 \u09e5>\u0965 |>\u0964 "
        "\u09f7>\u0964 \u09c7\u09be>\u09cb \u09c7\u09d7>\u09cc"
    ),
    "ta": _pairs(
        "\u0be4>\u0964 \u0be5>\u0965 \u0b92\u0bd7>\u0b94 \u0bc6\u0bbe>\u0bca \u0bc7\u0bbe>\u0bcb \u0bc6\u0bd7>\u0bcc"
    ),
    "te": _pairs("\u0c64>\u0964 \u0c65>\u0965 \u0c46\u0c56>\u0c48"),
    "kn": _pairs(
        "\u0ce4>\u0964 \u0ce5>\u0965 \u0cbf\u0cd5>\u0cc0 \u0cc6\u0cd5>\u0cc7 \u0cc6\u0cd6>\u0cc8 \u0cc6\u0cc2>\u0cca "
        "\u0cca\u0cd5>\u0ccb"
    ),
    "ml": _pairs(
        "\u0d64>\u0964 \u0d65>\u0965 \u0d46\u0d3e>\u0d4a \u0d47\u0d3e>\u0d4b \u0d46\u0d57>\u0d4c \u0d57>\u0d4c"
    ),
}
_LETTERS["as"] = _LETTERS["bn"]
_BLOCKS = {
    "hi": 0x0900, "as": 0x0980, "bn": 0x0980, "pa": 0x0A00, "gu": 0x0A80, "or": 0x0B00, "ta": 0x0B80, "te": 0x0C00,
    "kn": 0x0C80, "ml": 0x0D00,
}  # fmt: skip
# A colon right after a letter is read as a visarga: how the training data of the published weights was made.
_VISARGA = {
    rules: (re.compile(f"([{chr(block)}-{chr(block + 0x7F)}]):"), rf"\1{chr(block + 3)}")
    for rules, block in _BLOCKS.items()
}

# Perso-Arabic: presentation forms and Arabic letters become Urdu's, vowel marks go.
_ARABIC_FORMS = (
    "آ:ﺁﺂ أ:ﺃ ا:ﺍﺎ ب:ﺏﺐﺑﺒ پ:ﭖﭘﭙ ت:ﺕﺖﺗﺘ ٹ:ﭦﭧﭨﭩ ث:ﺛﺜﺚ ج:ﺝﺞﺟﺠ ح:ﺡﺣﺤﺢ خ:ﺧﺨﺦ د:ﺩﺪ ذ:ﺬﺫ ر:ﺭﺮ ز:ﺯﺰ س:ﺱﺲﺳﺴ ش:ﺵﺶﺷﺸ "
    "ص:ﺹﺺﺻﺼ ض:ﺽﺾﺿﻀ ط:ﻃﻄ ظ:ﻅﻇﻈ ع:ﻉﻊﻋﻌ غ:ﻍﻏﻐ ف:ﻑﻒﻓﻔ ق:ﻕﻖﻗﻘ ل:ﻝﻞﻟﻠ م:ﻡﻢﻣﻤ ن:ﻥﻦﻧﻨ چ:ﭺﭻﭼﭽ ڈ:ﮈﮉ ڑ:ﮍﮌ ژ:ﮋ ک:ﮎﮏﮐﮑﻛك "
    "گ:ﮒﮓﮔﮕ ں:ﮞﮟ و:ﻮﻭ ؤ:ﺅ ھ:ﮪﮬﮭﻬﻫﮫ ہ:ﻩﮦﻪﮧﮩﮨه ۃ:ة ء:ﺀ ی:ﯼىﯽﻰﻱﻲﯾﯿي ئ:ﺋﺌ ے:ﮮﮯﻳﻴ لا:ﻻﻼ :ـ"
)
_ARABIC: dict[int, str | None] = dict.fromkeys(map(ord, "\u064e\u064b\u0670\u0650\u064f\u064d"))
for _entry in _ARABIC_FORMS.split(" "):
    _letter, _, _forms = _entry.partition(":")
    _ARABIC.update({ord(form): _letter for form in _forms})
_ARABIC_LETTER = "\u0600-\u06ff"
_ARABIC_SPACING = (
    re.compile(f"(?<=[{_ARABIC_LETTER}])(?=[0-9A-Za-z])"),
    re.compile(f"(?<=[0-9A-Za-z])(?=[{_ARABIC_LETTER}])"),
)


def normalise(text: str, tag: Tag) -> str:
    """One spelling a letter: composites apart, two-part vowels together, joiners and invisible marks gone."""
    if tag.rules == "ur":
        for left, right in _PUNCTUATION:
            text = text.replace(left, right)
        text = text.translate(_ARABIC).replace("آ", "آ").replace("أ", "أ").replace("ۓ", "ۓ")
        for pattern in _ARABIC_SPACING:
            text = pattern.sub(" ", text)
        return text
    for left, right in _BEFORE.get(tag.rules, ()):
        text = text.replace(left, right)
    text = text.translate(_INVISIBLE)
    for left, right in (*_PUNCTUATION, *_LETTERS[tag.rules]):
        text = text.replace(left, right)
    pattern, visarga = _VISARGA[tag.rules]
    return pattern.sub(visarga, text)


_MARKS = re.compile(f"([{re.escape(string.punctuation)}\u0964\u0965\uaaf1\uaaf0\uabeb\u1c7e\u1c7f])")
_ARABIC_MARKS = re.compile(
    f"([{re.escape(string.punctuation)}\u0609\u060a\u060c\u061b\u061e\u061f\u066a\u066b\u066c\u066d\u06d4])"
)
_NUMBERS = re.compile(r"([0-9]+ [,.:/] )+[0-9]+")


def tokenise(text: str, tag: Tag) -> list[str]:
    """The tokens of one sentence: punctuation apart, numbers and dates whole."""
    text = " ".join((_ARABIC_MARKS if tag.rules == "ur" else _MARKS).sub(r" \1 ", text).split())
    return (text if tag.rules == "ur" else _NUMBERS.sub(_joined, text)).split()


def _joined(number: re.Match[str]) -> str:
    return number[0].replace(" ", "")


_ARABIC_LEFT = re.compile(" ([\u061f\u06d4\u060c\u061b])")
_BOTH = re.compile(r" ([-/\\]) ")
_LEFT = re.compile(r" ([!%)\]},.:;>?।॥])")
_RIGHT = re.compile(r"([#$(\[{<@]) ")


def detokenise(tokens: Iterable[str], tag: Tag) -> str:
    """One sentence from its tokens."""
    text = _NUMBERS.sub(_joined, " ".join(tokens))
    if tag.script == "Arab":
        text = _ARABIC_LEFT.sub(r"\1", text)
    text = _RIGHT.sub(r"\1", _LEFT.sub(r"\1", _BOTH.sub(r"\1", text)))
    for quote in "'\"`":
        if quote in text:
            text = _paired(text, quote)
    return text


def _paired(text: str, quote: str) -> str:
    """Every odd quote stands before a word, every even one after."""
    parts = text.split(quote)
    out = parts[0]
    for i, part in enumerate(parts[1:]):
        opens = i % 2 == 0
        out = (out + quote + part.removeprefix(" ")) if opens else (out.removesuffix(" ") + quote + part)
    return out
