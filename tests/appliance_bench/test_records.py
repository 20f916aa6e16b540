"""Run records: whole or not at all, of the schema or refused in a sentence."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from appliance_bench import fingerprint, records

PUBLISHED = Path(records.__file__).with_name("run.schema.json")


def record(**more: Any) -> dict[str, Any]:
    result = {
        "config_name": "default", "repeat": 0, "requests": 10, "failed": 1, "duration_s": 2.5, "goodput_per_s": 3,
        "ttft_ms": {"p50": 10, "p95": 20.5, "p99": None}, "tpot_ms": None, "e2e_ms": {"p50": 1, "p95": 2, "p99": 3},
        "client_lag_ms": {"p50": 0.1, "p95": 0.2, "p99": 0.3}, "quality": {"chrf": 51.2},
    }  # fmt: skip
    return {
        "schema": 1, "id": "bench-chat-1", "kind": "bench", "when": "2026-11-26T10:00:00Z", "commit": "0123abc-dirty",
        "fingerprint": fingerprint.fingerprint({"m": "r1"}), "suite": "chat", "config": {"seed": 1},
        "slo": {"ttft_p99_ms": 500}, "results": [result], "notes": "a note", **more,
    }  # fmt: skip


def changed(**more: Any) -> dict[str, Any]:
    made = record()
    made["results"] = [{**made["results"][0], **more}]
    return made


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = records.write_run(record(), tmp_path)
    assert msgspec.json.decode(path.read_bytes()) == record()
    for where in (path, str(path), "bench-chat-1", "bench-chat"):
        run = records.read_run(where, tmp_path)
        assert run.results[0].ttft_ms == records.Percentiles(10, 20.5, None)
    entry = records.index(tmp_path)[0]
    assert (entry.id, entry.file, entry.suite, entry.results) == ("bench-chat-1", path.name, "chat", 1)


def test_the_published_schema_is_the_code_s_and_takes_the_same_runs() -> None:
    assert msgspec.json.decode(PUBLISHED.read_bytes()) == records.schema(), "python -m appliance_bench.records"
    validator = jsonschema.Draft202012Validator(records.schema())
    validator.validate(record())
    for wrong in WRONG:
        assert not validator.is_valid(wrong), wrong


WRONG = [
    record(schema=2), record(unknown=1), record(id="../up"), record(kind="Bench"), record(when="yesterday"),
    record(commit="HEAD"), record(slo={"ttft_p99_ms": -1}), record(results={}), changed(requests=-1),
    changed(config_name=""), changed(goodput_per_s="3"), changed(ttft_ms={"p95": 1}), changed(surprise=1),
    {key: value for key, value in record().items() if key != "fingerprint"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", [*WRONG, changed(goodput_per_s=float("nan")), changed(failed=11),
                                   record(config={"deep": [{"x": float("inf")}]})])  # fmt: skip
def test_what_is_not_of_the_schema_is_refused_and_leaves_nothing(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(records.RecordError, match="this is no run of schema 1") as said:
        records.write_run(wrong, tmp_path)
    assert "\n" not in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    records.write_run(record(), tmp_path)
    with pytest.raises(records.RecordError, match="never overwritten"):
        records.write_run(record(notes="another"), tmp_path)
    assert records.read_run("bench-chat-1", tmp_path).notes == "a note"
    assert len(records.index(tmp_path)) == 1


@pytest.mark.parametrize("at", ["run", "index"])
def test_a_full_disk_is_one_sentence_and_nothing_half_written(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.write_run(record(id="before"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = 0
    sync = os.fsync

    def full(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == (1 if at == "run" else 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(records.RecordError, match="No space left on device; make room or name another place"):
        records.write_run(record(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(records.RecordError, match="cannot be written to"):
        records.write_run(record(), tmp_path / "file" / "below")


def test_rows_of_requests(tmp_path: Path) -> None:
    rows = [{"at_s": n / 10, "ttft_ms": None if n % 7 else 5.0, "name": "ā", "ok": True} for n in range(1000)]
    path = records.write_requests("bench-chat-1", rows, tmp_path, part="r0")
    assert path.name == "bench-chat-1.r0.requests.parquet"
    assert list(records.read_requests(path)) == rows
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(records.RecordError, match="cannot be read as rows"):
        list(records.read_requests(path))


def test_rows_with_other_fields_and_of_other_kinds(tmp_path: Path) -> None:
    path = records.write_requests("bench-chat-2", [{"a": 1}, {"a": 2.5, "b": "x"}], tmp_path)
    assert list(records.read_requests(path)) == [{"a": 1.0, "b": None}, {"a": 2.5, "b": "x"}]
    with pytest.raises(records.RecordError, match="these rows are no table"):
        records.write_requests("bench-chat-3", [{"a": 1}, {"a": "x"}], tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_rows_of_the_first_runs_are_read() -> None:
    (old,) = (Path(__file__).parents[2] / "benchmarks" / "results").glob("capacity-fake-*.requests.jsonl.gz")
    rows = list(records.read_requests(old))
    assert len(rows) > 100 and {"at_s", "e2e_ms"} <= rows[0].keys()


def test_reading_what_is_no_run(tmp_path: Path) -> None:
    for text, said in (("{", "no JSON"), ("[]", "holds no object"), ('{"schema": 7}', "its schema is 7"),
                       ('{"schema": 1}', "missing required field")):  # fmt: skip
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(records.RecordError, match=said):
            records.read_run("x", tmp_path)
    for name in ("ab", "ac"):
        records.write_run(record(id=name), tmp_path)
    with pytest.raises(records.RecordError, match="the beginning of 2 runs: ab, ac"):
        records.read_run("a", tmp_path)
    with pytest.raises(records.RecordError, match="there is no run 'zz'"):
        records.read_run("zz", tmp_path)


def test_the_index_can_be_made_anew_and_a_broken_line_is_named(tmp_path: Path) -> None:
    assert records.index(tmp_path) == []
    records.write_run(record(id="late", when="2026-11-26T12:00:00Z"), tmp_path)
    records.write_run(record(id="early"), tmp_path)
    (tmp_path / "something-else.json").write_text('{"bench": "report"}')
    with (tmp_path / records.INDEX).open("a") as file:
        file.write('{"id": "half')
    with pytest.raises(records.RecordError, match=r"index.jsonl:3 is no line of an index"):
        records.index(tmp_path)
    assert [entry.id for entry in records.reindex(tmp_path)] == ["early", "late"]
    assert [entry.id for entry in records.index(tmp_path)] == ["early", "late"]


def test_ids_sort_by_time_and_two_at_once_differ() -> None:
    when = datetime(2026, 11, 26, 10, tzinfo=UTC)
    one, other = records.new_id("tune", "chat", when), records.new_id("tune", "chat", when)
    assert one != other
    assert one.startswith("tune-chat-20261126-100000-")
    records.check(record(id=one))


def test_fingerprints_say_where_they_differ() -> None:
    one = fingerprint.fingerprint({"m": "r1"})
    other = {**one, "models": {"m": "r2"}, "hardware": {**one["hardware"], "gpus": ["NVIDIA H200, 143771 MiB"]}}
    assert fingerprint.differences(one, one) == []
    assert fingerprint.differences(one, other) == [
        f"hardware.gpus: {', '.join(one['hardware']['gpus']) or 'none'} against NVIDIA H200, 143771 MiB",
        "models.m: r1 against r2",
    ]
    assert fingerprint.digest(one) == fingerprint.digest(dict(reversed(one.items()))) != fingerprint.digest(other)


def test_the_committed_index_names_the_runs_that_are_there() -> None:
    directory = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
    entries = records.index(directory)
    for entry in entries:
        assert records.read_run(directory / entry.file).id == entry.id
        for result in records.read_run(directory / entry.file).results:
            assert result.requests_file is None or (directory / result.requests_file).is_file()
