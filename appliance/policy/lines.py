"""On which line of a TOML text a key stands, which tomllib does not tell.

What it is: ``lines_of(text)``, the line of every table header and key, by its path; members of inline tables and
arrays have the line of the key that holds them.
What it refuses to be: a parser. It is only asked about texts that tomllib has read, and only to say where to look.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")
_PART = re.compile(r"""([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|'([^']*)'""")
# what may hide a bracket: strings of one line, and comments; three quotes open a text of several
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')


def lines_of(text: str) -> dict[Path, int]:
    """Line numbers from 1 by path: ``("intents", "refund", "ttft_ms")``, ``("test", 2, "name")``."""
    found: dict[Path, int] = {}
    seen: dict[tuple[str, ...], int] = {}
    table: Path = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not depth and not quote:
            header = _HEADER.match(line)
            if header is not None:
                table = _table(_parts(header[2]), header[1] == "[[", seen)
                found.setdefault(table, number)
                continue
            key = _KEY.match(line)
            if key is not None:
                path: Path = (*table, *_parts(key[1]))
                found.setdefault(path, number)
                line = line[key.end() :]
        depth, quote = _open_at_end(line, depth, quote)
    return found


def line_of(lines: dict[Path, int], path: Sequence[str | int]) -> int | None:
    """The line of ``path``, or of the nearest that holds it."""
    for size in range(len(path), 0, -1):
        line = lines.get(tuple(path[:size]))
        if line is not None:
            return line
    return None


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(bare or basic or literal for bare, basic, literal in _PART.findall(dotted))


def _table(parts: tuple[str, ...], many: bool, seen: dict[tuple[str, ...], int]) -> Path:
    """The path of a header; a table of an array has its number."""
    if many:
        seen[parts] = seen.get(parts, -1) + 1
    path: list[str | int] = []
    for size in range(1, len(parts) + 1):
        path.append(parts[size - 1])
        if parts[:size] in seen:
            path.append(seen[parts[:size]])
    return tuple(path)


def _open_at_end(line: str, depth: int, quote: str) -> tuple[int, str]:
    """Open brackets and the open quote after ``line``."""
    at = 0
    while at < len(line):
        if quote:
            end = line.find(quote, at)
            if end < 0:
                return depth, quote
            at, quote = end + len(quote), ""
            continue
        token = _TOKEN.search(line, at)
        if token is None:
            break
        at = token.end()
        if token[0] in ('"""', "'''"):
            quote = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return depth, quote
