"""A second generator of personal data and of numbers that look like it, for scoring alone.

``lookalikes`` is what the rules of ``appliance.policy.personal`` were developed with. This one was written apart from
it (other words, other carriers and shops, other ways of grouping) and before the rules of 2026-11-26 were changed;
nothing here was changed after looking at what is found. One rule owes it something: bank accounts at 0.97 here showed
that the turn before may name two things ("which bank account should we credit?"). A number that stands alone is mostly
an answer: the turn before it is given as well, which a gateway always has but for the first. Seeded, none of it
anybody's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise

from policy.lookalikes import VALUES, checked, digits, letters

from appliance.policy.checksums import luhn
from appliance.policy.digits import ZEROS
from appliance.policy.personal import Kind

# of numbers that stand alone, how many answer a question
ANSWERS = 0.9

SAID: dict[Kind, tuple[str, ...]] = {
    Kind.AADHAAR: (
        "Please update my Aadhaar to {}", "aadhaar card no {} linked hai kya", "आधार कार्ड: {}", "my adhaar is {} sir",
        "ആധാർ നമ്പർ {} ആണ്", "ஆதார் அட்டை எண்: {}", "আধার কার্ডের নম্বর {}", "UIDAI number {} for kyc",
    ),
    Kind.PAN: ("pan no {} please verify", "{} is my PAN", "here it is {}", "पैन कार्ड {} जोड़ दीजिए"),
    Kind.GSTIN: ("company gstin: {}", "raise the bill on {}", "GST {} hai"),
    Kind.BANK_ACCOUNT: (
        "please credit account {}", "acc no. {} with SBI", "ac number is wrong, bank account {}", "खाता संख्या {} में भेजें",
        "வங்கி கணக்கு {}", "బ్యాంకు ఖాతా {}", "UTIB0000123 and {}", "paisa is khate me bhejo {}",
    ),
    Kind.UPI: ("gpay kar do {}", "{} is my upi id", "refund on {} only"),
    Kind.VOTER_ID: ("voter card number {}", "my EPIC is {}", "वोटर आईडी {} है"),
    Kind.PASSPORT: ("passport number is {}", "पासपोर्ट {} है", "my passport {} expires soon"),
    Kind.DRIVING_LICENCE: ("licence no {}", "DL: {}", "मेरा लाइसेंस {} है", "dl number {} check karo"),
    Kind.PHONE: (
        "my number is {}", "you can reach me at {}", "मेरा नंबर {} है", "mera number {} hai",
        "please call back {} after 6",
        "alternate mobile {}", "delivery boy should call {}", "contact no {} pls", "என் தொலைபேசி எண் {}", "నా మొబైల్ నంబర్ {}",
        "আমার মোবাইল নম্বর {}", "whatsapp: {}", "+91 {}", "Ph. {}", "{} pe call karna",
    ),
    Kind.EMAIL: ("email: {}", "{} is my mail id", "ईमेल {} पर भेज दीजिए", "cc {} also"),
    Kind.CARD: (
        "card number {} was charged twice", "my credit card {}", "mastercard {} declined", "क्रेडिट कार्ड {} ब्लॉक करें",
        "rupay card {} not working", "debit {} please block",
    ),
}  # fmt: skip
# what an agent asks before a number that stands alone
ASKS: dict[Kind, tuple[str, ...]] = {
    Kind.AADHAAR: ("Please share your Aadhaar number.", "अपना आधार नंबर बताइए"),
    Kind.PAN: ("May I have your PAN?",),
    Kind.GSTIN: ("What is your GSTIN?",),
    Kind.BANK_ACCOUNT: ("Which bank account should we credit?", "कृपया खाता नंबर भेजें"),
    Kind.UPI: ("Your UPI id please?",),
    Kind.VOTER_ID: ("Please send the voter id number.",),
    Kind.PASSPORT: ("Kindly give the passport number.",),
    Kind.DRIVING_LICENCE: ("What is your driving licence number?",),
    Kind.PHONE: ("Please share your registered mobile number.", "आपका फोन नंबर क्या है?",
                 "On which number may we call you?"),
    Kind.EMAIL: ("Which email should we use?",),
    Kind.CARD: ("Please type the card number.", "कार्ड नंबर बताइए"),
}  # fmt: skip
# kinds that are told by their shape where nothing is around them
_ALONE = (Kind.PAN, Kind.GSTIN, Kind.UPI, Kind.DRIVING_LICENCE, Kind.EMAIL)
_ALL_DIGITS = (Kind.AADHAAR, Kind.BANK_ACCOUNT, Kind.PHONE, Kind.CARD)


def _written(rng: random.Random, kind: Kind) -> str:
    value = VALUES[kind](rng)
    if kind is Kind.AADHAAR and rng.random() < 0.5:
        value = rng.choice(" -.").join((value[:4], value[4:8], value[8:]))
    elif kind is Kind.CARD and rng.random() < 0.5:
        sign = rng.choice(" -")
        cuts = (0, 4, 10, 15) if len(value) == 15 else (0, 4, 8, 12, 16)
        value = sign.join(value[a:b] for a, b in pairwise(cuts))
    elif kind is Kind.PHONE and rng.random() < 0.4:
        sign = rng.choice(" -")
        value = sign.join((value[:5], value[5:]) if rng.random() < 0.6 else (value[:3], value[3:6], value[6:]))
    if kind in _ALL_DIGITS and rng.random() < 0.15:
        zero = rng.choice(ZEROS[:14])
        value = "".join(chr(zero + int(c)) if c.isdigit() else c for c in value)
    return value


def personal(rng: random.Random, kind: Kind) -> tuple[str, str, str]:
    """A turn, the turn before it, and the value in it."""
    value = _written(rng, kind)
    if rng.random() < 0.15:  # it stands alone
        answers = kind not in _ALONE and (kind not in (Kind.PHONE, Kind.CARD) or rng.random() < ANSWERS)
        return value, rng.choice(ASKS[kind]) if answers else "", value
    return rng.choice(SAID[kind]).format(value), "", value


def _imei(rng: random.Random) -> str:
    return checked(rng.choice(("35", "86", "01")) + digits(rng, 12), luhn)


NUMBERS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("waybill", lambda rng: digits(rng, 13, "123456789")),  # Delhivery
    ("waybill", lambda rng: digits(rng, 10, "123456789")),  # Ecom Express, Gati
    ("waybill", lambda rng: digits(rng, rng.choice([14, 15]), "123456789")),  # XpressBees
    ("waybill", lambda rng: f"FMP{rng.choice('CP')}{digits(rng, 10)}"),  # Ekart
    ("waybill", lambda rng: f"SF{digits(rng, 9)}{letters(rng, 2)}"),  # Shadowfax
    ("waybill", lambda rng: f"E{letters(rng, 1)}{digits(rng, 9)}IN"),  # Speed Post
    ("waybill", lambda rng: digits(rng, 11, "123456789")),  # Blue Dart
    ("waybill", lambda rng: f"{letters(rng, 3)}{digits(rng, 9)}"),  # Professional Couriers
    ("waybill", lambda rng: digits(rng, 12, "123456789")),  # Trackon, e-way bills
    ("order", lambda rng: f"40{digits(rng, 1)}-{digits(rng, 7)}-{digits(rng, 7)}"),  # Amazon
    ("order", lambda rng: f"OD{digits(rng, 18)}"),  # Flipkart
    ("order", lambda rng: digits(rng, 8, "123456789")),  # Shiprocket
    ("order", lambda rng: digits(rng, rng.choice([15, 17]), "123456789")),  # food and groceries
    ("order", lambda rng: f"{digits(rng, 7)}-{digits(rng, 7)}-{digits(rng, 7)}"),  # Myntra
    ("order", lambda rng: digits(rng, 10, "123456789")),  # rides, food
    ("order", lambda rng: f"INV/{digits(rng, 2)}-{digits(rng, 2)}/{digits(rng, 6)}"),
    ("order", lambda rng: f"MMT{digits(rng, 10)}"),
    ("order", lambda rng: digits(rng, 16, "123456789")),  # Meesho
    ("tracking", lambda rng: digits(rng, 10, "123456789")),  # PNR
    ("tracking", lambda rng: digits(rng, 12, "123456789")),  # UPI reference
    ("tracking", lambda rng: f"{letters(rng, 4)}R{digits(rng, 17)}"),  # UTR of a bank
    ("tracking", _imei),
    ("tracking", lambda rng: digits(rng, 13, "123456789")),  # bar codes
    ("tracking", lambda rng: f"CRN{digits(rng, 9)}"),
)
# said of any of them
NAMED = (
    "status of order {} please", "order no. {} abhi tak nahi aaya", "Track {}", "AWB number {} not moving",
    "waybill: {}",
    "your courier lost {}", "parcel {} kab aayega", "ऑर्डर {} रद्द करें", "मेरा पार्सल {} कहाँ है", "शिपमेंट {} नहीं मिला",
    "ஆர்டர் {} வரவில்லை", "పార్సిల్ {} రాలేదు", "ಆರ್ಡರ್ {} ಬಂದಿಲ್ಲ", "অর্ডার {} আসেনি", "ഓർഡർ {} എവിടെ", "ઓર્ડર {} આવ્યો નથી",
    "ਆਰਡਰ {} ਨਹੀਂ ਆਇਆ", "ଅର୍ଡର {} ଆସିନାହିଁ", "آرڈر {} نہیں ملا", "booking {} cancel kar do", "transaction {} failed",
    "complaint no {} ka kya hua", "delivery of {} is delayed", "invoice no {} is wrong", "imei {} is not registering",
    "reference {} given by your agent", "shipment {}: wrong address", "return request for {}",
    "ticket {} not confirmed",
)  # fmt: skip
ASKED_FOR = (
    "Please share your order number.", "What is the AWB number?", "कृपया ऑर्डर नंबर बताइए", "Your tracking number please?",
    "ஆர்டர் எண் என்ன?", "Could you give me the PNR?", "Which shipment is it?", "Please send the waybill number.",
)  # fmt: skip


def number(rng: random.Random) -> tuple[str, str, str]:
    """A turn about a number that is nobody's data, the turn before it, and which family of numbers it is of."""
    family, make = rng.choice(NUMBERS)
    value = make(rng)
    if rng.random() < 0.1:  # it stands alone
        return value, rng.choice(ASKED_FOR) if rng.random() < ANSWERS else "", family
    return rng.choice(NAMED).format(value), "", family


# what tenants of the held-out carriers might declare: as broad as it gets, and what their numbers begin with
FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[0-9]{8,17}", r"[A-Z]{2,4}[0-9]{7,12}(IN|[A-Z]{2})?", r"[A-Z]{4}R[0-9]{17}", r"OD[0-9]{18}",
        r"[0-9]{3,7}-[0-9]{7}-[0-9]{7}",
    )
)  # fmt: skip
