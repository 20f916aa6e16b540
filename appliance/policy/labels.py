"""The words that say what a number is: "my Aadhaar is …", "ऑर्डर नंबर …", "நிலை …".

What it is: ``labels(text)``, every such word with its place, in English, romanised Hindi and the scripts of India.
``ORDER`` labels speak against personal data: a waybill, an order, a booking, an amount. ``MINE`` ("my number is …")
says that it is theirs and not what it is.
What it refuses to be: a dictionary of everything. A number that no label is near is judged by its own shape.
What it costs: a look-up a word, about 15 µs for 200 characters; only asked of what stands near a number.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct


class Label(StrEnum):
    """What a word says of the number beside it."""

    AADHAAR = "aadhaar"
    PAN = "pan"
    GSTIN = "gstin"
    ACCOUNT = "bank_account"
    UPI = "upi"
    VOTER = "voter_id"
    PASSPORT = "passport"
    LICENCE = "driving_licence"
    PHONE = "phone"
    CARD = "card"
    ORDER = "order"
    MINE = "mine"


class Labelled(Struct, frozen=True):
    """A label and where it stands, in code points."""

    label: Label
    start: int
    end: int


# Latin words match whole; others also with what their language hangs on them (आधारका, ஆதாரின்).
_LATIN: dict[Label, str] = {
    Label.AADHAAR: "aadhaar aadhar adhaar adhar aadhaarcard aadharcard uid uidai vid",
    Label.PAN: "pan pancard",
    Label.GSTIN: "gst gstin",
    Label.ACCOUNT: "account accounts acct a/c acc khata khaata khate khaate bank banking beneficiary savings ifsc",
    Label.UPI: "upi vpa gpay googlepay phonepe bhim paytm",
    Label.VOTER: "voter voters epic matdata",
    Label.PASSPORT: "passport passports",
    Label.LICENCE: "driving licence license dl",
    Label.PHONE: (
        "phone mobile mob cell contact call calling callback whatsapp telephone tel fon sms landline reach number's ph"
        " ring dial"
    ),
    Label.CARD: "card cards debit credit visa mastercard rupay maestro amex cvv expiry",
    Label.ORDER: (
        "order orders awb waybill waybills ewaybill track tracking shipment shipments ship shipped consignment docket"
        " parcel package courier delivery deliver invoice bill booking booked pnr ticket ref reference complaint"
        " request case transaction txn utr rrn receipt policy application serial imei model coupon voucher otp pin"
        " pincode amount rs inr quantity qty sku item product meter consumer batch lot return suborder ean barcode"
        " cn lrn"
    ),
}
_OTHER: dict[Label, str] = {
    Label.AADHAAR: "आधार আধার આધાર ਆਧਾਰ ଆଧାର ஆதார் ஆதார ఆధార్ ಆಧಾರ್ ആധാർ ആധാര് آدھار آڌار ᱟᱫᱷᱟᱨ",
    Label.PAN: "पैन पॅन প্যান পেন-কার্ড પાન ਪੈਨ ପ୍ୟାନ ପାନ பான் పాన్ ಪ್ಯಾನ್ പാൻ پین",
    Label.GSTIN: "जीएसटी জিএসটি જીએસટી ਜੀਐਸਟੀ ଜିଏସଟି ஜிஎஸ்டி జీఎస్టీ ಜಿಎಸ್‌ಟಿ ಜಿಎಸ್ಟಿ ജിഎസ്ടി جیایسٹی",
    Label.ACCOUNT: (
        "खाता खाते खात्या अकाउंट बैंक बँक অ্যাকাউন্ট একাউন্ট হিসাব ব্যাংক ব্যাঙ্ক বেংক ખાતા ખાતું એકાઉન્ટ બેંક ਖਾਤਾ ਖਾਤੇ ਬੈਂਕ "
        "ଖାତା ବ୍ୟାଙ୍କ கணக்கு வங்கி ఖాతా బ్యాంకు ఖాతాను ಖಾತೆ ಬ್ಯಾಂಕ್ അക്കൗണ്ട് ബാങ്ക് اکاؤنٹ کھاتہ بینک"
    ),
    Label.UPI: "यूपीआई ইউপিআই યુપીઆઈ ਯੂਪੀਆਈ ୟୁପିଆଇ யுபிஐ యూపీఐ ಯುಪಿಐ യുപിഐ یوپیآئی",
    Label.VOTER: "मतदाता वोटर ভোটার મતદાર ચૂંટણી ਵੋਟਰ ଭୋଟର வாக்காளர் ఓటరు ಮತದಾರ വോട്ടർ ووٹر",
    Label.PASSPORT: "पासपोर्ट পাসপোর্ট পাছপৰ্ট પાસપોર્ટ ਪਾਸਪੋਰਟ ପାସପୋର୍ଟ பாஸ்போர்ட் కடவుచీటి పాస్‌పోర్ట్ ಪಾಸ್‌ಪೋರ್ಟ್ പാസ്പോർട്ട് പാസ്‌പോർട്ട് پاسپورٹ",
    Label.LICENCE: "लाइसेंस लायसन्स लाइसेन्स লাইসেন্স লাইচেঞ্চ લાઇસન્સ ਲਾਇਸੈਂਸ ଲାଇସେନ୍ସ உரிமம் లైసెన్స్ ಪರವಾನಗಿ ലൈസൻസ് لائسنس",
    Label.PHONE: (
        "फोन फ़ोन मोबाइल मोबाईल संपर्क कॉल व्हाट्सएप व्हॉट्सअॅप ফোন মোবাইল যোগাযোগ কল ફોન મોબાઇલ સંપર્ક ਫੋਨ ਫ਼ੋਨ ਮੋਬਾਈਲ ਸੰਪਰਕ "
        "ଫୋନ ମୋବାଇଲ தொலைபேசி மொபைல் கைபேசி போன் ఫోన్ మొబైల్ ಫೋನ್ ಮೊಬೈಲ್ ದೂರವಾಣಿ ഫോൺ മൊബൈൽ فون موبائل رابطہ فۆن"
    ),
    Label.CARD: "कार्ड डेबिट क्रेडिट কার্ড কাৰ্ড કાર્ડ ਕਾਰਡ କାର୍ଡ அட்டை கார்டு కార్డు కార్డ్ ಕಾರ್ಡ್ കാർഡ് کارڈ",
    Label.ORDER: (
        "ऑर्डर आर्डर आदेश ट्रैकिंग ट्रॅकिंग शिपमेंट पार्सल डिलीवरी कूरियर कुरियर बिल चालान बुकिंग टिकट संदर्भ शिकायत तक्रार रसीद पावती "
        "অর্ডার অৰ্ডাৰ ট্র্যাকিং পার্সেল কুরিয়ার বিল বুকিং টিকিট অভিযোগ ઓર્ડર ટ્રેકિંગ પાર્સલ કુરિયર બિલ બુકિંગ ટિકિટ ફરિયાદ "
        "ਆਰਡਰ ਟਰੈਕਿੰਗ ਪਾਰਸਲ ਕੋਰੀਅਰ ਬਿੱਲ ਬੁਕਿੰਗ ਟਿਕਟ ਸ਼ਿਕਾਇਤ ଅର୍ଡର ଟ୍ରାକିଂ ପାର୍ସଲ କୁରିଅର ବିଲ ବୁକିଂ ଟିକେଟ ଅଭିଯୋଗ "
        "ஆர்டர் ஆணை கண்காணிப்பு பார்சல் கூரியர் பில் ரசீது முன்பதிவு டிக்கெட் புகார் ఆర్డర్ ట్రాకింగ్ పార్సిల్ కొరియర్ బిల్లు బుకింగ్ టికెట్ ఫిర్యాదు "
        "ಆರ್ಡರ್ ಟ್ರ್ಯಾಕಿಂಗ್ ಪಾರ್ಸೆಲ್ ಕೊರಿಯರ್ ಬಿಲ್ ಬುಕಿಂಗ್ ಟಿಕೆಟ್ ದೂರು ഓർഡർ ട്രാക്കിംഗ് പാഴ്സൽ കൊറിയർ ബിൽ ബുക്കിംഗ് ടിക്കറ്റ് പരാതി "
        "آرڈر ٹریکنگ پارسل کوریئر بل بکنگ ٹکٹ شکایت"
    ),
}


# "my number", of which each half says nothing: whose it is, then that it is one
_MY = (
    "my mera meri apna mine hamara मेरा मेरे माझा माझे मम मेरो আমার মোৰ મારો મારા ਮੇਰਾ ਮੇਰੇ ମୋର ମୋ என் என்னுடைய எனது నా"
    " నాది ನನ್ನ എന്റെ میرا میرے منهنجو"
)
_A_NUMBER = (
    "number num no nmbr nambar numbr नंबर नम्बर नं क्रमांक संख्या নম্বর নাম্বার નંબર ਨੰਬਰ ନମ୍ବର எண் நம்பர் నంబర్ నెంబర్"
    " ನಂಬರ್ ಸಂಖ್ಯೆ നമ്പർ നമ്പര് نمبر"
)


def _bare(word: str) -> str:
    """Without the joiners that some write and others do not."""
    return word.replace("\u200c", "").replace("\u200d", "")


_EXACT = {word: label for label, words in _LATIN.items() for word in words.split()}
_STEMS = {_bare(word): label for label, words in _OTHER.items() for word in words.split()}
# the lengths of the stems that begin so, the longest first: most words begin like none
_LENGTHS: dict[str, tuple[int, ...]] = {
    start: tuple(sorted({len(stem) for stem in _STEMS if stem[:2] == start}, reverse=True))
    for start in {stem[:2] for stem in _STEMS}
}
_THEIRS = frozenset(map(_bare, _MY.split()))
_NUMBERS = frozenset(map(_bare, _A_NUMBER.split()))
_ON_CARDS = frozenset((Label.AADHAAR, Label.PAN, Label.VOTER, Label.LICENCE))
# what stands between words: blanks, ASCII digits and signs, but neither joiners nor vowel signs. Spelled out: classes
# such as \s and IGNORECASE are twice the price.
_BETWEEN = r"\x00-@\[-`{-~\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000।॥،؛۔"
_WORD = re.compile(rf"(?<![A-Za-z])[aA]/[cC](?![A-Za-z])|[^{_BETWEEN}]+")


def labels(text: str, begin: int = 0, end_at: int | None = None) -> list[Labelled]:
    """Every label of ``text``, or of ``text[begin:end_at]`` where that cuts no word, in order."""
    found: list[Labelled] = []
    whose = -9  # where a word ended that says whose the next one is
    for match in _WORD.finditer(text, begin, len(text) if end_at is None else end_at):
        word = match[0].lower()
        label = _label_of(word)
        if label is None:
            if word in _THEIRS:
                whose = match.end()
            elif whose + 2 >= match.start() and _bare(word) in _NUMBERS:
                found.append(Labelled(Label.MINE, *match.span()))
            continue
        start, end = match.span()
        if label is Label.CARD and found and found[-1].end + 2 >= start and found[-1].label in _ON_CARDS:
            label, start = found[-1].label, found.pop().start  # "voter card" is about a voter
        found.append(Labelled(label, start, end))
    return found


def _label_of(word: str) -> Label | None:
    if word.isascii():
        return _EXACT.get(word)
    if "\u200c" in word or "\u200d" in word:
        word = _bare(word)
    for length in _LENGTHS.get(word[:2], ()):
        if (label := _STEMS.get(word[:length])) is not None:
            return label
    return None
