"""Run records: one JSON a run, of a published schema, with an index, and a row a request beside it.

What it is: the structs below are the schema. ``run.schema.json`` is what msgspec makes of them (``python -m
appliance_bench.records`` prints it; a test compares), ``write_run`` checks a record by them before a byte is written,
writes it under its name only when it is whole, and then adds its line to ``index.jsonl``.
What it refuses to be: forgiving or changeable. An unknown field, a number that is none, a run that is there already:
one sentence, and nothing half-written. Rows of requests are Parquet, which every tool for tables reads; those of the
first runs are gzipped JSONL.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import math
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

SCHEMA = 1
INDEX = "index.jsonl"
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
Knob = str | int | float | bool | None


class RecordError(ValueError):
    """A record that is not of the schema, or a place that does not take it: one sentence for people."""


class Percentiles(Struct, frozen=True, forbid_unknown_fields=True):
    """Nearest rank. ``p99`` is null where there were too few requests to claim one."""

    p50: Amount
    p95: Amount | None = None
    p99: Amount | None = None


class Fingerprint(Struct, frozen=True, forbid_unknown_fields=True):
    """What a figure depends on: hardware (cpu, cores, memory_gib, gpus), driver, model -> revision, versions."""

    hardware: dict[str, Any]
    driver: str = ""
    models: dict[str, str] = {}
    versions: dict[str, str] = {}


class Result(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One configuration, one repeat. ``requests`` counts those that failed too.

    ``goodput_per_s``: requests within the SLO, a second. ``offered_per_s`` (open loop) or ``concurrency`` (closed loop)
    say the load. ``rates``: other figures a second, by unit (``output_tokens_per_s``, ``rtfx``, ``sentences_per_s``).
    ``knobs``: the configuration's values, for heat maps. ``requests_file``: rows of its requests, beside the run.
    ``preemptions`` and ``errors`` are results, not accidents.
    """

    config_name: Annotated[str, Meta(min_length=1)]
    repeat: Count
    requests: Count
    failed: Count
    duration_s: Amount
    goodput_per_s: Amount
    ttft_ms: Percentiles | None = None
    tpot_ms: Percentiles | None = None
    e2e_ms: Percentiles | None = None
    client_lag_ms: Percentiles | None = None
    quality: dict[str, float] = {}
    offered_per_s: Amount | None = None
    concurrency: Count | None = None
    rates: dict[str, float] = {}
    knobs: dict[str, Knob] = {}
    errors: dict[str, int] = {}
    preemptions: Count | None = None
    requests_file: str | None = None
    held_out: bool = False


class Run(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One run. ``slo``: ``{"ttft_p99_ms": 500}``; ``config``: how it was made (argv, seed, data), free of form."""

    schema: Literal[1]
    id: Name
    kind: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]*$")]
    when: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]
    commit: Annotated[str, Meta(pattern=r"^([0-9a-f]{7,40}(-dirty)?|unknown)$")]
    fingerprint: Fingerprint
    suite: Name
    config: dict[str, Any]
    slo: dict[str, Amount]
    results: list[Result]
    notes: str | list[str] | UnsetType = UNSET


class Entry(Struct, frozen=True):
    """A line of the index."""

    id: str
    kind: str
    when: str
    suite: str
    commit: str
    file: str
    results: int


def results_dir() -> Path:
    """Where runs go: APPLIANCE_BENCH_RESULTS, else the checkout's benchmarks/results, else APPLIANCE_HOME/bench."""
    if named := os.environ.get("APPLIANCE_BENCH_RESULTS"):
        return Path(named).expanduser().absolute()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "benchmarks" / "results"
    return Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute() / "bench"


def new_id(kind: str, suite: str, when: datetime | None = None) -> str:
    """``kind-suite-20261126-113000-1f3a``: sorts by time within a suite, and two at once differ."""
    moment = (when or datetime.now(UTC)).astimezone(UTC)
    return f"{kind}-{suite}-{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def without_places(argv: Iterable[str]) -> list[str]:
    """Arguments without paths of this machine: of a path from the root (or home) only its last part is kept."""

    def last(text: str) -> str:
        head, sign, tail = text.partition("=") if text.startswith("-") else ("", "", text)
        if tail.startswith(("/", "~")):
            tail = Path(tail).name or "."
        return f"{head}{sign}{tail}"

    return [last(one) for one in argv]


def check(record: Mapping[str, Any]) -> Run:
    """``record`` as a Run. Raises RecordError naming the field."""
    try:
        run = msgspec.convert(record, Run, strict=True)
    except msgspec.ValidationError as e:
        raise RecordError(f"this is no run of schema {SCHEMA}: {e}") from None
    for path, value in _numbers(record, "$"):
        if not math.isfinite(value):
            raise RecordError(f"this is no run of schema {SCHEMA}: {path} is {value}, which JSON cannot hold")
    for n, result in enumerate(run.results):
        if result.failed > result.requests:
            raise RecordError(
                f"this is no run of schema {SCHEMA}: $.results[{n}] has more failed requests ({result.failed})"
                f" than requests ({result.requests})"
            )
    return run


def write_run(record: dict[str, Any], out: Path | None = None) -> Path:
    """Write ``record`` as ``<id>.json`` into the directory ``out`` and add it to the index; the path.

    Raises RecordError for a record that is not of the schema, an id that is there, a disk that is full; the directory
    then holds what it held before.
    """
    run = check(record)
    directory = out or results_dir()
    target = directory / f"{run.id}.json"
    # as given, so that what the caller wrote is what is kept; checked above
    data = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    line = msgspec.json.encode(_entry(run, target.name)) + b"\n"
    with _refusing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / INDEX) as index_fd:
            if target.exists():
                raise RecordError(f"{target} is there already; runs are never overwritten, give this one another id")
            _write_whole(target, data)
            try:
                _append(index_fd, line)
            except OSError:
                target.unlink(missing_ok=True)
                raise
    return target


def write_requests(run_id: str, rows: Iterable[Mapping[str, Any]], out: Path | None = None, part: str = "") -> Path:
    """Rows of single requests as ``<id>[.part].requests.parquet``: the path; ``requests_file`` takes its name.

    A field that a row lacks is null there. Raises RecordError, also for a field that is of several kinds.
    """
    import pyarrow  # 0.3 s, and most commands write no rows
    import pyarrow.parquet

    directory = out or results_dir()
    target = directory / f"{run_id}{'.' + part if part else ''}.requests.parquet"
    every = list(rows)
    names = list(dict.fromkeys(name for row in every for name in row))
    data = io.BytesIO()
    try:
        columns = {name: pyarrow.array([row.get(name) for row in every]) for name in names}
        pyarrow.parquet.write_table(pyarrow.table(columns), data, compression="zstd")
    except pyarrow.ArrowException as e:
        raise RecordError(f"these rows are no table: {e}") from None
    with _refusing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _write_whole(target, data.getvalue())
    return target


def read_requests(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that ``write_requests`` wrote, or once wrote. Raises RecordError."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                yield msgspec.json.decode(line)
    except (OSError, EOFError, msgspec.DecodeError) as e:
        raise RecordError(f"{path} cannot be read as rows of requests ({e})") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as e:
        raise RecordError(f"{path} cannot be read as rows of requests ({e})") from None


def read_run(where: str | Path, out: Path | None = None) -> Run:
    """The run of a file, or of an id (or its unique beginning) in ``out``. Raises RecordError."""
    path = _find(where, out or results_dir())
    try:
        record = msgspec.json.decode(path.read_bytes())
    except OSError as e:
        raise RecordError(f"{path} cannot be read ({e.strerror})") from None
    except msgspec.DecodeError as e:
        raise RecordError(f"{path} is no JSON ({e})") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path} is no run of schema {SCHEMA}: it holds no object")
    if record.get("schema") != SCHEMA:
        raise RecordError(f"{path} is no run of schema {SCHEMA}: its schema is {record.get('schema')!r}")
    try:
        return check(record)
    except RecordError as e:
        raise RecordError(f"{path}: {e}") from None


def index(out: Path | None = None) -> list[Entry]:
    """What ``index.jsonl`` lists, oldest first; nothing where there is none. Raises RecordError for a broken line."""
    path = (out or results_dir()) / INDEX
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as e:
        raise RecordError(f"{path} cannot be read ({e.strerror})") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except (msgspec.DecodeError, msgspec.ValidationError) as e:
            raise RecordError(f"{path}:{number} is no line of an index ({e}); `reindex` makes it anew") from None
        found[entry.id] = entry
    return sorted(found.values(), key=lambda entry: (entry.when, entry.id))


def reindex(out: Path | None = None) -> list[Entry]:
    """Make the index anew from the runs that are there; files of other kinds are passed over."""
    directory = out or results_dir()
    entries = []
    for path in sorted(directory.glob("*.json")):
        with contextlib.suppress(RecordError):
            entries.append(_entry(read_run(path), path.name))
    entries.sort(key=lambda entry: (entry.when, entry.id))
    with _refusing(directory):
        _write_whole(directory / INDEX, b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return entries


def schema() -> dict[str, Any]:
    """The published JSON schema."""
    made = msgspec.json.schema(Run)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"appliance bench run {SCHEMA}", **made}


def _entry(run: Run, file: str) -> Entry:
    return Entry(run.id, run.kind, run.when, run.suite, run.commit, file, len(run.results))


def _find(where: str | Path, directory: Path) -> Path:
    path = Path(where)
    if isinstance(where, Path) or path.suffix == ".json" or len(path.parts) > 1:
        return path
    if re.fullmatch(r"[A-Za-z0-9._-]+", str(where)):
        if (exact := directory / f"{where}.json").is_file():
            return exact
        matches = sorted(one.stem for one in directory.glob(f"{where}*.json"))
        if len(matches) == 1:
            return directory / f"{matches[0]}.json"
        if matches:
            raise RecordError(f"{where!r} is the beginning of {len(matches)} runs: {', '.join(matches[:5])}")
    raise RecordError(f"there is no run {where!r} in {directory}")


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _numbers(one, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for n, one in enumerate(value):
            yield from _numbers(one, f"{path}[{n}]")


@contextlib.contextmanager
def _refusing(directory: Path) -> Iterator[None]:
    """What the operating system says, as one sentence."""
    try:
        yield
    except OSError as e:
        raise RecordError(
            f"the run cannot be written to {directory}: {e.strerror}; make room or name another place with --out"
        ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The index, open for appending; one writer at a time."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _append(fd: int, line: bytes) -> None:
    """Add ``line``, all of it or nothing."""
    size = os.fstat(fd).st_size
    try:
        written = 0
        while written < len(line):
            written += os.write(fd, line[written:])
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise


def _write_whole(target: Path, data: bytes) -> None:
    """Under its name only when complete and synced."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema()), indent=1).decode() + "\n")
