"""Ratios with intervals: known ones are found, what cannot be told is said, what cannot be compared is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from appliance_bench import compare, records

FINGERPRINT = {"hardware": {"cpu": "one", "cores": 2, "gpus": []}, "driver": "", "models": {}, "versions": {}}


def result(config: str, repeat: int, goodput: float, **more: Any) -> dict[str, Any]:
    return {
        "config_name": config, "repeat": repeat, "requests": 100, "failed": 0, "duration_s": 10.0,
        "goodput_per_s": goodput, **more,
    }  # fmt: skip


def run(run_id: str, results: list[dict[str, Any]], **more: Any) -> records.Run:
    record = {
        "schema": 1, "id": run_id, "kind": "bench", "when": "2026-11-26T10:00:00Z", "commit": "unknown",
        "fingerprint": FINGERPRINT, "suite": "chat", "config": {}, "slo": {"ttft_ms": 500}, "results": results, **more,
    }  # fmt: skip
    return records.check(record)


def line(found: compare.Comparison, metric: str) -> compare.Line:
    return next(one for one in found.lines if one.metric == metric)


def test_a_known_ratio_is_inside_a_narrow_interval() -> None:
    rng = random.Random(1)
    a = [rng.gauss(10, 0.1) for _ in range(8)]
    b = [rng.gauss(15, 0.1) for _ in range(8)]
    found = compare.ratio(a, b)
    assert found.low is not None and found.high is not None
    assert found.low < 1.5 < found.high
    assert found.high - found.low < 0.1


@pytest.mark.parametrize("repeats", [3, 5, 8])
def test_intervals_hold_the_truth_about_as_often_as_they_say(repeats: int) -> None:
    rng = random.Random(repeats)
    held = 0
    for _ in range(300):
        a = [rng.gauss(10, 1) for _ in range(repeats)]
        b = [rng.gauss(12, 1.2) for _ in range(repeats)]
        found = compare.ratio(a, b, draws=400)
        assert found.low is not None and found.high is not None
        held += found.low <= 1.2 <= found.high
    assert held / 300 >= 0.92


def test_pairs_take_out_what_both_sides_share() -> None:
    drift = [1.0, 1.4, 0.7, 1.2, 0.9]
    a, b = [10 * one for one in drift], [11 * one for one in drift]
    apart, paired = compare.ratio(a, b), compare.ratio(a, b, paired=True)
    assert apart.low is not None and apart.low < 1
    assert paired.low == pytest.approx(1.1) and paired.high == pytest.approx(1.1)


def test_two_configurations_of_one_run_are_pairs() -> None:
    drift = [1.0, 1.4, 0.7]
    both = run(
        "x", [result(name, n, base * one) for n, one in enumerate(drift) for name, base in (("a", 10), ("b", 12))]
    )
    found = line(compare.compare(both, both, "a", "b"), "goodput_per_s")
    assert found.config == "a → b"
    assert found.verdict == "better"
    assert found.ratio.value == pytest.approx(1.2)


def test_noise_is_inconclusive_and_says_its_range() -> None:
    a = run("a", [result("c", n, value) for n, value in enumerate([10.0, 12.0, 9.0])])
    b = run("b", [result("c", n, value) for n, value in enumerate([11.0, 9.5, 12.5])])
    found = line(compare.compare(a, b), "goodput_per_s")
    assert found.verdict == "inconclusive"
    assert "anything from -" in found.why
    assert "inconclusive: anything from" in compare.show(compare.compare(a, b))


def test_one_repeat_is_inconclusive_however_large_the_ratio() -> None:
    a, b = run("a", [result("c", 0, 10)]), run("b", [result("c", 0, 30)])
    found = line(compare.compare(a, b), "goodput_per_s")
    assert (found.verdict, found.ratio.value, found.ratio.low) == ("inconclusive", 3.0, None)
    assert "1 repeat" in found.why


def test_a_time_that_grew_is_worse_and_fails_only_when_all_of_the_interval_is_past_the_bound() -> None:
    def times(run_id: str, base: float) -> records.Run:
        spread = ({"p50": base + step, "p95": None, "p99": None} for step in (0.0, 0.4, -0.4, 0.2))
        return run(run_id, [result("c", n, 10, ttft_ms=one) for n, one in enumerate(spread)])

    found = compare.compare(times("a", 100), times("b", 120))
    assert line(found, "ttft_ms.p50").verdict == "worse"
    assert [one.metric for one in compare.worse_than(found, 5)] == ["ttft_ms.p50"]
    assert not compare.worse_than(found, 25)
    assert line(compare.compare(times("b", 120), times("a", 100)), "ttft_ms.p50").verdict == "better"


@pytest.mark.parametrize("metric", ["ttft_ms.p99", "failed_share", "quality.wer", "quality.hin_cer"])
def test_less_of_these_is_better(metric: str) -> None:
    assert compare.lower_is_better(metric)
    assert not compare.lower_is_better("quality.chrf")
    assert not compare.lower_is_better("rates.rtfx")


def test_nothing_divided_by_nothing() -> None:
    a = run("a", [result("c", n, 0) for n in range(3)])
    b = run("b", [result("c", n, 5) for n in range(3)])
    assert line(compare.compare(a, b), "goodput_per_s").why == "A has none: no ratio"
    assert line(compare.compare(b, a), "goodput_per_s").why == "B has none: no ratio"
    assert line(compare.compare(a, a), "goodput_per_s").why == "none on either side"


def test_other_suites_are_refused_other_slos_and_machines_are_said() -> None:
    a = run("a", [result("c", n, 10, rates={"tokens": 5}) for n in range(3)])
    with pytest.raises(records.RecordError, match="suite 'chat' and b of 'speech'"):
        compare.compare(a, run("b", [result("c", 0, 10)], suite="speech"))
    other = run(
        "b", [result("c", n, 10, rates={"tokens": 5}) for n in range(3)], slo={"ttft_ms": 900},
        fingerprint={**FINGERPRINT, "hardware": {"cpu": "another", "cores": 2, "gpus": []}},
    )  # fmt: skip
    found = compare.compare(a, other)
    assert any("hardware.cpu: one against another" in one for one in found.warnings)
    assert any("goodput is left out" in one for one in found.warnings)
    assert "goodput_per_s" not in {one.metric for one in found.lines}


def test_other_loads_are_other_rows() -> None:
    a = run("a", [result("c", n, 10 * load, offered_per_s=load) for n in range(3) for load in (1, 2)])
    b = run("b", [result("c", n, 10 * load, offered_per_s=load) for n in range(3) for load in (2, 3)])
    assert {one.load for one in compare.compare(a, b).lines} == {"2/s"}
    c = run("c", [result("d", 0, 1, offered_per_s=7), result("e", 0, 1, offered_per_s=7)])
    with pytest.raises(records.RecordError, match=r"nothing in common.*RUN:CONFIG"):
        compare.compare(a, c)
    with pytest.raises(records.RecordError, match="no configuration 'x'; it has c"):
        compare.compare(a, b, "x")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import msgspec

    for name, base in (("slow", 10.0), ("fast", 20.0)):
        made = run(name, [result("c", n, base + n / 10) for n in range(4)])
        records.write_run(msgspec.to_builtins(made), tmp_path)
    where = ["--results", str(tmp_path), "--metric", "goodput"]
    assert compare.main(["slow", "fast", *where]) == 0
    assert "better: +9" in capsys.readouterr().out
    assert compare.main(["fast", "slow", *where, "--fail-below", "5"]) == 1
    assert "worse than -5 %: c at its own load, goodput_per_s" in capsys.readouterr().err
    with pytest.raises(records.RecordError, match="there is no metric nothing; there are"):
        compare.main(["fast", "slow", "--results", str(tmp_path), "--metric", "nothing"])
    with pytest.raises(records.RecordError, match="there is no run 'absent'"):
        compare.main(["absent", "slow", "--results", str(tmp_path)])
