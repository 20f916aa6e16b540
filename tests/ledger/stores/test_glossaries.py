"""Glossaries in both databases: whole puts, one tenant's only, audited, bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger.conftest import Where
from sqlalchemy import Engine

from appliance.ledger.core import engine
from appliance.ledger.stores import glossaries, tenants, watching
from appliance.ledger.stores.changes import Actor
from appliance.ledger.stores.glossaries import Loaded, NewTerm, TermKey

ACTOR = Actor("cli:test")


@pytest.fixture
def made(where: Where) -> Iterator[Engine]:
    opened = engine(where)
    for tenant in ("acme", "bodega"):
        tenants.create(opened, ACTOR, tenant)
    yield opened
    opened.dispose()


def terms(made: Engine, tenant: str = "acme", name: str = "shop") -> list[tuple[str, str | None, str, str]]:
    return [
        (t.term, t.translation, t.source, t.target) for t in glossaries.terms_page(made, tenant, name, limit=1000).items
    ]


def test_terms_are_put_replaced_and_deleted_for_one_tenant(made: Engine) -> None:
    new = [NewTerm("Acme"), NewTerm("account", "खाता", "en", "Hindi"), NewTerm("IT")]
    assert glossaries.put(made, ACTOR, "acme", "shop", new).terms == 3
    glossaries.put(made, ACTOR, "bodega", "shop", [NewTerm("Bodega")])
    # the same form is the same entry, for the same languages
    again = glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("ACCOUNT", "अकाउंट", "eng", "hi-IN", "any")])
    assert (again.changed, again.terms) == (1, 3)
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("account", "கணக்கு", "en", "ta")])
    assert sorted(terms(made)) == [
        ("ACCOUNT", "अकाउंट", "eng_Latn", "hin_Deva"),
        ("Acme", None, "*", "*"),
        ("IT", None, "*", "*"),
        ("account", "கணக்கு", "eng_Latn", "tam_Taml"),
    ]
    assert terms(made, "bodega") == [("Bodega", None, "*", "*")]
    assert [(g.tenant_id, g.glossary, g.terms) for g in glossaries.page(made, None).items] == [
        ("acme", "shop", 4),
        ("bodega", "shop", 1),
    ]
    assert glossaries.remove(made, ACTOR, "acme", "shop", [TermKey("acme"), TermKey("IT")]).terms == 2
    assert glossaries.drop(made, ACTOR, "acme", "shop").changed == 2
    assert terms(made) == [] and len(terms(made, "bodega")) == 1
    lines = watching.audited(made, "acme").items
    assert [line.action for line in lines][:5] == [
        "glossary.drop",
        "glossary.remove",
        "glossary.put",
        "glossary.put",
        "glossary.put",
    ]
    assert lines[2].after is not None and lines[2].after["terms"][0]["translation"] == "கணக்கு"


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (NewTerm(" "), "term 2: the term is 1 to 200 printable"),
        (NewTerm("x" * 201), "term 2: the term is at most 200 characters"),
        (NewTerm("a\x07"), "printable"),
        (NewTerm("{{1}}"), "which mark places"),
        (NewTerm("x", "a\0"), "the translation is at most 200"),
        (NewTerm("x", ""), "the translation is 1 to 200"),
        (NewTerm("x", source="klingon"), "term 2: 'klingon' is not a language known here"),
        (NewTerm("x", case="loud"), "choose one of smart, any, exact"),  # type: ignore[arg-type]
        (NewTerm("x", note="n" * 201), "the note is at most 200"),
    ],
)
def test_one_bad_term_puts_none(made: Engine, term: NewTerm, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("good"), term])
    assert terms(made) == []


def test_what_is_not_there_is_said(made: Engine) -> None:
    with pytest.raises(LookupError, match="no tenant 'nobody'"):
        glossaries.put(made, ACTOR, "nobody", "shop", [NewTerm("x")])
    with pytest.raises(ValueError, match="at least one"):
        glossaries.put(made, ACTOR, "acme", "shop", [])
    with pytest.raises(ValueError, match="a glossary's name is 1 to 64 lower-case"):
        glossaries.put(made, ACTOR, "acme", "My Shop", [NewTerm("x")])
    with pytest.raises(LookupError, match="no glossary 'shop'"):
        glossaries.drop(made, ACTOR, "acme", "shop")
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("one"), NewTerm("two", target="hi")])
    with pytest.raises(LookupError, match=r"no term 'two' from \* to \*"):
        glossaries.remove(made, ACTOR, "acme", "shop", [TermKey("one"), TermKey("two")])
    assert len(terms(made)) == 2


def test_a_tenant_has_so_many_terms_and_no_more(made: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glossaries, "MOST_TERMS", 30)
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm(f"term {n}") for n in range(30)])
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("term 7", "सात")])  # no new one
    with pytest.raises(ValueError, match="would have 31 terms; delete some, 30 is most"):
        glossaries.put(made, ACTOR, "acme", "other", [NewTerm("one more")])
    glossaries.put(made, ACTOR, "bodega", "shop", [NewTerm("one more")])
    line = watching.audited(made, "acme", action="glossary.put").items[-1]
    assert line.after == {"terms": 30}


def test_what_is_loaded_is_the_newest(made: Engine) -> None:
    read: list[int] = []

    def opened() -> Engine:
        read.append(1)
        return made

    loaded = Loaded(opened, most=2)
    assert loaded.matcher("acme", "shop", "eng_Latn", "hin_Deva", 1) is None
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm("Acme", "एक्मे", target="hi")])
    found = loaded.matcher("acme", "shop", "eng_Latn", "hin_Deva", 2)
    assert found is not None and found.mark("Acme").text == "{{T1}}"
    assert loaded.matcher("acme", "shop", "eng_Latn", "hin_Deva", 2) is found and len(read) == 2
    other = loaded.matcher("acme", "shop", "eng_Latn", "tam_Taml", 2)
    assert other is not None and not other
    assert loaded.matcher("bodega", "shop", "eng_Latn", "hin_Deva", 2) is None
    assert loaded.matcher("acme", "shop", "eng_Latn", "hin_Deva", 2) is not found  # made way for the others


def test_a_list_goes_on_where_it_ended(made: Engine) -> None:
    glossaries.put(made, ACTOR, "acme", "shop", [NewTerm(f"शब्द {n}") for n in range(5)])
    first = glossaries.terms_page(made, "acme", "shop", limit=3)
    rest = glossaries.terms_page(made, "acme", "shop", limit=3, at=first.next)
    assert [t.term for t in first.items + rest.items] == [f"शब्द {n}" for n in range(5)] and rest.next is None
