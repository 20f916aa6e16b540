"""The report: one page without a link outward, every plot where there is data for it, and none where there is not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from appliance_bench import pages, plots, records

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
HARDWARE = {"cpu": "a cpu", "cores": 2, "memory_gib": 24, "gpus": []}


def result(config: str, repeat: int = 0, goodput: float = 5.0, **more: Any) -> dict[str, Any]:
    return {
        "config_name": config, "repeat": repeat, "requests": 400, "failed": 2, "duration_s": 20.0,
        "goodput_per_s": goodput, "ttft_ms": {"p50": 80, "p95": 200, "p99": 300}, **more,
    }  # fmt: skip


def run(run_id: str, results: list[dict[str, Any]], **more: Any) -> records.Run:
    return records.check({
        "schema": 1, "id": run_id, "kind": "bench", "when": "2026-11-26T10:00:00Z", "commit": "0123abc",
        "fingerprint": {"hardware": HARDWARE, "driver": "", "models": {"m": "r"}, "versions": {"vllm": "1"}},
        "suite": "chat", "config": {}, "slo": {"ttft_p99_ms": 500}, "results": results, **more,
    })  # fmt: skip


def everything() -> list[records.Run]:
    """Runs that together can show every plot."""
    chat = [
        result(name, repeat, min(load, most) * 0.97, offered_per_s=load,
               ttft_ms={"p50": 50, "p95": 90, "p99": (120 + 20 * repeat) * (1 + max(0, load - most) * 2)},
               tpot_ms={"p50": 10 + load * 2, "p95": 40, "p99": 50},
               rates={"output_tokens_per_s": 60 * min(load, most)} | extra)
        for name, most, extra in (("shipped", 5.0, {}), ("tuned <b>", 8.0, {"predicted_goodput_per_s": 7.0}))
        for repeat in range(3)
        for load in (2.0, 4.0, 6.0, 8.0, 9.0)
    ]  # fmt: skip
    grid = [
        result("c", 0, seqs**0.5 + tokens / 1000, knobs={"max_num_seqs": seqs, "max_num_batched_tokens": tokens})
        for seqs in (32, 64, 128)
        for tokens in (512, 2048)
        if seqs + tokens > 600
    ]
    speech = [result("whisper", 0, 3, knobs={"max_batch": n}, rates={"rtfx": 4 + n}, quality={"wer": 0.1 + n / 1000})
              for n in (1, 2, 4, 8)]  # fmt: skip
    kernels = [result(name, 0, 0, rates={"flop_per_byte": at, "gflop_per_s": 0.7 * at * 4300, "roof_gb_per_s": 4300,
               "roof_gflop_per_s": 790000}) for name, at in (("beam_topk", 0.4), ("log_mel", 12.0))]  # fmt: skip
    return [
        run("one", chat), run("two", grid, suite="tune-chat"), run("three", speech, suite="voice-notes"),
        run("four", kernels, suite="kernels"),
    ]  # fmt: skip


def test_every_plot_of_the_reference_is_drawn() -> None:
    names = [plot.name for one in everything() for plot in plots.plots_of(one)]
    assert names == ["pareto", "goodput", "tail", "heat-map", "rtfx", "roofline"]


def test_the_page_stands_alone_and_escapes_what_runs_say() -> None:
    page = pages.render(everything(), AT)
    assert not re.search(r'(src|href)="(?!#)', page)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page and "<script" not in page
    assert "tuned <b>" not in page and "tuned &lt;b&gt;" in page
    assert page.count("<svg ") == 6
    for drawing in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing.replace("xlink:href", "href"))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two plots share an id, so one would use the other's clip or marker"


def test_a_figure_never_stands_without_what_belongs_to_it() -> None:
    page = pages.render(everything(), AT)
    assert "2 (0.5 %)" in page  # failed, beside goodput
    drawing = plots.svg(next(p for p in plots.plots_of(everything()[2]) if p.name == "rtfx"))
    assert "WER 10.8 %" in drawing
    tail = plots.svg(next(p for p in plots.plots_of(everything()[0]) if p.name == "tail"))
    assert "SLO 500 ms" in tail
    assert "beam_topk: 70 %" in plots.svg(plots.plots_of(everything()[3])[0])


def test_series_differ_by_more_than_colour() -> None:
    looks = plots._LOOKS
    assert len({str(look[1]) for look in looks}) == len({look[2] for look in looks}) == len(looks)


def test_what_is_not_there_is_not_drawn_and_named() -> None:
    bare = run("bare", [result("c", 0, 1.0, ttft_ms={"p50": 1, "p95": None, "p99": None}, offered_per_s=1.0)])
    assert plots.plots_of(bare) == []
    page = pages.render([bare], AT)
    assert "Nothing here shows" in page and "make gpu-check" in page
    assert "1 / – / –" in page


def test_a_percentile_that_one_load_does_not_support_is_not_drawn() -> None:
    few = result("c", 0, 1.0, offered_per_s=2.0, ttft_ms={"p50": 1, "p95": 2, "p99": None})
    many = result("c", 0, 1.0, offered_per_s=4.0)
    drawn = next(p for p in plots.plots_of(run("r", [few, many])) if p.name == "tail")
    assert drawn.title == "chat: P95 against load"


def test_runs_of_different_hardware_are_said_to_be() -> None:
    other = run("other", [result("c")], fingerprint={"hardware": {**HARDWARE, "gpus": ["NVIDIA H200"]}})
    assert "gpus: none against NVIDIA H200" in pages.render([run("r", [result("c")]), other], AT)
    assert "<div class=warn>" not in pages.render([run("r", [result("c")])] * 2, AT)


def test_the_command_writes_page_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    for one in everything()[:2]:
        records.write_run(msgspec.to_builtins(one), results)
    assert pages.main(["--results", str(results), "--png", str(tmp_path / "png")]) == 0
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [
        "bench-chat-goodput.png", "bench-chat-pareto.png", "bench-chat-tail.png", "bench-tune-chat-heat-map.png",
    ]  # fmt: skip
    assert (results / "report.html").read_text().startswith("<!doctype html>")
    with pytest.raises(records.RecordError, match="no run of the suite 'x'; it has chat, tune-chat"):
        pages.main(["--results", str(results), "--suite", "x"])
    with pytest.raises(records.RecordError, match="lists no runs yet"):
        pages.main(["--results", str(tmp_path / "png")])
    with pytest.raises(records.RecordError, match=r"cannot be written: .*name another place"):
        pages.main(["--results", str(results), "--out", str(results / "index.jsonl" / "page.html")])
