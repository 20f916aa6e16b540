"""Facts that customers had to give again: found in every script, counted once, and only where text is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ledger.report.conftest import END_MS, MONTH, NOW_MS, START_MS
from sqlalchemy import Engine, insert, select

from appliance.ledger.core import engine, transaction
from appliance.ledger.report import build
from appliance.ledger.report.page import render
from appliance.ledger.report.repeats import Repeated, facts, repeated
from appliance.ledger.report.tables import to_csv
from appliance.ledger.schema import conversations, keys, requests, texts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my order is 4021 7788 9, phone 98765-43210", {"402177889", "9876543210"}),
        ("मेरा ऑर्डर ४०२१७७ है", {"402177"}),
        ("ORD-2231X and Asha.K@Example.co.in", {"2231", "asha.k@example.co.in"}),
        ("12, 345 and 7 days", set()),
        ("", set()),
    ],
)
def test_what_is_a_fact(text: str, found: set[str]) -> None:
    assert facts(text) == found


class Talks:
    """Writes escalated conversations with their texts."""

    def __init__(self, made: Engine) -> None:
        self.engine = made
        self._n = 0

    def __call__(self, *turns: tuple[bool, Any], intent: str = "refund", at_ms: int = START_MS + 5) -> None:
        """``turns``: whether it was escalated, and its prompt (None: its text is not kept)."""
        self._n += 1
        name = f"c{self._n}"
        with transaction(self.engine) as connection:
            key_id = connection.execute(select(keys.c.id)).scalar()
            whose = {"tenant_id": "default", "key_id": key_id}
            connection.execute(
                insert(conversations).values(
                    **whose, id=name, channel="api", intent=intent, opened_ms=at_ms, last_seen_ms=at_ms, state="open",
                    state_ms=at_ms, escalated=any(one for one, _ in turns),
                )
            )  # fmt: skip
            for n, (escalated, prompt) in enumerate(turns):
                request_id = f"req_{at_ms:012x}{self._n:08x}{n:08x}"
                connection.execute(
                    insert(requests).values(
                        **whose, id=request_id, endpoint="chat.completions", model="m", stream=False, at_ms=at_ms,
                        status="ok", conversation_id=name, escalated=escalated,
                    )
                )  # fmt: skip
                if prompt is not None:
                    text = prompt if isinstance(prompt, str) else json.dumps(prompt)
                    connection.execute(
                        insert(texts).values(
                            request_id=request_id, tenant_id="default", conversation_id=name, at_ms=at_ms,
                            prompt=text, answer="",
                        )
                    )  # fmt: skip

    def found(self) -> dict[str | None, Repeated]:
        with transaction(self.engine) as connection:
            return repeated(connection, START_MS, END_MS)


@pytest.fixture
def talks(where: Any) -> Iterator[Talks]:
    made = engine(where)
    yield Talks(made)
    made.dispose()


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_facts_given_again_after_the_escalation_count_once_each(talks: Talks) -> None:
    first = [user("Order 402177, mobile 98765 43210")]
    answer = {"role": "assistant", "content": "Your number 9876543210?"}
    talks(
        (False, first),
        (True, [*first, answer, user("it is late")]),  # the question that was escalated
        (False, [*first, answer, user([{"type": "text", "text": "again: ४०२१७७"}, {"type": "image_url"}])]),
        (False, [user("402177, and 5555 which is new")]),  # a caller that sends the newest turn only
    )
    talks((True, [user("order 1234")]), (False, [user("thanks")]))
    assert talks.found() == {"refund": Repeated(2, 1)}


def test_what_the_answer_or_the_customer_said_before_does_not_count(talks: Talks) -> None:
    talks((False, [user("4021")]), (False, [user("4021")]), (True, [user("4021")]))
    talks((True, [user("hi")]), (False, [{"role": "assistant", "content": "8888"}, user("8888")]), intent="order")
    assert talks.found() == {"refund": Repeated(1, 0), "order": Repeated(1, 0)}


def test_conversations_without_text_or_escalation_or_of_another_month_are_not_looked_at(talks: Talks) -> None:
    talks((False, [user("4021")]), (False, [user("4021")]))
    talks((True, None), (False, [user("4021")]))
    talks((True, "not json"), (False, "{}"))
    talks((True, [user("4021")]), (False, [user("4021")]), at_ms=START_MS - 1)
    assert talks.found() == {}


def test_hostile_prompts_are_no_trouble(talks: Talks) -> None:
    odd = [7, None, {"role": "user"}, {"role": "user", "content": 5}, {"content": "4021"}, user([None, {"text": 4021}])]
    talks((True, odd), (False, odd))
    talks((True, [user("1" * 200_000)]), (False, [user("a@" * 50_000 + "1 " * 50_000)]))
    assert talks.found() == {"refund": Repeated(2, 1)}


def test_the_report_says_it_or_why_not(talks: Talks, where: Any) -> None:
    talks((True, None))
    without = build(where, MONTH, NOW_MS)
    assert without.escalation[0].facts_repeated is None
    assert "tenant has to opt in" in render(without) and "Facts repeated" not in render(without)
    talks((True, [user("4021")]), (False, [user("4021")]))
    talks((True, [user("4021")]))
    report = build(where, MONTH, NOW_MS)
    assert (report.escalation[0].read, report.escalation[0].facts_repeated) == (2, 0.5)
    page = render(report)
    assert "Facts repeated, each" in page and "0.50" in page and "opt in" not in page
    assert ",facts_repeated,0.5," in to_csv(report)
