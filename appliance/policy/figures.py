"""Amounts of money and dates in a text, as values that compare across scripts, digits and ways of writing.

What it is: ``figures(text)``: ₹1,50,000 and १.५ लाख रुपये are one amount, 5 March 2026, ०५/०३/२०२६ and ৫ মার্চ one date;
and ``Known``, every number and date of a context.
What it refuses to be: a calendar or a calculator. "Tomorrow" and "half of it" are no figures; numbers in words are not
read; month names are those of English and of 12 Indian languages, digits those of every script.
What it costs: 30 µs for a text of 200 characters without digits, some 0.2 ms with two figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from appliance.policy.digits import plain

_READ = 50_000
_MONTHS: tuple[str, ...] = (
    "january jan जनवरी जानेवारी জানুয়ারি জানুয়ারী জানুৱাৰী જાન્યુઆરી ਜਨਵਰੀ ଜାନୁଆରୀ ஜனவரி జనవరి ಜನವರಿ ജനുവരി جنوری",
    "february feb फरवरी फ़रवरी फेब्रुवारी फेब्रुअरी ফেব্রুয়ারি ফেব্রুয়ারী ফেব্ৰুৱাৰী ફેબ્રુઆરી ਫ਼ਰਵਰੀ ਫਰਵਰੀ ଫେବୃଆରୀ"
    " பிப்ரவரி ఫిబ్రవరి ಫೆಬ್ರವರಿ ഫെബ്രുവരി فروری",
    "march mar मार्च মার্চ মাৰ্চ માર્ચ ਮਾਰਚ ମାର୍ଚ୍ଚ மார்ச் మార్చి ಮಾರ್ಚ್ മാർച്ച് مارچ",
    "april apr अप्रैल एप्रिल অপ্রিল এপ্রিল এপ্ৰিল એપ્રિલ ਅਪ੍ਰੈਲ ଅପ୍ରେଲ ஏப்ரல் ఏప్రిల్ ಏಪ್ರಿಲ್ ഏപ്രിൽ اپریل",
    "may मई मे মে মে' મે ਮਈ ମଇ மே మే ಮೇ മേയ് مئی",
    "june jun जून জুন જૂન ਜੂਨ ଜୁନ୍ ଜୁନ ஜூன் జూన్ ಜೂನ್ ജൂൺ جون",
    "july jul जुलाई जुलै জুলাই જુલાઈ ਜੁਲਾਈ ଜୁଲାଇ ஜூலை జూలై ಜುಲೈ ജൂലൈ جولائی",
    "august aug अगस्त ऑगस्ट আগস্ট আগষ্ট ઑગસ્ટ ઓગસ્ટ ਅਗਸਤ ଅଗଷ୍ଟ ஆகஸ்ட் ఆగస్టు ಆಗಸ್ಟ್ ഓഗസ്റ്റ് اگست",
    "september sept sep सितंबर सितम्बर सप्टेंबर সেপ্টেম্বর ছেপ্টেম্বৰ સપ્ટેમ્બર ਸਤੰਬਰ ସେପ୍ଟେମ୍ବର செப்டம்பர் సెప్టెంబర్ ಸೆಪ್ಟೆಂಬರ್ സെപ്റ്റംബർ ستمبر",
    "october oct अक्टूबर अक्तूबर ऑक्टोबर অক্টোবর অক্টোবৰ ઑક્ટોબર ઓક્ટોબર ਅਕਤੂਬਰ ଅକ୍ଟୋବର அக்டோபர் అక్టోబర్ ಅಕ್ಟೋಬರ್ ഒക്ടോബർ اکتوبر",
    "november nov नवंबर नवम्बर नोव्हेंबर नोभेम्बर নভেম্বর নৱেম্বৰ નવેમ્બર ਨਵੰਬਰ ନଭେମ୍ବର நவம்பர் నవంబర్ ನವೆಂಬರ್ നവംബർ نومبر",
    "december dec दिसंबर दिसम्बर डिसेंबर ডিসেম্বর ডিচেম্বৰ ડિસેમ્બર ਦਸੰਬਰ ଡିସେମ୍ବର டிசம்பர் డిసెంబర్ ಡಿಸೆಂಬರ್ ഡിസംബർ دسمبر",
)  # fmt: skip
_MONTH_OF = {word: number for number, line in enumerate(_MONTHS, 1) for word in line.split()}
_MULTIPLES: tuple[tuple[int, str], ...] = (
    (1000, "thousand k hazar hazaar हज़ार हजार হাজার હજાર ਹਜ਼ਾਰ ହଜାର ஆயிரம் వేల వేలు ಸಾವಿರ ആയിരം ہزار"),
    (100_000, "lakh lakhs lac lacs लाख লাখ লক্ষ લાખ ਲੱਖ ଲକ୍ଷ லட்சம் லட்ச లక్ష లక్షల ಲಕ್ಷ ലക്ഷം لاکھ"),
    (1_000_000, "million"),
    (10_000_000, "crore crores cr करोड़ कोटी करोड কোটি કરોડ ਕਰੋੜ କୋଟି கோடி కోటి కోట్ల ಕೋಟಿ കോടി کروڑ"),
)
_UNITS = {word: multiple for multiple, line in _MULTIPLES for word in line.split()}
_CURRENCY = (
    r"[₹$€£৳]|\b(?:rs|inr|usd|eur|rupees?|rupaye|rupaiye|rupya|dollars?|paise)\b|रुपये|रुपए|रुपया|रुपय|रूपये|रु\.?|रू\.?|टाका|টাকা|টকা|"
    r"રૂપિયા|રૂ\.?|ਰੁਪਏ|ਰੁਪਈਏ|ਰੁ\.?|ଟଙ୍କା|ரூபாய்|ரூ\.?|రూపాయలు|రూపాయల|రూ\.?|ರೂಪಾಯಿ|ರೂ\.?|രൂപ|രൂ\.?|روپے|روپیہ|ᱴᱟᱠᱟ|ꯂꯨꯄꯥ"
)
_VALUE = r"\d{1,3}(?:,\d{2,3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_WORDS = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_UNIT = rf"(?:\s?(?P<UNIT>{_WORDS})(?![a-z]))?"
_AMOUNT = re.compile(
    rf"(?:(?:{_CURRENCY})\s?[.:]?\s?(?P<a>{_VALUE}){_UNIT.replace('UNIT', 'au')})"
    rf"|(?:(?<![\d.,/-])(?P<b>{_VALUE}){_UNIT.replace('UNIT', 'bu')}\s?(?:/-|(?:{_CURRENCY})))",
    re.IGNORECASE,
)
_NUMBER = re.compile(rf"(?<![\d.])(?P<a>{_VALUE}){_UNIT.replace('UNIT', 'au')}", re.IGNORECASE)
_NAMES = "|".join(sorted(map(re.escape, _MONTH_OF), key=len, reverse=True))
_DATE = re.compile(
    r"(?<![\d/.-])(?:(?P<y>(?:19|20)\d\d)[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"
    r"|(?P<d2>\d{1,2})[-/.](?P<m2>\d{1,2})[-/.](?P<y2>(?:19|20)?\d\d))(?![\d/-])"
    rf"|(?<![\d.,])(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?[ -]?(?:of )?(?P<n3>{_NAMES})(?![a-z])\.?"
    r"(?:,?[ -]?(?P<y3>(?:19|20)\d\d))?"
    rf"|(?<![a-z])(?P<n4>{_NAMES})(?![a-z])\.? ?(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?(?![\d.,:/]\d)(?![\d])"
    r"(?:,? ?(?P<y4>(?:19|20)\d\d))?",
    re.IGNORECASE,
)  # fmt: skip


class Date(Struct, frozen=True):
    """``year`` None where none is named."""

    day: int
    month: int
    year: int | None


class Figure(Struct, frozen=True):
    """One amount or date at ``start`` to ``end``; ``readings`` are the values it can mean (5/3 is two days)."""

    kind: Literal["amount", "date"]
    start: int
    end: int
    readings: tuple[Decimal | Date, ...]


class Known:
    """The numbers and dates of a context. Any number there, with a currency or not, makes an amount known."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._numbers: set[Decimal] = set()
        self._dates: set[Date] = set()
        for text in texts:
            folded = _folded(text)
            self._numbers.update(value for match in _NUMBER.finditer(folded) for value in _values(match, "a", "au"))
            for _, _, readings in _dates(folded):
                self._dates.update(readings)

    def holds(self, figure: Figure) -> bool:
        """Whether one of the readings is there; a date without a year is that day of any year."""
        for reading in figure.readings:
            if isinstance(reading, Decimal):
                if reading in self._numbers:
                    return True
            elif any(_same_day(reading, known) for known in self._dates):
                return True
        return False


def figures(text: str) -> tuple[Figure, ...]:
    """Every amount and date of ``text``, in order."""
    folded = _folded(text)
    if not any(c.isdigit() for c in folded):
        return ()
    found = [Figure("date", start, end, readings) for start, end, readings in _dates(folded)]
    for match in _AMOUNT.finditer(folded):
        name = "a" if match["a"] else "b"
        if not any(one.start < match.end() and match.start() < one.end for one in found):
            found.append(Figure("amount", match.start(), match.end(), _values(match, name, f"{name}u")[:1]))
    return tuple(sorted(found, key=lambda one: one.start))


def _folded(text: str) -> str:
    """Of the same length: ASCII digits, the Arabic decimal and thousands separators as comma and point, lower case."""
    text = plain(text[:_READ]).replace("٬", ",").replace("٫", ".")
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def _values(match: re.Match[str], name: str, unit: str) -> tuple[Decimal, ...]:
    """The number with its unit, and without: "1.5 lakh" in a context makes both known."""
    plain_value = Decimal(match[name].replace(",", ""))
    word = match[unit]
    if word is None:
        return (plain_value.normalize(),)
    return (plain_value * _UNITS[word.lower()]).normalize(), plain_value.normalize()


def _dates(folded: str) -> Iterator[tuple[int, int, tuple[Date, ...]]]:
    for match in _DATE.finditer(folded):
        readings = tuple(dict.fromkeys(_readings(match)))
        if readings:
            yield match.start(), match.end(), readings


def _readings(match: re.Match[str]) -> Iterator[Date]:
    if match["y"]:
        yield from _date(match["d"], int(match["m"]), match["y"])
    elif match["d2"]:
        yield from _date(match["d2"], int(match["m2"]), match["y2"])
        yield from _date(match["m2"], int(match["d2"]), match["y2"])
    elif match["d3"]:
        yield from _date(match["d3"], _MONTH_OF[match["n3"].lower()], match["y3"])
    else:
        yield from _date(match["d4"], _MONTH_OF[match["n4"].lower()], match["y4"])


def _date(day: str, month: int, year: str | None) -> Iterator[Date]:
    if 1 <= int(day) <= 31 and 1 <= month <= 12:
        full = None if year is None else int(year) + (2000 if len(year) == 2 else 0)
        yield Date(int(day), month, full)


def _same_day(one: Date, other: Date) -> bool:
    years = (one.year, other.year)
    return (one.day, one.month) == (other.day, other.month) and (None in years or years[0] == years[1])
