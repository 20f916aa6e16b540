"""The translation memory as translations use it: whole with a fake translation, and with a ledger that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger.conftest import Where
from sqlalchemy import Engine
from translation.fakes import Fake

from appliance.ledger.core import engine
from appliance.ledger.remembered import Remembered
from appliance.ledger.stores import memory, tenants
from appliance.ledger.stores.changes import Actor
from appliance.translation.remembering import Remembering

ACTOR = Actor("cli:test")
EN, HI = "eng_Latn", "hin_Deva"


@pytest.fixture
def made(where: Where) -> Iterator[Engine]:
    opened = engine(where)
    tenants.create(opened, ACTOR, "acme", store_text=True, translation_memory=True)
    tenants.create(opened, ACTOR, "shy")
    yield opened
    opened.dispose()


def remembered(made: Engine, tenant: str = "acme") -> Remembered:
    return Remembered(lambda: made, tenant, lambda: 1_790_000_000_000, conversation_id="c1")


async def test_what_was_translated_once_is_not_translated_again(made: Engine) -> None:
    many = [f"Sentence number {n}" for n in range(450)]
    first, second = Fake(), Fake()
    told = await Remembering(first, remembered(made))(many, EN, HI)
    assert await Remembering(second, remembered(made))([*many, "SENTENCE number 7"], EN, HI) == [*told, told[7]]
    assert len(first.sentences) == 450 and second.calls == []
    assert {e.conversation_id for e in memory.page(made, "acme", limit=1000).items} == {"c1"}
    third = Fake()
    await Remembering(third, remembered(made, "shy"))(many[:1], EN, HI)
    await Remembering(third, remembered(made, "shy"))(many[:1], EN, HI)
    assert len(third.sentences) == 2 and memory.page(made, "shy").items == []


async def test_a_ledger_that_is_gone_costs_the_memory_only(tmp_path: Path) -> None:
    gone = engine(tmp_path / "nowhere" / "ledger.db")
    fake = Fake()
    assert len(await Remembering(fake, remembered(gone))(["Hello"], EN, HI)) == 1
    assert fake.sentences == ["Hello"]
    gone.dispose()
