"""Cursors: where a list goes on, as an opaque text that can be handed back.

What it refuses to be: an offset. Rows that come or go between two pages neither repeat nor hide others. Or a search
without end: a list that is asked for what no index finds looks at ``most`` rows, and a part may then be short.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Engine, Integer, RowMapping, Select, tuple_

from appliance.ledger.core import reading

T = TypeVar("T")
MOST = 1000
MOST_LOOKED_AT = 50_000  # 0.1 to 0.2 s of a million rows


class Page(Struct, Generic[T], frozen=True):
    """A part of a list; ``next`` gives the following part, None at the end."""

    items: list[T]
    next: str | None


def cursor(*values: int | str) -> str:
    """The position after a row with these sort values."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def after(query: Select[Any], columns: tuple[ColumnElement[Any], ...], at: str | None, descending: bool) -> Select[Any]:
    """``query`` sorted by ``columns`` (integers and texts), from the position ``at``. Raises ValueError."""
    order = [column.desc() if descending else column for column in columns]
    query = query.order_by(*order)
    if at is None:
        return query
    values = _decoded(at)
    if len(values) != len(columns) or not all(map(_fits, columns, values)):
        raise ValueError("the cursor is not one of this list; leave it out to begin again")
    position = tuple_(*columns)
    return query.where(position < tuple_(*values) if descending else position > tuple_(*values))


def beyond(columns: tuple[ColumnElement[Any], ...], values: tuple[int | str, ...]) -> ColumnElement[bool]:
    """Rows that come after the one with ``values``, ascending."""
    return tuple_(*columns) > tuple_(*values)


def paged(
    engine: Engine,
    query: Select[Any],
    columns: tuple[ColumnElement[Any], ...],
    make: Callable[[RowMapping], T],
    *,
    at: str | None,
    limit: int,
    descending: bool = False,
    wanted: Sequence[ColumnElement[bool]] = (),
    most: int | None = None,
) -> Page[T]:
    """A page of ``query``, which gives ``columns`` among others, each row made by ``make``. Raises ValueError.

    Of its rows those that are ``wanted``, out of ``most`` at most: the page may be short, or empty, and yet go on.
    """
    keys = [column.label(f"cursor_{n}") for n, column in enumerate(columns)]
    query = after(query, columns, at, descending)
    with reading(engine) as connection:
        edge = None
        if wanted and most is not None:
            edge = connection.execute(query.with_only_columns(*keys).offset(most - 1).limit(1)).first()
        query = query.add_columns(*keys).where(*wanted)
        if edge is not None:
            position, end = tuple_(*columns), tuple_(*edge)
            query = query.where(position >= end if descending else position <= end)
        found = connection.execute(query.limit(checked_limit(limit) + 1)).mappings().all()
    items = [make(row) for row in found[:limit]]
    if len(found) > limit:
        return Page(items, cursor(*(found[limit - 1][key.name] for key in keys)))
    return Page(items, None if edge is None else cursor(*edge))


def checked_limit(limit: int) -> int:
    """1 to 1000. Raises ValueError."""
    if not 1 <= limit <= MOST:
        raise ValueError(f"limit is {limit}; give a number from 1 to {MOST}")
    return limit


def _decoded(at: str) -> list[Any]:
    try:
        raw = base64.urlsafe_b64decode(at.encode("ascii") + b"=" * (-len(at) % 4))
        found: list[Any] = msgspec.json.decode(raw, type=list[int | str])
    except (ValueError, binascii.Error, UnicodeEncodeError, RecursionError, msgspec.DecodeError):
        return []
    return found


def _fits(column: ColumnElement[Any], value: int | str) -> bool:
    if isinstance(column.type, Integer):  # what PostgreSQL cannot hold it would refuse to compare with
        return isinstance(value, int) and abs(value) < 2 ** (62 if isinstance(column.type, BigInteger) else 31)
    return isinstance(value, str) and "\0" not in value and value.isprintable()
