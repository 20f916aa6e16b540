"""Fills a ledger of its own with a simulated month.

What it is: ``fill``. A SQLite ledger is written beside its place and moved there when it is whole; on PostgreSQL
everything is one transaction. Either way its ``kind`` is ``simulated`` before it holds a single conversation.
What it refuses to be: able to touch a real ledger: whatever is there already must be simulated itself, and is replaced.
What it costs: a million conversations with 5 million attempts take some two minutes and 3.5 GB.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from sqlalchemy import Engine, select, update

from appliance.errors import LedgerUnavailable
from appliance.ledger import postgres, sqlite
from appliance.ledger.core import engine, reading, sentences, transaction
from appliance.ledger.demo import mix
from appliance.ledger.demo.conversations import DAY_MS, Drift
from appliance.ledger.demo.simulate import Simulation, Table, key_of
from appliance.ledger.lock import FileLock
from appliance.ledger.months import Calendar, before, month_name
from appliance.ledger.schema import meta
from appliance.ledger.upgrade import prepare, revision_of

_GATEWAY = "gw_demo"
_SOURCE = "invented for `appliance demo`; measured nowhere"
_EARLIER = 0.72  # the month before is this much of the month
_EARLIER_DRIFT = Drift(resolved=-0.045, escalates=1.3)
_LOCK_WAIT_S = 2.0
_REFUSED = (
    "there is a real ledger in {}; `appliance demo` writes only into a home of its own, so leave --home out or name"
    " an empty directory"
)


class Filled(Struct, frozen=True):
    """What was written: rows by table, and the months."""

    rows: dict[str, int]
    months: tuple[str, ...]


def fill(
    where: Path | str, month: int, conversations: int, *, months: int = 2, seed: int = 1, timezone: str = "Asia/Kolkata"
) -> Filled:
    """Make ``where`` a simulated ledger of ``conversations`` opened in ``month``, and fewer in the months before it.

    Raises LedgerUnavailable with one sentence where a real ledger is.
    """
    if isinstance(where, str):
        _refuse_a_real_one(where, "that database")
        prepare(where)
        _label(where)
        return _write(where, month, conversations, months, seed, timezone)
    where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(where, _LOCK_WAIT_S)
    try:
        _refuse_a_real_one(where, "that home")
        partial = where.with_name("demo.partial")
        _remove(partial)
        prepare(partial)
        written = _write(partial, month, conversations, months, seed, timezone)
        _remove(where)
        os.replace(partial, where)
        partial.with_name(f"{partial.name}.lock").unlink(missing_ok=True)
    finally:
        lock.release()
    return written


def kind_of(made: Engine) -> str:
    """``real`` or ``simulated``."""
    with reading(made) as connection:
        return str(connection.execute(select(meta.c.value).where(meta.c.name == "kind")).scalar() or "real")


def _refuse_a_real_one(where: Path | str, what: str) -> None:
    if revision_of(where) is None:
        return
    made = engine(where, read_only=isinstance(where, Path))
    try:
        if revision_of(where) == "0001" or kind_of(made) != "simulated":
            raise LedgerUnavailable(_REFUSED.format(what), code="ledger_real")
    finally:
        made.dispose()


def _label(url: str) -> None:
    """Say at once, before the long transaction, that it is simulated: cut off in it, it must not look real."""
    made = engine(url)
    try:
        with transaction(made) as connection:
            connection.execute(update(meta).where(meta.c.name == "kind").values(value="simulated"))
    finally:
        made.dispose()


def _remove(path: Path) -> None:
    for name in (path.name, *(f"{path.name}{end}" for end in ("-wal", "-shm", "-journal"))):
        path.with_name(name).unlink(missing_ok=True)


def _write(where: Path | str, month: int, conversations: int, months: int, seed: int, timezone: str) -> Filled:
    calendar = Calendar(timezone)
    volumes = _volumes(month, conversations, months)
    start_ms, until_ms = calendar.range_of(min(volumes))[0], calendar.range_of(month)[1]
    counts: dict[str, int] = {}
    simulation = Simulation(seed, start_ms, until_ms)
    with sentences(), _into_sqlite(where) if isinstance(where, Path) else _into_postgres(where) as put:
        for table in _site(start_ms):
            put(table)
        for table in _days(simulation, calendar, volumes, month):
            put(table)
            counts[table[0]] = counts.get(table[0], 0) + len(table[2])
        for table in simulation.rest(_GATEWAY):
            put(table)
    return Filled(counts, tuple(month_name(one) for one in sorted(volumes)))


def _volumes(month: int, conversations: int, months: int) -> dict[int, int]:
    """How many conversations each month has."""
    result = {}
    for _ in range(months):
        result[month] = max(1, conversations)
        month, conversations = before(month), int(conversations * _EARLIER)
    return result


def _days(simulation: Simulation, calendar: Calendar, volumes: dict[int, int], newest: int) -> Iterator[Table]:
    for month in sorted(volumes):
        drift = Drift() if month == newest else _EARLIER_DRIFT
        start_ms, end_ms = calendar.range_of(month)
        days = range(start_ms, end_ms, DAY_MS)
        sundays = [((day // DAY_MS) + 4) % 7 == 6 for day in days]  # midnight in India is the evening before in UTC
        edges = np.cumsum([mix.SUNDAY if sunday else 1.0 for sunday in sundays])
        edges = np.rint(edges / edges[-1] * volumes[month]).astype(int)
        for day_ms, count in zip(days, np.diff(edges, prepend=0).tolist(), strict=True):
            if count:
                yield from simulation.day(day_ms, month, count, drift)


def _site(start_ms: int) -> Iterator[Table]:
    """Tenants, keys (nobody has their secrets), prices, coefficients and the server."""
    yield (
        "tenants",
        ("id", "name", "cache_salt", "secret", "created_ms", "residency"),
        [(t.id, t.name, secrets.token_hex(16), secrets.token_hex(32), start_ms, t.residency) for t in mix.TENANTS],
    )
    yield (
        "keys",
        ("id", "tenant_id", "name", "role", "digest", "created_ms"),
        [(key_of(t.id), t.id, "demo", "client", secrets.token_hex(32), start_ms) for t in mix.TENANTS],
    )
    yield (
        "prices",
        ("provider", "model", "unit", "batch", "effective_ms", "usd_per_million", "source"),
        [
            (mix.PROVIDER, mix.HOSTED_MODEL, unit, batch, start_ms, price, _SOURCE)
            for unit, both in mix.PRICES.items()
            for batch, price in zip((False, True), both, strict=True)
        ],
    )
    yield (
        "coefficients",
        ("model", "effective_ms", "prompt_token_ns", "completion_token_ns", "audio_s_ns", "character_ns", "source"),
        [
            (e.model, start_ms, e.prompt_token_ns, e.completion_token_ns, e.audio_s_ns, e.character_ns, _SOURCE)
            for e in mix.ENGINES
        ],
    )
    yield "server_costs", ("effective_ms", *mix.SERVER), [(start_ms, *mix.SERVER.values())]


@contextmanager
def _into_sqlite(path: Path) -> Iterator[Callable[[Table], None]]:
    """Rows into a file that nobody else sees yet, so that it needs neither a journal nor syncs."""
    connection = sqlite.connect(path)
    try:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "cache_size=-262144"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET value = 'simulated' WHERE name = 'kind'")
        connection.execute("DELETE FROM tenants")  # the one that comes with a new ledger

        def put(table: Table) -> None:
            name, fields, rows = table
            marks = ", ".join("?" * len(fields))
            connection.executemany(f"INSERT INTO {name} ({', '.join(fields)}) VALUES ({marks})", rows)

        yield put
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@contextmanager
def _into_postgres(url: str) -> Iterator[Callable[[Table], None]]:
    """Rows by COPY, in one transaction that begins by emptying what an earlier demo left."""
    with postgres.open_connection(url, manual=True) as connection:
        postgres.take_your_time(connection)
        connection.execute("UPDATE meta SET value = 'simulated' WHERE name = 'kind'")
        connection.execute(f"TRUNCATE {', '.join(_EMPTIED)}".encode())

        def put(table: Table) -> None:
            name, fields, rows = table
            with connection.cursor().copy(f"COPY {name} ({', '.join(fields)}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)

        yield put


_EMPTIED = (
    "calls", "attempts", "requests", "outcomes", "conversations", "threads", "texts", "budgets", "meters",
    "idempotency", "glossary_terms", "translations", "decisions", "engine_hours", "prices", "coefficients",
    "server_costs", "keys", "tenants",
)  # fmt: skip
