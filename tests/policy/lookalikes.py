"""Generated personal data and the numbers that look like it: for tests, seeded, none of it anybody's."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from appliance.policy.checksums import gstin, luhn, verhoeff
from appliance.policy.digits import ZEROS
from appliance.policy.personal import Kind

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HANDLES = ("@okaxis", "@ybl", "@sbi", "@upi", "@paytm")
_ENDINGS = (".com", ".co.in", ".in", ".org")
_ALL = "0123456789" + _UPPER


def digits(rng: random.Random, size: int, first: str = "0123456789") -> str:
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(size - 1))


def letters(rng: random.Random, size: int) -> str:
    return "".join(rng.choice(_UPPER) for _ in range(size))


def checked(stem: str, passes: Callable[[str], bool], alphabet: str = "0123456789") -> str:
    """``stem`` with the check character that ``passes`` asks for."""
    return next(stem + last for last in alphabet if passes(stem + last))


def grouped(number: str, sign: str = " ") -> str:
    return sign.join(number[i : i + 4] for i in range(0, len(number), 4))


def aadhaar(rng: random.Random) -> str:
    return checked(digits(rng, 11, "23456789"), verhoeff)


def card(rng: random.Random) -> str:
    prefix, size = rng.choice([("4", 16), ("52", 16), ("60", 16), ("65", 16), ("37", 15), ("508", 16), ("2230", 16)])
    return checked(prefix + digits(rng, size - 1 - len(prefix)), luhn)


def pan(rng: random.Random) -> str:
    return letters(rng, 3) + rng.choice("ABCFGHLJPT") + letters(rng, 1) + digits(rng, 4) + letters(rng, 1)


def mobile(rng: random.Random) -> str:
    return digits(rng, 10, "6789")


VALUES: dict[Kind, Callable[[random.Random], str]] = {
    Kind.AADHAAR: aadhaar,
    Kind.PAN: pan,
    Kind.GSTIN: lambda rng: checked(f"{rng.randint(1, 37):02d}{pan(rng)}{rng.choice('123456789')}Z", gstin, _ALL),
    Kind.BANK_ACCOUNT: lambda rng: digits(rng, rng.randint(9, 18)),
    Kind.UPI: lambda rng: letters(rng, 6).lower() + rng.choice(["", ".k", "-9"]) + rng.choice(_HANDLES),
    Kind.VOTER_ID: lambda rng: letters(rng, 3) + digits(rng, 7),
    Kind.PASSPORT: lambda rng: rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") + digits(rng, 7, "123456789"),
    Kind.DRIVING_LICENCE: lambda rng: (
        f"{rng.choice(['KA', 'MH', 'DL', 'TN', 'UP'])}{rng.choice(['', '-', ' '])}{rng.randint(1, 99):02d}"
        f"{rng.choice(['', ' '])}{rng.randint(1985, 2025)}{digits(rng, 7)}"
    ),
    Kind.PHONE: mobile,
    Kind.EMAIL: lambda rng: (
        f"{letters(rng, 5).lower()}.{letters(rng, 4).lower()}@{letters(rng, 6).lower()}" + rng.choice(_ENDINGS)
    ),
    Kind.CARD: card,
}

# How people say it, {} being the number; a form without a label stands only where the number needs none.
SAID: dict[Kind, tuple[str, ...]] = {
    Kind.AADHAAR: (
        "my aadhaar number is {}", "Aadhar: {}", "mera aadhar no {} hai", "मेरा आधार नंबर {} है", "ನನ್ನ ಆಧಾರ್ ಸಂಖ್ಯೆ {}",
        "என் ஆதார் எண் {}", "నా ఆధార్ నంబర్ {}", "আমার আধার নম্বর {}", "മാഡം ആധാർ {} ആണ്", "મારો આધાર નંબર {} છે",
        "ਮੇਰਾ ਆਧਾਰ ਨੰਬਰ {} ਹੈ", "ମୋ ଆଧାର ନମ୍ବର {}", "میرا آدھار نمبر {} ہے", "{} is my UID",
        "order 123456 is late, my aadhaar is {} for the check",
    ),
    Kind.PAN: ("PAN {}", "my pan card no. is {}", "पैन नंबर {} है", "{}", "pan card: {} and name Asha"),
    Kind.GSTIN: ("GSTIN {}", "our gst no is {}", "{}", "जीएसटी {}", "bill to {} please"),
    Kind.BANK_ACCOUNT: (
        "account number {}", "a/c no: {}", "refund to HDFC0001234 {}", "मेरा खाता नंबर {} है", "mera khata {} SBI",
        "என் கணக்கு எண் {}", "ఖాతా నంబర్ {}", "ಖಾತೆ ಸಂಖ್ಯೆ {}", "credit it to my bank a/c {}", "IFSC SBIN0004321, {}",
        "অ্যাকাউন্ট নম্বর {}", "ખાતા નંબર {}",
    ),
    Kind.UPI: ("my upi is {}", "send to {}", "{}", "यूपीआई {} पर भेजो"),
    Kind.VOTER_ID: ("voter id {}", "EPIC no {}", "मतदाता पहचान पत्र {}", "வாக்காளர் அட்டை {}", "my voter card is {}"),
    Kind.PASSPORT: ("passport {}", "my passport no. is {}", "पासपोर्ट नंबर {}", "பாஸ்போர்ட் {}"),
    Kind.DRIVING_LICENCE: ("driving licence {}", "DL no {}", "{}", "ड्राइविंग लाइसेंस {}"),
    Kind.PHONE: (
        "call me on {}", "my mobile is {}", "{}", "+91 {}", "+91-{}", "0{}", "मेरा फोन नंबर {} है", "whatsapp {} pe karo",
        "மொபைல் {}", "ఫోన్ {}", "order late, call {}", "please ring 91{} now", "{} is my number", "contact: {}.",
        "ফোন {}", "فون نمبر {}", "({})",
    ),
    Kind.EMAIL: ("mail me at {}", "{}", "<{}>", "मेरा ईमेल {} है", "write to {}."),
    Kind.CARD: ("my card is {}", "{}", "कार्ड नंबर {}", "debit card {} exp 12/27", "visa {} cvv 123"),
}  # fmt: skip
_MAY_BE_GROUPED = {Kind.AADHAAR, Kind.CARD}
_ALL_DIGITS = {Kind.AADHAAR, Kind.BANK_ACCOUNT, Kind.PHONE, Kind.CARD}


def personal(rng: random.Random, kind: Kind) -> tuple[str, str]:
    """A sentence and the value in it."""
    value = VALUES[kind](rng)
    if kind in _MAY_BE_GROUPED and len(value) % 4 == 0 and rng.random() < 0.6:
        value = grouped(value, rng.choice(" -"))
    elif kind is Kind.PHONE and rng.random() < 0.3:
        value = f"{value[:5]} {value[5:]}"
    elif kind is Kind.PAN and rng.random() < 0.2:
        value = value.lower()
    if kind in _ALL_DIGITS and rng.random() < 0.25:
        zero = rng.choice(ZEROS[:14])
        value = "".join(chr(zero + int(c)) if c.isdigit() else c for c in value)
    return rng.choice(SAID[kind]).format(value), value


# Numbers of Indian carriers, shops and railways, as their own pages show them.
SHAPES: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: digits(rng, rng.choice([10, 12, 13, 14]), "123456789"),  # Delhivery, Xpressbees, Ecom Express
    lambda rng: digits(rng, rng.choice([8, 9, 11]), "123456789"),  # Blue Dart
    lambda rng: letters(rng, 1) + digits(rng, 8),  # DTDC
    lambda rng: f"{letters(rng, 2)}{digits(rng, 9)}IN",  # India Post (UPU S10)
    lambda rng: digits(rng, 12, "123456789"),  # FedEx, e-way bills
    lambda rng: f"{digits(rng, 3, '14')}-{digits(rng, 7)}-{digits(rng, 7)}",  # Amazon
    lambda rng: f"OD{digits(rng, 18)}",  # Flipkart
    lambda rng: digits(rng, 10, "123456789"),  # PNR
    lambda rng: digits(rng, 16, "123456789"),  # Meesho, and UTR numbers
    lambda rng: f"{letters(rng, 3)}{digits(rng, 7)}",  # agents' dockets
    lambda rng: f"{letters(rng, 4)}{digits(rng, 12)}",
    lambda rng: digits(rng, 15, "123456789"),  # IMEI
)
ORDERED = (
    "order {}", "my order number is {}", "AWB {}", "where is waybill {}?", "tracking no. {}", "shipment {} is late",
    "मेरा ऑर्डर {} कहाँ है", "ऑर्डर नंबर {} कब आएगा", "ஆர்டர் எண் {}", "ఆర్డర్ నంబర్ {}", "ಆರ್ಡರ್ ಸಂಖ್ಯೆ {}", "অর্ডার নম্বর {}",
    "ഓർഡർ നമ്പർ {}", "ઓર્ડર નંબર {}", "ਆਰਡਰ ਨੰਬਰ {}", "ଅର୍ଡର ନମ୍ବର {}", "آرڈر نمبر {}", "pnr {} status", "invoice {}",
    "order id {} ka status batao", "please check docket {} and cancel it", "ref {}", "parcel {} not received",
)  # fmt: skip
# what a tenant of these carriers would put into its settings
FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[0-9]{8,16}", r"[A-Z][0-9]{8}", r"[A-Z]{2}[0-9]{9}IN", r"[14][0-9]{2}-[0-9]{7}-[0-9]{7}", r"OD[0-9]{18}",
        r"[A-Z]{3}[0-9]{7}", r"[A-Z]{4}[0-9]{12}",
    )
)  # fmt: skip
