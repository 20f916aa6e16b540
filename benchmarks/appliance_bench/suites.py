"""Suites: which workloads at which loads for how long. ``suites/NAME.toml``.

What it is: files read into cells. A cell is a workload, or several at once (``mixed``, weights that share the load); a
load is requests a second of an open loop, or callers at once where the workload is live sessions or the gateway's rate.
What it refuses to be: a search. Loads are given; ``appliance bench tune`` finds them.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance_bench import workloads
from appliance_bench.records import RecordError
from appliance_bench.workloads import Workload

HERE = Path(__file__).parent / "suites"
GENERATORS = ("auto", "own", "vllm")


class Lines(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[cells]]``."""

    loads: list[float]
    workload: str = ""
    mixed: dict[str, float] = {}
    seconds: float = 0.0


class Sheet(Struct, frozen=True, forbid_unknown_fields=True):
    """A file."""

    about: str
    cells: list[Lines]
    seconds: float = 30.0
    repeats: int = 1
    generator: str = "auto"


class Part(Struct, frozen=True):
    """A workload at a load; ``name`` is its configuration in the record."""

    name: str
    workload: Workload
    load: float


class Cell(Struct, frozen=True):
    """What is measured at once, and which time."""

    parts: tuple[Part, ...]
    seconds: float
    repeat: int

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that it needs, each once."""
        kinds = [part.workload.sheet.engine for part in self.parts]
        return tuple(dict.fromkeys(one for kind in kinds for one in workloads.THROUGH.get(kind, (kind,))))

    @property
    def key(self) -> tuple[tuple[str, float], int]:
        """What a resumed run knows it by."""
        return (self.parts[0].name, round(self.parts[0].load, 4)), self.repeat

    def __str__(self) -> str:
        return " + ".join(f"{part.workload.name} at {part.load:g}{unit(part)}" for part in self.parts)


def unit(part: Part) -> str:
    """Of its load."""
    return " at once" if closed(part) else "/s"


def closed(part: Part) -> bool:
    """Whether its load is callers and no rate."""
    return part.workload.sheet.engine in ("live", "rate")


def names(directory: Path = HERE) -> list[str]:
    """What there is."""
    return sorted(path.stem for path in directory.glob("*.toml"))


def load(name: str, loads: Sequence[float] = (), directory: Path = HERE, items: Path = workloads.HERE) -> Sheet:
    """A suite, or one of a single workload at ``loads``. Raises RecordError that names the nearest there is."""
    path = directory / f"{name}.toml"
    if not path.is_file():
        known = [*names(directory), *workloads.names(items)]
        if name in known:
            if not loads:
                raise RecordError(f"{name} is a workload; say at which loads: --loads 1,2")
            return Sheet(name, [Lines(list(loads), name)])
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise RecordError(f"there is no suite {name!r}; {hint}")
    try:
        sheet = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Sheet)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as e:
        raise RecordError(f"{path} is no suite: {e}") from None
    for lines in sheet.cells:
        if bool(lines.workload) == bool(lines.mixed) or not lines.loads or min(lines.loads) <= 0:
            raise RecordError(f"{path}: a cell has loads above 0, and either workload or mixed")
    if sheet.generator not in GENERATORS:
        raise RecordError(f"{path}: the generator is one of {', '.join(GENERATORS)}")
    if loads:
        return msgspec.structs.replace(
            sheet, cells=[msgspec.structs.replace(c, loads=list(loads)) for c in sheet.cells]
        )
    return sheet


def cells(sheet: Sheet, repeats: int = 0, seconds: float = 0.0, items: Path = workloads.HERE) -> Iterator[Cell]:
    """Every cell once, then every cell again: what the machine does meanwhile falls on all of them."""
    for repeat in range(repeats or sheet.repeats):
        for lines in sheet.cells:
            weights = lines.mixed or {lines.workload: 1.0}
            for at in lines.loads:
                parts = [
                    Part(
                        f"{name}{' in a mix' if lines.mixed else ''}",
                        workloads.load(name, items),
                        at * weight / sum(weights.values()),
                    )
                    for name, weight in weights.items()
                ]
                if lines.mixed and any(closed(part) for part in parts):
                    raise RecordError("live sessions and the gateway's rate are measured by themselves, not in a mix")
                yield Cell(tuple(parts), seconds or lines.seconds or sheet.seconds, repeat)
