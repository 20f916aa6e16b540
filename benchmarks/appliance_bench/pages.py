"""``appliance bench report``: runs as one HTML page that needs nothing else, and their plots as PNG.

What it is: what was run, on what, with which results (goodput never without the share that failed, speed never without
the quality of the same run), and the plots that the results can show. Plots that nothing here can show are named with
the command that makes them.
What it refuses to be: a link, a script or a font from elsewhere. It prints, and reads without colour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from appliance_bench.fingerprint import differences
from appliance_bench.plots import Plot, plots_of, png, svg
from appliance_bench.records import Percentiles, RecordError, Result, Run, index, read_run, results_dir

_ALL = {
    "pareto": ("throughput against speed for one user", "appliance bench run on a chat suite"),
    "goodput": ("goodput against offered load", "any run in the open loop"),
    "tail": ("P99 against load with the SLO", "any run of several loads"),
    "heat-map": ("max_num_seqs × max_num_batched_tokens", "appliance bench tune --engine chat"),
    "rtfx": ("RTFx against batch with WER", "appliance bench run on a speech suite"),
    "roofline": ("kernels under the roofline", "make gpu-check on a GPU"),
}
CSS = """
:root { --ink: #1b2430; --soft: #5a6675; --line: #d5dae1; --sans: "Inter", "Segoe UI", "Helvetica Neue", "Noto Sans",
  "Liberation Sans", Arial, "Noto Sans Devanagari", "Nirmala UI", "DejaVu Sans", sans-serif; }
* { box-sizing: border-box; }
html { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { margin: 0; background: #e9ecf1; color: var(--ink); font: 13px/1.42 var(--sans); }
main { max-width: 900px; margin: 0 auto; }
section { background: #fff; margin: 18px 0; padding: 30px 38px 24px; }
h1 { font-size: 25px; line-height: 1.15; margin: 0; } h2 { font-size: 17px; margin: 0 0 4px; break-after: avoid; }
h3 { font-size: 12.5px; margin: 18px 0 2px; break-after: avoid; }
p { margin: 4px 0 8px; } .note { color: var(--soft); font-size: 11.5px; }
figure { margin: 2px 0 8px; break-inside: avoid; max-width: 640px; }
figure svg { width: 100%; height: auto; display: block; overflow: visible; } svg text { font-family: var(--sans)
  !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 6px 0 10px; font-size: 11.5px; font-variant-numeric:
  tabular-nums; }
th { text-align: right; font-weight: 600; vertical-align: bottom; padding: 3px 0 3px 9px; font-size: 10.5px;
  line-height: 1.2;
  border-bottom: 1.5px solid var(--ink); }
td { text-align: right; padding: 3px 0 3px 9px; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
th.t, td.t { text-align: left; white-space: normal; overflow-wrap: break-word; min-width: 84px; }
th:first-child, td:first-child {
  padding-left: 0; }
tr { break-inside: avoid; } thead { display: table-header-group; }
dl { display: grid; grid-template-columns: 130px 1fr; gap: 2px 12px; font-size: 11.5px; margin: 8px 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.warn { border-left: 5px solid #d55e00; background: #fdf1e9; padding: 7px 12px; margin: 10px 0; }
@media (max-width: 700px) { section { padding: 18px 14px; } }
@page { size: A4; margin: 13mm; }
@media print { body { background: #fff; font-size: 9.6pt; } main { max-width: none; } section { margin: 0 0 14pt;
  padding: 0; }
  table { font-size: 7.8pt; } th { font-size: 7.2pt; } .wide { overflow: visible; } }
"""


def render(runs: Sequence[Run], at: datetime) -> str:
    """The page. ``runs`` in the order they are to be shown."""
    shown = {plot.name for run in runs for plot in plots_of(run)}
    missing = [f"{what} ({how})" for name, (what, how) in _ALL.items() if name not in shown]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Benchmarks, {at:%Y-%m-%d}</title><style>{CSS}</style></head><body><main>",
        f"<section><h1>Benchmarks</h1><p class=note>made {at:%Y-%m-%d %H:%M} UTC of {len(runs)} runs</p>",
        _warning(runs),
        _runs(runs),
        f"<p class=note>Nothing here shows: {escape('; '.join(missing))}.</p>" if missing else "",
        "</section>",
        *(_section(run) for run in runs),
        "</main></body></html>\n",
    ]
    return "".join(parts)


def _warning(runs: Sequence[Run]) -> str:
    changed = sorted({one for run in runs[1:] for one in differences(runs[0].fingerprint.hardware,
                                                                     run.fingerprint.hardware)})  # fmt: skip
    if not changed:
        return ""
    what = escape("; ".join(changed))
    return f"<div class=warn>These runs come from different hardware ({what}): do not compare them.</div>"


def _runs(runs: Sequence[Run]) -> str:
    rows = [
        (
            f'<a href="#{escape(run.id)}">{escape(run.id)}</a>', escape(run.suite),
            escape(run.when[:16].replace("T", " ")),
            escape(run.commit[:9] + ("-dirty" if run.commit.endswith("-dirty") else "")), escape(hardware(run)),
            str(len(run.results)),
        )
        for run in runs
    ]  # fmt: skip
    return _table(("run", "suite", "when", "commit", "hardware", "results"), rows, words=5)


def _section(run: Run) -> str:
    models = ", ".join(f"{name} {revision[:16]}" for name, revision in run.fingerprint.models.items()) or "not said"
    versions = ", ".join(f"{name} {version}" for name, version in run.fingerprint.versions.items()) or "not said"
    facts = {
        "hardware": hardware(run), "models": models, "versions": versions,
        "SLO": ", ".join(f"{name} ≤ {bound:g}" for name, bound in run.slo.items()) or "none",
        "commit": run.commit,
    }  # fmt: skip
    if isinstance(run.notes, str | list) and run.notes:
        facts["notes"] = run.notes if isinstance(run.notes, str) else "; ".join(run.notes)
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    figures = "".join(
        f"<h3>{escape(plot.title)}</h3><figure>{svg(plot, f'{run.id}-{plot.name}')}</figure>"
        + (f"<p class=note>{escape(plot.note)}</p>" if plot.note else "")
        for plot in plots_of(run)
    )
    return (
        f'<section id="{escape(run.id)}"><h2>{escape(run.suite)}</h2><p class=note>{escape(run.id)}</p>'
        f"<dl>{listed}</dl>{figures}<h3>Results</h3><div class=wide>{_results(run)}</div></section>"
    )


def _results(run: Run) -> str:
    rates = list(dict.fromkeys(name for result in run.results for name in result.rates))[:4]
    qualities = list(dict.fromkeys(name for result in run.results for name in result.quality))[:4]
    times = [(name, label) for name, label in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "whole"),
             ("client_lag_ms", "client late")) if any(getattr(result, name) for result in run.results)]  # fmt: skip
    heads = ["configuration", "load", "repeat", "requests", "failed", "goodput/s"]
    heads += [f"{label} ms p50 / p95 / p99" for _, label in times]
    heads += [name.replace("_per_s", "/s").replace("_", " ") for name in rates] + qualities
    rows = [
        [
            escape(result.config_name) + (" (held out)" if result.held_out else ""), _load(result), str(result.repeat),
            f"{result.requests:,}", _failed(result), f"{result.goodput_per_s:.3g}",
            *(_spread(getattr(result, name)) for name, _ in times),
            *(_number(result.rates.get(name)) for name in rates),
            *(_number(result.quality.get(name)) for name in qualities),
        ]
        for result in run.results
    ]  # fmt: skip
    return _table(heads, rows, words=1)


def hardware(run: Run) -> str:
    """In a few words."""
    found = run.fingerprint.hardware
    gpus = found.get("gpus") or []
    return f"{found.get('cpu', 'unknown')}, {found.get('cores', '?')} cores, {', '.join(map(str, gpus)) or 'no GPU'}"


def _load(result: Result) -> str:
    offered = result.offered_per_s if result.offered_per_s is not None else result.rates.get("load_per_s")
    if offered is not None:
        return f"{offered:.3g}/s"
    return f"{result.concurrency} at once" if result.concurrency is not None else "–"


def _failed(result: Result) -> str:
    share = result.failed / result.requests if result.requests else 0.0
    return f"{result.failed} ({100 * share:.1f} %)" if result.failed else "0"


def _spread(found: Percentiles | None) -> str:
    if found is None:
        return "–"
    return " / ".join("–" if value is None else _number(value) for value in (found.p50, found.p95, found.p99))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """Cells are HTML; the first ``words`` columns are set left."""
    side = [" class=t" if n < words else "" for n in range(len(heads))]
    head = "".join(f"<th{side[n]}>{escape(one)}</th>" for n, one in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{side[n]}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def chosen(named: Sequence[str], suite: str | None, out: Path) -> list[Run]:
    """The runs that were named, else the newest of each suite. Raises RecordError."""
    if named:
        return [read_run(one, out) for one in named]
    newest = {entry.suite: entry for entry in index(out) if suite is None or entry.suite == suite}
    if not newest:
        suites = ", ".join(sorted({entry.suite for entry in index(out)}))
        if suite is not None and suites:
            raise RecordError(f"{out} has no run of the suite {suite!r}; it has {suites}")
        raise RecordError(f"{out} lists no runs yet; `appliance bench run` makes one")
    return [read_run(out / entry.file) for entry in sorted(newest.values(), key=lambda entry: entry.suite)]


def write(runs: Sequence[Run], page: Path, pictures: Path | None) -> list[Path]:
    """The page and PNGs. Raises RecordError for a place that takes neither."""
    written = []
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        partial = page.with_name(f".{page.name}.partial")
        partial.write_text(render(runs, datetime.now(UTC)), encoding="utf-8")
        written.append(partial.replace(page))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for run in runs:
                for plot in plots_of(run):
                    written.append(_picture(plot, pictures / f"bench-{run.suite}-{plot.name}.png"))
    except OSError as e:
        raise RecordError(
            f"the report cannot be written: {e.strerror}; name another place with --out or --png"
        ) from None
    return written


def _picture(plot: Plot, target: Path) -> Path:
    png(plot, target)
    return target


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    p = argparse.ArgumentParser(prog="appliance bench report", description=__doc__.partition("\n")[0])
    p.add_argument(
        "runs", nargs="*", metavar="RUN", help="files, ids or their beginnings (default: newest of each suite)"
    )
    p.add_argument("--suite", help="only this suite")
    p.add_argument("--results", type=Path, help="where runs are (default: benchmarks/results)")
    p.add_argument("--out", type=Path, help="the page (default: report.html among the results)")
    p.add_argument("--png", type=Path, metavar="DIR", help="write every plot as a PNG into DIR too")
    args = p.parse_args(argv)
    out = args.results or results_dir()
    runs = chosen(args.runs, args.suite, out)
    for path in write(runs, args.out or out / "report.html", args.png):
        print(path)
    if all(not plots_of(run) for run in runs):
        print("note: none of these runs has what a plot needs", file=sys.stderr)
    return 0
