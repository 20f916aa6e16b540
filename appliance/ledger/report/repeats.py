"""Facts that customers had to give again after their conversation was escalated.

What it is: ``repeated``. Of escalated conversations whose text is kept (their tenant opted in), it compares what the
customer had said up to the escalated question with what the same customer says in later turns. A fact is a number of
four digits or more, whatever script and blanks it is written with, or an e-mail address: what a hand-off loses first,
and what can be compared without a guess.
What it refuses to be: an estimate for conversations without text; those are not counted, and the report says how many
were.
What it costs: nothing where no text is kept; else a look-up a conversation, of the month's ``_MOST`` newest at most.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, exists, select

from appliance.ledger.schema import conversations, requests, texts

_MOST = 1000
_NUMBER = re.compile(r"\d(?:[ .,/-]?\d){3,}")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")


class Repeated(Struct, frozen=True):
    """Escalated conversations that were looked at, and how many facts were given again in them."""

    conversations: int
    facts: int


def repeated(
    connection: Connection, start_ms: int, end_ms: int, tenant: str | None = None
) -> dict[str | None, Repeated]:
    """By intent, of conversations opened from ``start_ms`` to before ``end_ms``."""
    if connection.execute(select(texts.c.request_id).limit(1)).first() is None:
        return {}
    c, t = conversations.c, texts.c
    kept = exists().where(t.tenant_id == c.tenant_id, t.conversation_id == c.id)
    query = select(c.tenant_id, c.id, c.intent).where(c.opened_ms >= start_ms, c.opened_ms < end_ms, c.escalated, kept)
    if tenant is not None:
        query = query.where(c.tenant_id == tenant)
    found: dict[str | None, Repeated] = {}
    for tenant_id, conversation_id, intent in connection.execute(query.order_by(c.opened_ms.desc()).limit(_MOST)).all():
        again = _again(_turns(connection, tenant_id, conversation_id))
        if again is not None:
            sofar = found.get(intent, Repeated(0, 0))
            found[intent] = Repeated(sofar.conversations + 1, sofar.facts + again)
    return found


def facts(text: str) -> set[str]:
    """Numbers of four digits or more, as ASCII digits alone, and e-mail addresses in lower case."""
    plain = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    numbers = {"".join(filter(str.isdigit, match)) for match in _NUMBER.findall(plain)}
    return numbers | {match.lower() for match in _EMAIL.findall(plain)}


def _turns(connection: Connection, tenant_id: str, conversation_id: str) -> Iterator[tuple[bool, list[Any]]]:
    """Its requests whose text is kept, oldest first: whether it was escalated, and its messages."""
    query = (
        select(requests.c.escalated, texts.c.prompt)
        .join(texts, texts.c.request_id == requests.c.id)
        .where(texts.c.tenant_id == tenant_id, texts.c.conversation_id == conversation_id)
        .order_by(requests.c.id)
    )
    for escalated, prompt in connection.execute(query):
        try:
            messages = msgspec.json.decode(prompt)
        except (msgspec.DecodeError, RecursionError):  # of a restored or older ledger; nothing to compare with
            continue
        if isinstance(messages, list):
            yield bool(escalated), messages


def _again(turns: Iterable[tuple[bool, list[Any]]]) -> int | None:
    """How many facts came again; None where the text of the escalated question is not kept."""
    said: set[str] = set()
    repeats: set[str] = set()
    handed_off = False
    for escalated, messages in turns:
        if handed_off:
            repeats |= facts(_customer(_newest(messages))) & said
            continue
        # a caller that sends the whole history shows here also what was never recorded
        said |= facts(_customer(messages))
        handed_off = escalated
    return len(repeats) if handed_off else None


def _newest(messages: list[Any]) -> list[Any]:
    """What was said since the last answer."""
    answers = [n for n, message in enumerate(messages) if _role(message) == "assistant"]
    return messages[answers[-1] + 1 :] if answers else messages


def _customer(messages: list[Any]) -> str:
    """The customer's own words, without media."""
    words: list[str] = []
    for message in messages:
        content = message.get("content") if _role(message) == "user" else None
        if isinstance(content, str):
            words.append(content)
        elif isinstance(content, list):
            words += [str(part["text"]) for part in content if isinstance(part, dict) and "text" in part]
    return "\n".join(words)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None
