"""Words whose full stop does not end a sentence: abbreviations and the names of Latin letters, per script.

What it is: four tables for ``sentences``, in lower case and NFC.
What it refuses to be: complete. A missing abbreviation costs a sentence cut in two, a wrong one two in one.
"""

from __future__ import annotations

import unicodedata


def words(text: str) -> frozenset[str]:
    """The words of ``text`` in NFC; a table that reads as one."""
    return frozenset(unicodedata.normalize("NFC", text).split())


# Followed by a name or a thing, so a sentence never ends here.
LEADS = words(
    """mr mrs ms dr prof st smt shri sri km kum pt rev hon gen col capt maj lt sgt adv er pvt govt dept rs inr viz
    vs cf e.g i.e approx est nr ref mt ft messrs
    max min avg vert horiz imp addr alt qty amt acct incl excl
    डॉ डा श्री श्रीमती सुश्री कु पं प्रो मो रु रू मि सौ उदा इंजी ॲड एड स्व मु
    ড ডা ডঃ ড° মো শ্রী শ্রীমতী রু প্রো শ্ৰী শ্ৰীমতী
    ਡਾ ਸ਼੍ਰੀ ਸ੍ਰੀ ਸ਼੍ਰੀਮਤੀ ਰੁ ਪ੍ਰੋ ਸ
    ડૉ ડો ડા શ્રી શ્રીમતી રૂ પ્રો કુ
    ଡା ଡ ଡଃ ଶ୍ରୀ ଶ୍ରୀମତୀ ପ୍ରୋ
    திரு திருமதி செல்வி டாக்டர் டாக் ரூ பேரா
    డా శ్రీ శ్రీమతి రూ ప్రొ కుమారి
    ಡಾ ಶ್ರೀ ಶ್ರೀಮತಿ ರೂ ಪ್ರೊ
    ഡോ ശ്രീ ശ്രീമതി രൂ പ്രൊഫ അഡ്വ
    """
)
# An abbreviation before a number only: "No. 5", but "No. I did not."
COUNTS = words(
    """no nos fig art sec vol pp p ch para cl नं क्र सं पृ नंबर ता दि নং ਨੰ નં ક્ર ନଂ எண் నం ನಂ നം ps flat plot tel ph mob"""
)
# An abbreviation that may well be the last word; it ends the sentence where a capital letter or no Latin follows.
MAY_END = words(
    """etc ltd inc co corp jr sr bros dist a.m p.m am pm jan feb mar apr jun jul aug sep sept oct nov dec"""
)
LETTER_NAMES = words(
    """ए बी सी डी ई एफ जी एच आई जे के एल एम एन ओ पी क्यू आर एस टी यू वी डब्ल्यू एक्स वाई जेड
    এ বি সি ডি ই এফ জি এইচ আই জে কে এল এম এন ও পি আর এস টি ইউ ভি এক্স ওয়াই
    ਏ ਬੀ ਸੀ ਡੀ ਈ ਐਫ ਜੀ ਐਚ ਆਈ ਜੇ ਕੇ ਐਲ ਐਮ ਐਨ ਓ ਪੀ ਆਰ ਐਸ ਟੀ ਯੂ ਵੀ
    એ બી સી ડી ઈ એફ જી એચ આઈ જે કે એલ એમ એન ઓ પી આર એસ ટી યુ વી
    ஏ பி சி டி இ எஃப் ஜி எச் ஐ ஜே கே எல் எம் என் ஓ பி ஆர் எஸ் டி யு வி
    ఎ బి సి డి ఇ ఎఫ్ జి హెచ్ ఐ జె కె ఎల్ ఎం ఎన్ ఓ పి ఆర్ ఎస్ టి యు వి
    ಎ ಬಿ ಸಿ ಡಿ ಇ ಎಫ್ ಜಿ ಎಚ್ ಐ ಜೆ ಕೆ ಎಲ್ ಎಂ ಎನ್ ಓ ಪಿ ಆರ್ ಎಸ್ ಟಿ ಯು ವಿ
    എ ബി സി ഡി ഇ എഫ് ജി എച്ച് ഐ ജെ കെ എൽ എം എൻ ഒ പി ആർ എസ് ടി യു വി"""
)
