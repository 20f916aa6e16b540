"""A table that somebody made elsewhere (CSV, TSV, JSON) as values, or one sentence about what is wrong with it.

What it refuses to be: lenient. An unknown column is an error that names the known ones; an empty cell is a column that
was not given.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)
MOST_BYTES = 16 * 1024 * 1024


def read(file: Path, kind: type[T]) -> list[T]:
    """The rows of ``file``: ``.json`` is a list of objects, ``.tsv`` has tabs, anything else commas. ValueError."""
    columns = ", ".join(field.name for field in msgspec.structs.fields(kind))
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
    except OSError as e:
        raise ValueError(f"{file} cannot be read ({e.strerror})") from None
    if len(raw) > MOST_BYTES:
        raise ValueError(f"{file} is larger than {MOST_BYTES} bytes; split it")
    try:
        if file.suffix.lower() == ".json":
            return list(msgspec.json.decode(raw, type=list[kind]))  # type: ignore[valid-type]
        rows = _rows(raw.decode("utf-8-sig"), "\t" if file.suffix.lower() in (".tsv", ".tab") else ",")
    except UnicodeDecodeError as e:
        raise ValueError(f"{file} is not UTF-8 (byte {e.start}); save it as UTF-8") from None
    except (msgspec.DecodeError, csv.Error) as e:
        raise ValueError(f"{file} is not understood ({e}); write a list with {columns}") from None
    found = []
    for line, row in rows:
        try:
            found.append(msgspec.convert(row, kind, strict=False))
        except msgspec.ValidationError as e:
            raise ValueError(f"{file}, line {line}: {e}; its columns are {columns}") from None
    return found


def _rows(text: str, delimiter: str) -> list[tuple[int, dict[str, Any]]]:
    """Line number and filled cells of each row below the head."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    head = [cell.strip().lower() for cell in next(reader, [])]
    found = []
    for cells in reader:
        if len(cells) > len(head):
            raise csv.Error(f"line {reader.line_num} has {len(cells)} cells and the head {len(head)}")
        row = {name: cell.strip() for name, cell in zip(head, cells, strict=False) if cell.strip()}
        if row:
            found.append((reader.line_num, row))
    return found
