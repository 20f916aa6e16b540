from __future__ import annotations

from translation.fakes import Fake

from appliance.translation.recent import Recent
from appliance.translation.remembering import Remembering


async def test_a_known_sentence_is_not_translated_again() -> None:
    fake = Fake()
    made = Remembering(fake, Recent().of("acme"))
    first = await made(["Good day", "Bye", "Good day"], "eng_Latn", "hin_Deva")
    assert fake.sentences == ["Good day", "Bye"] and first[0] == first[2] != first[1]
    again = await made(["Bye", "Well", " Good day\n"], "eng_Latn", "hin_Deva")
    assert fake.sentences == ["Good day", "Bye", "Well"] and again[0] == first[1] and again[2] == f" {first[0]}\n"
    assert (made.translated, made.remembered) == (3, 3)
    await made(["Bye"], "eng_Latn", "tam_Taml")
    assert fake.sentences[-1] == "Bye" and await made([], "eng_Latn", "hin_Deva") == []
