"""What people say when an answer was not enough: "let me talk to a person", "no, that is wrong"; and how models refuse.

What it is: ``wants_a_person``, ``corrects`` and ``refuses`` over short lists in the 22 languages, English, and the
romanised forms of Hindi, Tamil, Telugu, Bengali and Marathi. A person is asked for by two things close together: whom
(a person, an agent, customer care) and what for (to talk, to connect, to call).
What it refuses to be: understanding. English, Hindi, Hinglish, Marathi, Bengali, Gujarati, Punjabi, Tamil, Telugu,
Kannada, Malayalam, Urdu, Odia, Nepali and Assamese were written with care, but by no panel of speakers; Konkani,
Maithili, Dogri, Sanskrit, Sindhi, Kashmiri, Bodo, Manipuri and Santali rest on the loanwords that call centres use
(agent, manager, customer care) and were checked by nobody. A complaint about customer care sounds like a wish for it.
What it costs: 0.1 ms or less for a turn of 200 characters; only its first 600 are read.
"""

from __future__ import annotations

import re
import unicodedata

_READ = 600
# whom people ask for: loanwords as call centres write them, and the language's own
_PERSONS = (
    # Latin: English and romanised
    "agent agents human humans person representative rep executive operator supervisor manager advisor adviser"
    " somebody someone insaan insan aadmi vyakti adhikari manushya manush maanush manishi manithan aal vyakthi"
    " maanushya manushyan vekti lok karmachari madhyam",
    # Devanagari: Hindi, Marathi, Nepali, Konkani, Maithili, Dogri, Bodo, Sanskrit, Sindhi
    "इंसान इन्सान आदमी व्यक्ति व्यक्ती एजेंट एजेन्ट एजंट अधिकारी मैनेजर म्यानेजर मॅनेजर"
    " प्रतिनिधि प्रतिनिधी सुपरवाइजर सुपरवायझर"
    " एक्जीक्यूटिव एक्झिक्युटिव्ह ऑपरेटर माणसा माणूस माणसाशी कर्मचारी मान्छे मनुष्य मनिस"
    " मनशा मनुक्ख मानुष मानसि माणहूं मनुष्येण जनेन",
    # Bengali, Assamese, Manipuri
    "মানুষ মানুষের ব্যক্তি এজেন্ট প্রতিনিধি ম্যানেজার অফিসার কর্মকর্তা অপারেটর সুপারভাইজার মানুহ মানুহৰ এজেণ্ট বিষয়া কৰ্মচাৰী মেনেজাৰ মী মীওই",
    "વ્યક્તિ માણસ એજન્ટ અધિકારી મેનેજર પ્રતિનિધિ એક્ઝિક્યુટિવ ઓપરેટર સુપરવાઇઝર",
    "ਇਨਸਾਨ ਬੰਦੇ ਬੰਦਾ ਵਿਅਕਤੀ ਏਜੰਟ ਅਧਿਕਾਰੀ ਮੈਨੇਜਰ ਨੁਮਾਇੰਦੇ ਆਪਰੇਟਰ ਸੁਪਰਵਾਈਜ਼ਰ",
    "ଲୋକ ମଣିଷ ବ୍ୟକ୍ତି ଏଜେଣ୍ଟ ଅଧିକାରୀ ମ୍ୟାନେଜର ପ୍ରତିନିଧି ଅପରେଟର",
    "மனிதர் மனிதரிடம் மனிதன் ஆள் ஆளிடம் நபர் நபரிடம் ஏஜென்ட் ஏஜெண்ட் முகவர் முகவரிடம்"
    " மேலாளர் மேலாளரிடம் அதிகாரி அதிகாரியிடம் பிரதிநிதி பிரதிநிதியிடம் ஊழியர்",
    "మనిషి మనిషితో వ్యక్తి వ్యక్తితో ఏజెంట్ ఏజెంట్‌తో అధికారి అధికారితో మేనేజర్ మేనేజర్‌తో ప్రతినిధి ప్రతినిధితో ఆపరేటర్",
    "ಮನುಷ್ಯ ಮನುಷ್ಯರ ವ್ಯಕ್ತಿ ವ್ಯಕ್ತಿಯ ಏಜೆಂಟ್ ಅಧಿಕಾರಿ ಮ್ಯಾನೇಜರ್ ಪ್ರತಿನಿಧಿ ಪ್ರತಿನಿಧಿಯ ಆಪರೇಟರ್",
    "മനുഷ്യ മനുഷ്യനോട് ആളോട് വ്യക്തി വ്യക്തിയോട് ഏജന്റ് ഏജന്റിനോട് ഉദ്യോഗസ്ഥ മാനേജർ മാനേജരോട് പ്രതിനിധി പ്രതിനിധിയോട് ഓപ്പറേറ്റർ",
    # Perso-Arabic: Urdu, Sindhi, Kashmiri
    "انسان آدمی بندے شخص ایجنٹ نمائندے نمائندہ مینیجر منیجر افسر آپریٹر سپروائزر ايجنٽ"
    " ماڻهو نمائندي مئنيجر آفيسر اِنسان نَفَر",
    # Ol Chiki and Meetei Mayek
    "ᱦᱚᱲ ᱮᱡᱮᱱᱴ ᱢᱮᱱᱮᱡᱚᱨ ᱟᱹᱯᱷᱤᱥᱚᱨ",
    "ꯃꯤ ꯃꯤꯑꯣꯏ ꯑꯦꯖꯦꯟꯇ ꯃꯦꯅꯦꯖꯔ",
)
_DESKS = (
    "customer care", "customer service", "customer support", "support team", "call centre", "call center",
    "कस्टमर केयर", "ग्राहक सेवा", "कस्टमर केअर", "कस्टमर सपोर्ट", "कॉल सेंटर", "कल सेन्टर",
    "গ্রাহক সেবা", "কাস্টমার কেয়ার", "কাষ্টমাৰ কেয়াৰ", "গ্ৰাহক সেৱা", "કસ્ટમર કેર", "ગ્રાહક સેવા",
    "ਕਸਟਮਰ ਕੇਅਰ", "ਗਾਹਕ ਸੇਵਾ", "କଷ୍ଟମର କେୟାର", "ଗ୍ରାହକ ସେବା", "வாடிக்கையாளர் சேவை", "கஸ்டமர் கேர்",
    "కస్టమర్ కేర్", "కస్టమర్ సర్వీస్", "ಕಸ್ಟಮರ್ ಕೇರ್", "ಗ್ರಾಹಕ ಸೇವೆ", "കസ്റ്റമർ കെയർ", "കസ്റ്റമർ സർവീസ്",
    "کسٹمر کیئر", "کسٹمر سروس", "ڪسٽمر ڪيئر", "ᱠᱟᱥᱴᱚᱢᱟᱨ ᱠᱮᱭᱟᱨ", "ꯀꯁꯇꯃꯔ ꯀꯦꯌꯔ",
)  # fmt: skip
# what for; a stem is enough where a language inflects
_TALKS = (
    "talk speak speaking talking chat connect connected transfer escalate call callback"
    " contact reach real live actual"
    " want need get give baat bat karni karao karwao karwa jodo milao mila pesa pesanum pesa matladali maatladali"
    " kotha bolte bolbo bolaycha bolayche bolav chahiye bulao samsarikkanam mathadbeku maathaadbeku",
    "बात बोल कनेक्ट ट्रांसफर जोड़ मिलाइ मिलाओ बुला चाहिए संपर्क कॉल फोन फ़ोन ट्रान्स्फर जोड"
    " कुरा गर्न गप्प उलय उलोव उलोवपाक गल कर संभाष वार्ता रायज्ला रायलाय गाल्हा",
    "কথা বল কানেক্ট ট্রান্সফার যোগাযোগ ফোন চাই পাতিব পাতিম সংযোগ ফোনত ঙাং ৱারী",
    "વાત કનેક્ટ ટ્રાન્સફર જોડ સંપર્ક ફોન બોલ જોઈએ",
    "ਗੱਲ ਕਨੈਕਟ ਟ੍ਰਾਂਸਫਰ ਜੋੜ ਸੰਪਰਕ ਫ਼ੋਨ ਫੋਨ ਮਿਲਾ ਚਾਹੀਦਾ",
    "କଥା ସଂଯୋଗ କନେକ୍ଟ ଟ୍ରାନ୍ସଫର ଯୋଗାଯୋଗ ଫୋନ ଦରକାର",
    "பேச இணை கனெக்ட் மாற்ற தொடர்பு அழை வேண்டும் பேசணும்",
    "మాట్లాడ కనెక్ట్ బదిలీ కలప సంప్రదించ ఫోన్ కావాలి",
    "ಮಾತ ಸಂಪರ್ಕ ಕನೆಕ್ಟ್ ವರ್ಗಾಯಿ ಕರೆ ಫೋನ್ ಬೇಕು",
    "സംസാരി കണക്ട് ബന്ധിപ്പി മാറ്റ വിളി ഫോൺ വേണം",
    "بات کنیکٹ ٹرانسفر رابطہ ملا جوڑ فون چاہیے ڳالهائ ڳالهه گل کَتھ کتھ",
    "ᱨᱚᱲ ᱜᱟᱞᱢᱟᱨᱟᱣ ᱯᱷᱚᱱ ᱠᱟᱱᱮᱠᱴ",
    "ꯋꯥꯔꯤ ꯉꯥꯡ ꯐꯣꯟ",
)
_FAR = 6  # words between the two
# in English "want" and "need" alone would make "I need a manager account" a wish for a person
_WEAK = frozenset(("want", "need", "get", "give", "real", "live", "actual", "chahiye", "call", "contact", "reach"))
_WEAK_NEEDS = re.compile(
    r"\b(?:real|live|actual|human|want|need|get|give|chahiye)\b.{0,24}"
    r"\b(?:human|person|agent|representative|insaan|aadmi)\b"
    r"(?!\s+(?:account|id|code|login|portal|name|number|commission|fee|salary|job))"
    r"|\b(?:insaan|insan|aadmi|agent|manager)\b.{0,16}\bchahiye\b"
)
_ASKING_HOW = re.compile(r"\b(?:become|becoming|hire|apply|salary|commission|job|career|how (?:do|can) i be)\b")

# said of an answer and of nothing else
_CORRECTION = re.compile(
    r"\b(?:no|nope|nahi+|nahin|nai|illa|ledu|kaadu|na)[,.!\s]+"
    r"(?:that|this|it|ye|yeh|woh|wo|adhu|idhu|adi|idi|eta|sheta)\b"
    r"|\b(?:that|this|it)(?:'s| is| was)? (?:not|isn't|wasn't) (?:what|right|correct|true|it)\b"
    r"|\bnot what i (?:asked|meant|said|wanted)\b|\b(?:wrong|incorrect) (?:answer|information|info|reply)\b"
    r"|\b(?:you(?:'re| are)?|u r|that(?:'s| is)|this is) (?:wrong|incorrect|mistaken|not listening|not understanding)\b"
    r"|\bi (?:already|just) (?:said|told|asked|gave)\b|\byou (?:did not|didn't|don't) (?:understand|answer|get)\b"
    r"|\b(?:samjhe|samjha|samajh) (?:nahi|nahin|hi nahi)\b|\bmaine (?:ye|yeh|wo|woh) nahi\b"
    r"|(?:समझे|समझा|समझी) नहीं|नहीं समझ(?:े|ा|ी)|मैंने (?:यह|ये|वो) नहीं|गलत (?:जवाब|जानकारी)|यो होइन|समजले नाही|तसं नाही|असे नाही"
    r"|এটা না|সেটা না|তা নয়|বুঝতে পারেননি|ভুল উত্তর|এইটো নহয়|એ નહીં|એવું નથી|સમજ્યા નહીં|ਇਹ ਨਹੀਂ|ਸਮਝੇ ਨਹੀਂ|ਏਹ ਨਹੀਂ|ଏହା ନୁହେଁ|ବୁଝିଲେ ନାହିଁ"
    r"|அது இல்லை|இது இல்லை|நான் கேட்டது|తప్పు సమాధానం|అది కాదు|ఇది కాదు|నేను అడిగింది|ಅದಲ್ಲ|ಇದಲ್ಲ|ನಾನು ಕೇಳಿದ್ದು|അതല്ല|ഇതല്ല|ഞാൻ ചോദിച്ചത്"
    r"|غلط جواب|ایسا نہیں|سمجھے نہیں"
)
# "wrong": of an answer where nothing else is said; of a parcel, a name or an amount where more is
_WRONG = re.compile(
    r"\b(?:wrong|incorrect|galat|galath|ghalat|thappu|tappu|bhul|chukich[ea])\b|गलत|ग़लत|चुकीच|गल्ती|असत्य|अशुद्ध|ভুল|ખોટ|ਗਲਤ|ਗ਼ਲਤ|ଭୁଲ"
    r"|தவறு|தப்பு|తప్పు|ತಪ್ಪು|തെറ്റ|غلط|غَلَط|ᱵᱷᱩᱞ|ꯑꯔꯥꯟꯕ|অৰানবা"
)
_FEW = 4

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)? (?:sorry|afraid)[^.!?\n]{0,40}\b(?:can(?:'t|not)|unable|not able)\b"
    r"|i (?:can(?:'t|not)|am unable to|am not able to|don't have (?:the )?(?:ability|access)) "
    r"(?:help|assist|do|provide|answer|access|process|fulfil|comply|continue)"
    r"|as an ai(?: language)? model\b|i(?:'m| am) (?:just |only )?an ai\b)"
    r"|(?:मैं|हम)[^।.!?\n]{0,60}(?:सहायता|मदद|जानकारी)[^।.!?\n]{0,20}(?:नहीं कर सकत|नहीं दे सकत|असमर्थ)|एआई मॉडल के रूप में"
    r"|আমি[^।.!?\n]{0,60}(?:সাহায্য|সহায়তা)[^।.!?\n]{0,20}(?:করতে পারি না|করতে পারছি না|করতে অক্ষম)"
    r"|मी[^।.!?\n]{0,60}(?:मदत|माहिती)[^।.!?\n]{0,20}(?:करू शकत नाही|देऊ शकत नाही)"
    r"|(?:என்னால்|எங்களால்)[^.!?\n]{0,60}(?:முடியாது|இயலாது)|(?:నేను|మేము)[^.!?\n]{0,60}(?:సహాయం|సమాచారం)[^.!?\n]{0,20}(?:చేయలేను|చేయలేము|ఇవ్వలేను)"
    r"|main (?:aapki )?(?:is mein )?(?:madad|help) nahi kar sakt[ai]"
)


def _folded(text: str) -> str:
    """Case, width, typographic apostrophes and joiners made alike; nukta letters in one of their two forms."""
    folded = unicodedata.normalize("NFC", text[:_READ]).casefold()
    return folded.replace("’", "'").replace("\u200c", "").replace("\u200d", "").replace("\u00a0", " ")


def _stems(lists: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Latin words, which match whole, and stems in other scripts, which match the beginning of a word."""
    found = [word for line in lists for word in _folded_list(line)]
    return frozenset(w for w in found if w.isascii()), tuple(sorted({_stem(w) for w in found if not w.isascii()}))


def _stem(word: str) -> str:
    """Without a last virama, which gives way to what the language hangs on a word."""
    return word[:-1] if unicodedata.combining(word[-1]) == 9 else word


def _folded_list(line: str) -> list[str]:
    return [_folded(word) for word in line.split()]


_PERSON_WORDS, _PERSON_STEMS = _stems(_PERSONS)
_TALK_WORDS, _TALK_STEMS = _stems(_TALKS)
_DESK = re.compile("|".join(re.escape(_folded(desk)) for desk in _DESKS))
_TOKEN = re.compile(r"[^\W_](?:[\w'\u0300-\u036f]|[^\x00-\x7f\s।॥،؟.,!?])*")
_HERE, _TO = 1, 2


def wants_a_person(text: str) -> bool:
    """Whether a customer asks for a person instead of the machine."""
    folded = _folded(text)
    if folded.isascii() and _ASKING_HOW.search(folded):
        return False
    if _WEAK_NEEDS.search(folded):
        return True
    folded = _DESK.sub(" agent ", folded)
    whom: list[int] = []
    what: list[int] = []
    for place, word in enumerate(_TOKEN.findall(folded)):
        if word in _PERSON_WORDS or (not word.isascii() and word.startswith(_PERSON_STEMS) and "त्व" not in word):
            whom.append(place)
        if (word in _TALK_WORDS and word not in _WEAK) or (not word.isascii() and word.startswith(_TALK_STEMS)):
            what.append(place)
    return any(0 < abs(one - other) <= _FAR for one in whom for other in what)


def corrects(text: str) -> bool:
    """Whether a customer says that the last answer was wrong."""
    folded = _folded(text)
    if _CORRECTION.search(folded):
        return True
    return bool(_WRONG.search(folded)) and len(folded.split()) <= _FEW


def refuses(text: str) -> bool:
    """Whether an answer is a model's refusal, in English, Hindi, Bengali, Marathi, Tamil or Telugu."""
    return bool(_REFUSAL.search(_folded(text)))
