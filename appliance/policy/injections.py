"""Instructions to a model where only data should be: "ignore the previous instructions" inside a tool's result.

What it is: ``find(text)``, the places, in English, romanised Hindi and 13 languages in their scripts, and the control
tokens of chat templates. Characters nobody sees (zero width, full width) do not hide them.
What it refuses to be: a defence by itself. It knows phrases; who words it otherwise passes, so tools need rights of
their own all the same.
What it costs: 0.3 ms for 1,000 Latin characters, 0.8 ms for 1,000 others; 20,000 are read.
"""

from __future__ import annotations

import re
import unicodedata

from appliance.policy.digits import plain

_READ = 20_000
# what is to be ignored, and the ignoring of it, in either order
_PAIRS: tuple[tuple[str, str], ...] = (
    (
        r"(?<!not )(?<!n't )(?<!never )\b(?:ignore|disregard|forget|override|bypass)\b",
        r"\b(?:(?:previous|prior|above|earlier|all|any|your|system|the)[\s\w]{0,24}"
        r"(?:instructions?|prompts?|rules|guidelines|directions|directives|context))\b",
    ),
    (
        r"\b(?:ignore|bhul|bhool|andekha|nazarandaz)\b",
        r"\b(?:pichl[aei]|pehle|purane|upar)[\s\w]{0,16}(?:nirdesh|instructions?|hidayat|niyam)\b",
    ),
    (r"अनदेखा|अनदेखी|नज़रअंदाज|नजरअंदाज|नज़रअंदाज़|भूल जा|उपेक्षा", r"निर्देश|हिदायत|आदेश|प्रॉम्प्ट"),
    (r"दुर्लक्ष|विसर|बेवास्ता", r"सूचना|निर्देश|निर्देशन"),
    (r"উপেক্ষা|অগ্রাহ্য|ভুলে যা|আওকাণ|অগ্ৰাহ্য", r"নির্দেশ|নিৰ্দেশ"),
    (r"અવગણ|ભૂલી જા", r"સૂચના|નિર્દેશ"),
    (r"ਨਜ਼ਰਅੰਦਾਜ਼|ਨਜ਼ਰਅੰਦਾਜ|ਅਣਡਿੱਠ|ਭੁੱਲ ਜਾ", r"ਹਦਾਇਤ|ਨਿਰਦੇਸ਼"),
    (r"ଅଣଦେଖା|ଉପେକ୍ଷା", r"ନିର୍ଦ୍ଦେଶ"),
    (r"புறக்கணி|மறந்துவிடு", r"வழிமுறை|அறிவுறுத்தல்|கட்டளை"),
    (r"విస్మరించ|పట్టించుకో", r"సూచన|ఆదేశ"),
    (r"ನಿರ್ಲಕ್ಷಿಸ|ಮರೆತುಬಿಡ", r"ಸೂಚನೆ|ನಿರ್ದೇಶನ"),
    (r"അവഗണിക്ക|മറക്കുക", r"നിർദ്ദേശ|നിർദേശ"),
    (r"نظر انداز|نظرانداز|بھول جا", r"ہدایات|ہدایت|احکامات"),
)
_ALONE = (
    r"<\|[a-z_]{2,24}\|>|\[/?INST\]|<</?SYS>>|<start_of_turn>|<end_of_turn>",
    r"(?:^|\n)\s*(?:#{1,4}\s*)?(?:system|developer)(?: prompt| message| note)?\s*:\s",
    r"\b(?:reveal|print|repeat|show|output|leak)\b.{0,24}\b(?:system prompt|your (?:instructions|prompt|rules))\b",
    r"\byou are now\b.{0,40}\b(?:mode|dan|unrestricted|jailbroken|admin|developer)\b",
    r"\bnew (?:system )?instructions?\s*:",
    r"\b(?:do not|don't|never) (?:tell|inform|mention (?:this|it) to|alert|warn) the (?:user|customer)\b",
    r"\bto the (?:ai|assistant|model|llm|chatbot) (?:reading|processing|handling) this\b",
    r"(?:सिस्टम प्रॉम्प्ट|system prompt).{0,24}(?:दिखा|बता|लिख)",
)
_GAP = r"[^\n]{0,60}?"


def _compiled(one: str, other: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The ignoring alone, which most texts do not hold, and the pair in either order."""
    both = f"(?:{one}){_GAP}(?:{other})|(?:{other}){_GAP}(?:{one})"
    return re.compile(one, re.IGNORECASE), re.compile(both, re.IGNORECASE)


_COMPILED = tuple(_compiled(one, other) for one, other in _PAIRS)
_SPELLED = 2  # of the pairs, so many are in Latin letters
_CONTROLS = re.compile("|".join(_ALONE), re.IGNORECASE)


def find(text: str) -> tuple[tuple[int, int], ...]:
    """Start and end of every instruction in ``text``, in code points and in order; none overlap."""
    text = text[:_READ]
    shown, places = _visible(text)
    pairs = _COMPILED[:_SPELLED] if shown.isascii() else _COMPILED
    found = [m.span() for quick, both in pairs if quick.search(shown) for m in both.finditer(shown)]
    found += [m.span() for m in _CONTROLS.finditer(shown)]
    result: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if not result or start >= result[-1][1]:
            result.append((start, end))
        else:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
    return tuple((places[start], places[end - 1] + 1) for start, end in result)


def _visible(text: str) -> tuple[str, list[int]]:
    """``text`` without characters that have no width, full-width letters made plain, and where each one stood."""
    if text.isascii():
        return text, list(range(len(text)))
    kept = [(place, c) for place, c in enumerate(text) if unicodedata.category(c) != "Cf"]
    # plain() would make a blank of what is between words; here only widths are to be made alike
    return plain("".join(c for _, c in kept)), [place for place, _ in kept]
