"""Reads a month out of the ledger, a day at a time: conversations as columns, requests as sums, latencies as a sample.

What it is: ``read_month``. Each day is a few queries of bounded size over primary keys and the one index on
``opened_ms``; days are shared out over processes where the caller wants more than one.
What it refuses to be: a reader of prompts, answers or (but for escalated requests) calls: requests carry their sums.
What it costs: about 1.5 µs a request and 4 µs a conversation; some 90 bytes of memory a conversation, none a request.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from sqlalchemy import Connection, Select, and_, case, func, literal_column, select

from appliance.ledger.core import engine, reading
from appliance.ledger.schema import attempts, calls, conversations, requests
from appliance.types import BESIDE, SHADOW

Where = Path | str
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_MS = 86_400_000
_LABELS = ("tenant_id", "channel", "language", "intent", "state", "answered_by")
_NUMBERS = (
    "opened_ms", "last_seen_ms", "escalated", "reopened", "hosted_nusd", "energy_nusd", "work_ns", "busy_ns",
)  # fmt: skip
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")
_REPLACED_LOOKED_AT = 500
SPEECH = "audio.transcriptions"
# Of a larger month one answer in 2, 4, 8 or 16 is looked at; ids end in random digits, so it is a fair sample.
_MOST_LOOKED_AT = 80_000  # conversations, with some five requests each
_DIGITS = {1: "g", 2: "8", 4: "4", 8: "2", 16: "1"}


class Cohort(Struct, frozen=True):
    """The conversations opened in a month, a column a field. ``codes[f]`` are places in ``names[f]``."""

    names: dict[str, list[str | None]]
    codes: dict[str, Ints]
    numbers: dict[str, Ints]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.numbers["opened_ms"])

    def label(self, field: str, name: str) -> npt.NDArray[np.bool_]:
        """Which ones have ``name`` in ``field``."""
        names = self.names[field]
        place = names.index(name) if name in names else -1
        return np.equal(self.codes[field], place)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Cohort:
        """Only those."""
        return Cohort(
            self.names,
            {field: column[chosen] for field, column in self.codes.items()},
            {field: column[chosen] for field, column in self.numbers.items()},
        )


class Flow(Struct, frozen=True):
    """A month's requests of one route and reason, escalated or not."""

    route: str | None
    reason: str | None
    escalated: bool
    requests: int
    ok: int
    hosted_nusd: int


class Tokens(Struct, frozen=True):
    """What a day's requests computed, of the attempts that answered: what replaced ones computed would not have been
    asked of a hosted model. (Its share is read from the calls of up to 500 escalated requests a day.)"""

    day_ms: int
    prompt: int
    cached: int
    completion: int
    audio_s: float


class MonthRead(Struct, frozen=True):
    """What was read of all tenants' conversations and of the chosen tenants' requests.

    ``waits``: milliseconds to the first token and in all of the answers to an intent (``""``: transcriptions), of one
    answer in ``one_in``. Without traffic, all but the cohort is empty.
    """

    cohort: Cohort
    flows: tuple[Flow, ...]
    tokens: tuple[Tokens, ...]
    everyones_tokens: tuple[Tokens, ...]
    waits: dict[str | None, tuple[Floats, Floats]]
    one_in: int


class _Day(Struct, frozen=True):
    columns: list[npt.NDArray[Any]]
    flows: list[tuple[Any, ...]]
    tokens: list[Tokens]
    everyones_tokens: list[Tokens]
    waits: list[tuple[str | None, Floats, Floats]]


class _Job(Struct, frozen=True):
    where: Where
    days: list[tuple[int, int]]
    tenant: str | None
    one_in: int  # 0: conversations alone


class _Names(dict[Any, int]):
    """Labels with the place each got when it was first seen."""

    def __missing__(self, name: Any) -> int:
        place = self[name] = len(self)
        return place


def read_month(
    where: Where, start_ms: int, end_ms: int, *, tenant: str | None = None, traffic: bool = True, workers: int = 1
) -> MonthRead:
    """Conversations opened, and requests made, from ``start_ms`` to before ``end_ms``. Raises LedgerUnavailable.

    ``workers`` above 1 forks, so only a process without threads may ask for it.
    """
    days = [(at, min(at + DAY_MS, end_ms)) for at in range(start_ms, end_ms, DAY_MS)]
    one_in = _one_in(where, start_ms, end_ms) if traffic else 0
    jobs = [_Job(where, days[n::workers], tenant, one_in) for n in range(min(workers, len(days)))]
    if len(jobs) > 1:
        with ProcessPoolExecutor(len(jobs), multiprocessing.get_context("fork")) as pool:
            parts = list(pool.map(_read_days, jobs))
    else:
        parts = [_read_days(job) for job in jobs]
    return _merged(parts, one_in)


def _one_in(where: Where, start_ms: int, end_ms: int) -> int:
    """How sparse the sample of latencies is, by how many conversations there are."""
    made = engine(where, read_only=isinstance(where, Path))
    try:
        with reading(made) as connection:
            c = conversations.c
            query = select(func.count()).where(c.opened_ms >= start_ms, c.opened_ms < end_ms)
            count = int(connection.execute(query).scalar_one())
    finally:
        made.dispose()
    one_in = 1
    while one_in < 16 and count / one_in > _MOST_LOOKED_AT:
        one_in *= 2
    return one_in


def _read_days(job: _Job) -> tuple[list[list[Any]], list[_Day]]:
    """In a process of its own: the labels it met, and its days."""
    names = [_Names() for _ in _LABELS]
    made = engine(job.where, read_only=isinstance(job.where, Path))
    found = []
    try:
        with reading(made) as connection:
            for start_ms, end_ms in job.days:
                columns = _conversations(connection, start_ms, end_ms, names)
                if not job.one_in:
                    found.append(_Day(columns, [], [], [], []))
                    continue
                own = _requests_of(start_ms, end_ms, job.tenant)
                tokens = _tokens(connection, start_ms, own)
                whole = tokens if job.tenant is None else _tokens(connection, start_ms, _requests_of(start_ms, end_ms))
                waits = list(_waits(connection, own, job.one_in))
                found.append(_Day(columns, _flows(connection, own), tokens, whole, waits))
    finally:
        made.dispose()
    return [list(one) for one in names], found


def _rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: SQLAlchemy's own rows would cost as much again."""
    sql = str(query.compile(connection.engine, compile_kwargs={"literal_binds": True}))
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _conversations(connection: Connection, start_ms: int, end_ms: int, names: list[_Names]) -> list[npt.NDArray[Any]]:
    c = conversations.c
    query = select(*(c[field] for field in (*_LABELS, *_NUMBERS))).where(c.opened_ms >= start_ms, c.opened_ms < end_ms)
    rows = _rows(connection, query)
    columns = list(zip(*rows, strict=True)) if rows else [()] * (len(_LABELS) + len(_NUMBERS))
    count = len(rows)
    codes = [
        np.fromiter(map(place.__getitem__, column), np.int32, count)
        for place, column in zip(names, columns, strict=False)
    ]
    return [*codes, *(np.fromiter(column, np.int64, count) for column in columns[len(_LABELS) :])]


def _requests_of(start_ms: int, end_ms: int, tenant: str | None = None) -> Any:
    """Requests made then: their ids begin with the time."""
    r = requests.c
    then = and_(r.id >= f"req_{max(0, start_ms):012x}", r.id < f"req_{max(0, end_ms):012x}")
    return then if tenant is None else and_(then, r.tenant_id == tenant)


def _flows(connection: Connection, own: Any) -> list[tuple[Any, ...]]:
    """Few columns: SQLite sorts them all to group them."""
    r = requests.c
    keys = (r.route, case((r.endpoint == SHADOW, literal_column(f"'{SHADOW}'")), else_=r.reason), r.escalated)
    ok = func.sum(case((r.status == "ok", 1), else_=0))
    query = select(*keys, func.count(), ok, func.sum(r.hosted_nusd)).where(own, r.status != "open")
    return _rows(connection, query.group_by(*keys))


def _tokens(connection: Connection, day_ms: int, own: Any) -> list[Tokens]:
    """One entry, or none for a day without requests."""
    columns = [requests.c[name] for name in _TOKENS]
    escalated = [func.sum(case((requests.c.escalated, column), else_=0)) for column in columns]
    query = select(func.count(), func.sum(requests.c.audio_s), *map(func.sum, columns), *escalated)
    query = query.where(own, requests.c.endpoint != SHADOW)  # of which nobody would have asked a hosted model
    ((count, audio_s, *sums),) = _rows(connection, query)
    if not count:
        return []
    whole, replaced = [int(one) for one in sums[:3]], [int(one) for one in sums[3:]]
    if any(replaced):
        kept = _kept(connection, own)
        whole = [a - round(b * (1 - share)) for a, b, share in zip(whole, replaced, kept, strict=True)]
    return [Tokens(day_ms, whole[0], whole[1], whole[2], float(audio_s))]


def _kept(connection: Connection, own: Any) -> list[float]:
    """Of the tokens of escalated requests, the share that their last attempts computed, kind by kind."""
    c = calls.c
    some = select(requests.c.id).where(own, requests.c.escalated).limit(_REPLACED_LOOKED_AT).subquery()
    last = select(func.max(attempts.c.ordinal)).where(attempts.c.request_id == some.c.id).scalar_subquery()
    tokens = [c[name] for name in _TOKENS]
    answered = [func.sum(case((c.attempt_ordinal == last, one), else_=0)) for one in tokens]
    query = select(*map(func.sum, tokens), *answered).join(some, some.c.id == c.request_id)
    (sums,) = _rows(connection, query)
    return [float(part) / float(whole) if whole else 1.0 for whole, part in zip(sums[:3], sums[3:], strict=True)]


def _waits(connection: Connection, own: Any, one_in: int) -> Iterator[tuple[str | None, Floats, Floats]]:
    r, c = requests.c, conversations.c
    intent = case((r.endpoint == SPEECH, literal_column("''")), else_=c.intent)
    query = select(intent, r.ttft_ms, r.total_ms).join(
        conversations, and_(c.tenant_id == r.tenant_id, c.id == r.conversation_id)
    )
    query = query.where(own, r.status == "ok", r.total_ms.is_not(None), r.endpoint.not_in(BESIDE))
    if one_in > 1:
        query = query.where(func.substr(r.id, func.length(r.id)) < _DIGITS[one_in])
    groups: dict[str | None, list[tuple[float | None, float]]] = {}
    for name, ttft_ms, total_ms in _rows(connection, query):
        groups.setdefault(name, []).append((ttft_ms, total_ms))
    for name, found in groups.items():
        both = np.array(found, np.float64)
        yield name, both[:, 0], both[:, 1]


def _merged(parts: Iterable[tuple[list[list[Any]], list[_Day]]], one_in: int) -> MonthRead:
    names = [_Names() for _ in _LABELS]
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in (*_LABELS, *_NUMBERS)]
    flows: dict[tuple[Any, ...], list[int]] = {}
    tokens: list[Tokens] = []
    whole: list[Tokens] = []
    waits: dict[str | None, list[tuple[Floats, Floats]]] = {}
    for labels, days in parts:
        places = [
            np.array([place[name] for name in own] or [0], np.int32) for place, own in zip(names, labels, strict=True)
        ]
        for day in days:
            for n, column in enumerate(day.columns):
                columns[n].append(places[n][column] if n < len(_LABELS) else column)
            for route, reason, escalated, *sums in day.flows:
                row = flows.setdefault((route, reason, bool(escalated)), [0, 0, 0])
                row[:] = [a + int(b) for a, b in zip(row, sums, strict=True)]
            tokens += day.tokens
            whole += day.everyones_tokens
            for intent, ttft, total in day.waits:
                waits.setdefault(intent, []).append((ttft, total))
    joined = [np.concatenate(column) if column else np.zeros(0, np.int64) for column in columns]
    return MonthRead(
        Cohort(
            {field: list(place) for field, place in zip(_LABELS, names, strict=True)},
            dict(zip(_LABELS, joined[: len(_LABELS)], strict=True)),
            dict(zip(_NUMBERS, joined[len(_LABELS) :], strict=True)),
        ),
        tuple(Flow(*key, *sums) for key, sums in flows.items()),
        tuple(tokens),
        tuple(whole),
        {
            intent: (np.concatenate([ttft for ttft, _ in found]), np.concatenate([total for _, total in found]))
            for intent, found in waits.items()
        },
        one_in,
    )
