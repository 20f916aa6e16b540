"""English names of the languages Whisper and IndicConformer know, as OpenAI's ``verbose_json`` writes them.

What it is: a table, ``hi`` to ``hindi``. What it refuses to be: the appliance's list of languages; it only names
what an engine has already recognised.
"""

from __future__ import annotations

_TABLE = """
af=afrikaans am=amharic ar=arabic as=assamese az=azerbaijani ba=bashkir be=belarusian bg=bulgarian
bn=bengali bo=tibetan br=breton bs=bosnian ca=catalan cs=czech cy=welsh da=danish de=german el=greek
en=english es=spanish et=estonian eu=basque fa=persian fi=finnish fo=faroese fr=french gl=galician
gu=gujarati ha=hausa haw=hawaiian he=hebrew hi=hindi hr=croatian ht=haitian_creole hu=hungarian
hy=armenian id=indonesian is=icelandic it=italian ja=japanese jw=javanese ka=georgian kk=kazakh km=khmer
kn=kannada ko=korean la=latin lb=luxembourgish ln=lingala lo=lao lt=lithuanian lv=latvian mg=malagasy
mi=maori mk=macedonian ml=malayalam mn=mongolian mr=marathi ms=malay mt=maltese my=myanmar ne=nepali
nl=dutch nn=nynorsk no=norwegian oc=occitan pa=punjabi pl=polish ps=pashto pt=portuguese ro=romanian
ru=russian sa=sanskrit sd=sindhi si=sinhala sk=slovak sl=slovenian sn=shona so=somali sq=albanian
sr=serbian su=sundanese sv=swedish sw=swahili ta=tamil te=telugu tg=tajik th=thai tk=turkmen tl=tagalog
tr=turkish tt=tatar uk=ukrainian ur=urdu uz=uzbek vi=vietnamese yi=yiddish yo=yoruba yue=cantonese
zh=chinese
brx=bodo doi=dogri kok=konkani ks=kashmiri mai=maithili mni=manipuri or=odia sat=santali
"""
_NAMES = dict(pair.split("=") for pair in _TABLE.split())
CODES = tuple(sorted(_NAMES))
"""Every code that has a name."""


def language_name(code: str | None) -> str:
    """The lower-case English name of ``code``; a code without a name comes back as it is, None as empty."""
    if code is None:
        return ""
    return _NAMES.get(code, code).replace("_", " ")
