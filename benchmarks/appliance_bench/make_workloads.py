"""``python -m appliance_bench.make_workloads > workloads/pivot-chat.jsonl``: questions in Hindi, from a seed.

What it is: templates of our own filled in by chance; the same seed gives the same file, and a test compares.
What it refuses to be: natural traffic. Licence: the repository's, nobody's text is in it.
"""

from __future__ import annotations

import json
import random
import sys

SEED, COUNT = 20261126, 60
_THINGS = ("सूती साड़ी", "प्रेशर कुकर", "टेबल फैन", "चादर", "एलईडी बल्ब", "चावल का बोरा", "मिक्सर", "चप्पल")
_CITIES = ("जयपुर", "चेन्नई", "लखनऊ", "नागपुर", "कोच्चि", "गुवाहाटी", "इंदौर", "पटना")
_ASKED = (
    "मेरा {thing} का ऑर्डर {number} अभी तक {city} नहीं पहुँचा। वह कब आएगा?",
    "मैं {thing} वापस करना चाहता हूँ। मुझे क्या करना होगा?",
    "क्या मैं ऑर्डर {number} का पता बदलकर {city} कर सकता हूँ?",
    "{thing} टूटा हुआ आया है। कृपया बताइए कि पैसे कब वापस मिलेंगे।",
    "क्या {city} में {thing} के लिए डिलीवरी पर भुगतान हो सकता है?",
    "मुझसे ऑर्डर {number} के लिए दो बार पैसे लिए गए।",
)


def pivot_chat() -> str:
    """The file."""
    rng = random.Random(SEED)
    lines = []
    for _ in range(COUNT):
        text = rng.choice(_ASKED).format(
            thing=rng.choice(_THINGS), city=rng.choice(_CITIES), number=rng.randrange(10_000, 99_999)
        )
        lines.append(json.dumps({"text": text, "source": "hin_Deva", "max_tokens": 24}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(pivot_chat())
