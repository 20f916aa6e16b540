"""Translation memory in both databases: opted in or not there at all, bounded, and gone when text goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger.conftest import Look, Where
from sqlalchemy import Engine

from appliance.ledger.core import engine
from appliance.ledger.stores import memory, retention, tenants, watching
from appliance.ledger.stores.changes import Actor
from appliance.ledger.stores.memory import NewEntry

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
ACTOR = Actor("cli:test", lambda: NOW_MS / 1000)
EN, HI = "eng_Latn", "hin_Deva"


@pytest.fixture
def made(where: Where) -> Iterator[Engine]:
    opened = engine(where)
    tenants.create(opened, ACTOR, "acme", store_text=True, translation_memory=True)
    tenants.create(opened, ACTOR, "bodega", store_text=True, translation_memory=True)
    tenants.create(opened, ACTOR, "shy", store_text=False, translation_memory=True)
    tenants.create(opened, ACTOR, "plain", store_text=True)
    yield opened
    opened.dispose()


def found(made: Engine, *texts: str, tenant: str = "acme", target: str = HI, variant: str = "") -> list[str | None]:
    hits = memory.look_up(made, tenant, EN, target, texts, NOW_MS, variant)
    return [None if hit is None else ("=" if hit.exact else "~") + hit.translation for hit in hits]


def kept(made: Engine, *pairs: tuple[str, str], tenant: str = "acme", at_ms: int = NOW_MS, **how: str) -> int:
    return memory.keep(made, tenant, EN, HI, pairs, at_ms, **how)


def test_the_same_hits_exactly_and_what_reads_alike_as_such(made: Engine) -> None:
    assert kept(made, ("Good morning", "सुप्रभात"), (" See you ", " फिर मिलेंगे\n")) == 2
    assert kept(made, ("Good morning", "other")) == 0  # what is remembered stays
    assert found(made, "Good morning", " good  MORNING\n", "Good evening", "See you") == [
        "=सुप्रभात",
        "~ सुप्रभात\n",
        None,
        "=फिर मिलेंगे",
    ]
    assert found(made, "Good morning", target="tam_Taml") == [None]
    assert found(made, "Good morning", variant="g1") == [None]
    assert found(made, "Good morning", tenant="bodega") == [None]
    assert found(made) == []


def test_a_person_beats_the_model(made: Engine) -> None:
    kept(made, ("Refund", "model"), ("refund", "model too"))
    memory.put(
        made, ACTOR, "acme", [NewEntry("en", "hi", "REFUND", "धनवापसी"), NewEntry("en", "hi", "Refund", "वापसी")]
    )
    assert found(made, "Refund", "REFUND") == ["=वापसी", "=धनवापसी"]
    assert found(made, "reFund")[0] in ("~वापसी", "~धनवापसी")  # never the model's
    assert [(e.text, e.origin) for e in memory.page(made, "acme").items].count(("refund", "model")) == 1


def test_without_both_opt_ins_nothing_is_read_or_written(made: Engine, look: Look) -> None:
    for tenant in ("shy", "plain"):
        assert kept(made, ("Hello", "नमस्ते"), tenant=tenant) == 0
        with pytest.raises(ValueError, match="--store-text --translation-memory` opts in"):
            memory.put(made, ACTOR, tenant, [NewEntry("en", "hi", "Hello", "नमस्ते")])
    assert look("SELECT count(*) FROM translations") == [(0,)]
    kept(made, ("Hello", "नमस्ते"))
    tenants.configure(made, ACTOR, "acme", store_text=False)
    assert found(made, "Hello") == [None]
    assert retention.run(made, NOW_MS).translations == 1  # opted out: all of it goes
    assert look("SELECT count(*) FROM translations") == [(0,)]


def test_what_is_not_worth_it_is_left_out(made: Engine) -> None:
    assert kept(made, ("", "x"), ("x", " "), ("y" * 2001, "y"), ("z\0", "z"), ("a", "b")) == 1


def test_text_days_end_it_and_a_hold_keeps_it(made: Engine) -> None:
    kept(made, ("old", "पुराना"), at_ms=NOW_MS - 91 * DAY_MS)
    kept(made, ("new", "नया"))
    tenants.configure(made, ACTOR, "acme", legal_hold=True)
    assert retention.run(made, NOW_MS).translations == 0
    with pytest.raises(ValueError, match="legal hold"):
        memory.clear(made, ACTOR, "acme")
    tenants.configure(made, ACTOR, "acme", legal_hold=False)
    assert retention.run(made, NOW_MS).translations == 1
    assert found(made, "old", "new") == [None, "=नया"]


def test_the_longest_unused_make_way(made: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_ENTRIES", 40)
    for n in range(40):
        kept(made, (f"text {n}", f"पाठ {n}"), at_ms=NOW_MS - (50 - n) * DAY_MS)
    found(made, "text 0")  # used today
    assert kept(made, ("one more", "और")) == 1
    assert found(made, "text 0", "text 1", "text 3", "text 4", "one more") == ["=पाठ 0", None, None, "=पाठ 4", "=और"]
    tenants.configure(made, ACTOR, "acme", legal_hold=True)
    assert kept(made, *[(f"held {n}", "x") for n in range(9)]) == 2  # up to the brim, nothing goes
    with pytest.raises(ValueError, match="40 entries at most"):
        memory.put(made, ACTOR, "acme", [NewEntry("en", "hi", "yet another", "x")])


def test_operators_look_and_clear(made: Engine) -> None:
    kept(made, ("Hello 100%", "नमस्ते"), at_ms=NOW_MS - 1, conversation_id="c1")
    entries = [NewEntry("en", "ta", "Hello", "வணக்கம்"), NewEntry("en", "hi", "Bye", "विदा")]
    put = memory.put(made, ACTOR, "acme", entries)
    assert (put.put, put.entries) == (2, 3)
    assert [e.text for e in memory.page(made, "acme", containing="0%").items] == ["Hello 100%"]
    assert [e.text for e in memory.page(made, "acme", containing="_").items] == []
    assert [e.text for e in memory.page(made, "acme", target="Tamil").items] == ["Hello"]
    first = memory.page(made, "acme", limit=2)
    rest = memory.page(made, "acme", limit=2, at=first.next)
    assert len({e.id for e in first.items + rest.items}) == 3
    assert memory.page(made, "bodega").items == []
    assert memory.clear(made, ACTOR, "bodega").cleared == 0
    assert memory.clear(made, ACTOR, "acme", entry_id=first.items[0].id).entries == 2
    with pytest.raises(LookupError, match="no entry"):
        memory.clear(made, ACTOR, "acme", entry_id=first.items[0].id)
    assert memory.clear(made, ACTOR, "acme", target="ta").cleared == 1
    assert memory.clear(made, ACTOR, "acme").entries == 0
    actions = [line.action for line in watching.audited(made, "acme").items]
    assert sorted(actions) == ["memory.clear", "memory.clear", "memory.clear", "memory.put", "tenant.create"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (NewEntry("xx", "hi", "a", "b"), "entry 2: 'xx' is not a language"),
        (NewEntry("en", "hi", " ", "b"), "entry 2: text and translation are needed"),
        (NewEntry("en", "hi", "a" * 2001, "b"), "entry 2: the text is at most 2000"),
        (NewEntry("en", "hi", "a", "\ud800"), "entry 2: the translation is at most 4000"),
    ],
)
def test_one_bad_entry_puts_none(made: Engine, entry: NewEntry, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        memory.put(made, ACTOR, "acme", [NewEntry("en", "hi", "good", "अच्छा"), entry])
    assert memory.page(made, "acme").items == []


def test_what_a_person_gave_for_no_variant_holds_for_each_that_has_nothing_of_its_own(made: Engine) -> None:
    kept(made, ("Refund", "model"), ("Bill", "model"))
    kept(made, ("Refund", "model with terms"), variant="g1 ascii")
    memory.put(made, ACTOR, "acme", [NewEntry("en", "hi", "Refund", "धनवापसी")])
    assert found(made, "Refund", "refund", "Bill", variant="g1 ascii") == ["=धनवापसी", "~धनवापसी", None]
    memory.put(made, ACTOR, "acme", [NewEntry("en", "hi", "Refund", "वापसी", "g1 ascii")])
    assert found(made, "Refund", variant="g1 ascii") == ["=वापसी"]
    assert found(made, "Refund", variant="g2 ascii") == ["=धनवापसी"]
