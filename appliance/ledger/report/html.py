"""A little HTML: escaped text, tables. Everything that is not markup of ours goes through ``text``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def text(value: object) -> str:
    """Escaped; also what comes from callers (intents, tenants) can hold no markup."""
    return escape(str(value))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """``heads`` and cells are HTML; columns in ``words`` are set left."""
    side = dict.fromkeys(words, ' class="t"')
    head = "".join(f"<th{side.get(n, '')}>{one}</th>" for n, one in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{side.get(n, '')}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def figure(svg: str) -> str:
    """A chart."""
    return f"<figure>{svg}</figure>"


def with_small(value: str, note: str) -> str:
    """A value with its interval below."""
    return f"{value}<br><small>{note}</small>" if note else value


def beside(value: str, note: str) -> str:
    """A value with its interval beside it."""
    return f"{value} <small>({note})</small>" if note else value
