"""The invented enterprise of the demo: tenants, intents, languages, channels, engines and what they cost.

What it is: numbers somebody made up to look like a contact centre's month. None of them was measured.
What it refuses to be: a default of anything. Nothing outside of the demo reads it.
"""

from __future__ import annotations

from msgspec import Struct


class DemoTenant(Struct, frozen=True):
    """``outcomes``: the share of its conversations whose outcome its systems report."""

    id: str
    name: str
    residency: str
    weight: float
    outcomes: float


class DemoIntent(Struct, frozen=True):
    """``turns`` and tokens are means; ``resolved`` and ``escalates`` shares of conversations."""

    name: str
    tenants: tuple[str, ...]
    weight: float
    turns: float
    prompt: int
    completion: int
    resolved: float
    escalates: float
    value_class: str = "standard"


class DemoLanguage(Struct, frozen=True):
    """``route`` is where a question in it starts; ``resolved`` is what it takes off (or adds to) the intent's share."""

    tag: str
    weight: float
    route: str
    resolved: float


class DemoEngine(Struct, frozen=True):
    """A local engine and the nanoseconds its work takes."""

    name: str
    model: str
    prompt_token_ns: float = 0.0
    completion_token_ns: float = 0.0
    audio_s_ns: float = 0.0
    character_ns: float = 0.0


TENANTS = (
    DemoTenant("demo-bank", "Demo Bank (simulated)", "hosted_redacted", 0.34, 0.72),
    DemoTenant("demo-telecom", "Demo Telecom (simulated)", "hosted_allowed", 0.29, 0.64),
    DemoTenant("demo-retail", "Demo Retail (simulated)", "hosted_allowed", 0.19, 0.55),
    DemoTenant("demo-hospital", "Demo Hospital (simulated)", "local_only", 0.11, 0.70),
    DemoTenant("demo-power", "Demo Power Utility (simulated)", "local_only", 0.07, 0.41),
)

_BANK, _TELECOM, _RETAIL, _HOSPITAL, _POWER = ((tenant.id,) for tenant in TENANTS)
INTENTS = (
    DemoIntent("खाता शेष", _BANK, 0.30, 2.1, 1400, 70, 0.91, 0.03),
    DemoIntent("card_block", _BANK, 0.16, 2.9, 1900, 110, 0.86, 0.06, "urgent"),
    DemoIntent("kyc_update", _BANK, 0.19, 4.6, 2600, 160, 0.69, 0.13),
    DemoIntent("loan_eligibility", _BANK, 0.14, 5.3, 3300, 240, 0.58, 0.27, "high_value"),
    DemoIntent("dispute_transaction", _BANK, 0.21, 5.0, 3000, 210, 0.49, 0.24),
    DemoIntent("ரீசார்ஜ்", _TELECOM, 0.31, 2.2, 1300, 75, 0.90, 0.03),
    DemoIntent("plan_change", _TELECOM, 0.27, 3.6, 2400, 150, 0.79, 0.09),
    DemoIntent("network_complaint", _TELECOM, 0.26, 4.2, 2100, 150, 0.55, 0.15),
    DemoIntent("bill_dispute", _TELECOM + _POWER, 0.30, 4.7, 2700, 190, 0.56, 0.19),
    DemoIntent("order_status", _RETAIL, 0.52, 2.0, 1500, 80, 0.93, 0.02),
    DemoIntent("refund", _RETAIL, 0.30, 3.9, 2200, 150, 0.71, 0.12),
    DemoIntent("product_advice", _RETAIL, 0.18, 4.1, 3100, 260, 0.66, 0.22, "high_value"),
    DemoIntent("appointment", _HOSPITAL, 0.63, 3.4, 1800, 100, 0.82, 0.0),
    DemoIntent("ലാബ് റിപ്പോർട്ട്", _HOSPITAL, 0.37, 2.7, 2000, 130, 0.74, 0.0, "sensitive"),
    DemoIntent("বিদ্যুৎ বিভ্রাট", _POWER, 0.66, 2.8, 1500, 90, 0.70, 0.0, "urgent"),
)

LANGUAGES = (
    DemoLanguage("hin_Deva", 0.37, "local", 0.0),
    DemoLanguage("eng_Latn", 0.23, "local", 0.03),
    DemoLanguage("tam_Taml", 0.09, "pivot", -0.03),
    DemoLanguage("tel_Telu", 0.08, "pivot", -0.03),
    DemoLanguage("ben_Beng", 0.07, "pivot", -0.04),
    DemoLanguage("mar_Deva", 0.06, "pivot", -0.02),
    DemoLanguage("kan_Knda", 0.04, "pivot", -0.05),
    DemoLanguage("mal_Mlym", 0.03, "pivot", -0.04),
    DemoLanguage("urd_Arab", 0.02, "pivot", -0.07),
    DemoLanguage("ory_Orya", 0.01, "pivot", -0.14),
)

CHANNELS = (("whatsapp", 0.47), ("voice", 0.15), ("ivr", 0.10), ("web", 0.21), ("api", 0.07))
SPOKEN = frozenset({"voice", "ivr"})

# by hour of the day, in the site's time
HOURS = (5, 3, 2, 2, 2, 4, 9, 20, 38, 60, 78, 86, 80, 66, 62, 66, 70, 74, 80, 84, 70, 46, 24, 11)
SUNDAY = 0.55

CHAT = DemoEngine("chat", "demo-8b-instruct", prompt_token_ns=60_000, completion_token_ns=620_000)
TRANSLATE = DemoEngine("translate", "demo-indictrans", character_ns=450_000)
TRANSCRIBE = DemoEngine("transcribe", "demo-whisper", audio_s_ns=55_000_000)
ENGINES = (CHAT, TRANSLATE, TRANSCRIBE)

HOSTED_ENGINE, PROVIDER, HOSTED_MODEL = "hosted", "google", "gemini-3.8-flash"
# USD a million units: standard and batch
PRICES = {
    "prompt_token": ("0.75", "0.375"),
    "cached_token": ("0.075", "0.0375"),
    "completion_token": ("3.75", "1.875"),
    "audio_s": ("32.00", "16.00"),
}
SERVER = {
    "purchase_usd": "14500",
    "lifetime_months": 36,
    "upkeep_usd_per_month": "210",
    "busy_w": 620,
    "idle_w": 190,
    "tariff_inr_per_kwh": "9.20",
    "inr_per_usd": "88.40",
}

# why a first answer was not good enough, by how often
ESCALATIONS = (
    ("low_confidence", 0.46),
    ("customer_asked", 0.15),
    ("schema_failed", 0.13),
    ("wrong_language", 0.10),
    ("entities_lost", 0.07),
    ("truncated", 0.06),
    ("repetition", 0.03),
)
