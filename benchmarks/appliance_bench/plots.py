"""The plots of a report: one function each from results to a drawing, as SVG for a page or as PNG.

What it is: matplotlib without a display. Every series has its own dash and marker and its name beside its end, so that
neither print nor colour-blind eyes lose anything; repeats are points, their mean is the line. A function returns None
where the results have not what it shows.
What it refuses to be: a smoother, or a place where results of different fingerprints meet.
What it costs: matplotlib takes 0.5 s to load, a plot some 50 ms.
"""

from __future__ import annotations

import io
import logging
import math
import re
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from appliance_bench.records import Result, Run

# Okabe and Ito's colours, told apart by every common kind of colour vision
BLUE, ORANGE, GREEN, RED, SKY, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
INK, FAINT = "#1b2430", "#d5dae1"
_LOOKS = (
    (BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^"), (RED, "-.", "D"), (SKY, (0, (5, 1, 1, 1, 1, 1)), "v"),
    (PINK, (0, (1, 1)), "P"),
)  # fmt: skip
_MOST_SERIES = len(_LOOKS)
_SETTINGS = {
    "svg.fonttype": "none", "font.size": 8.5, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "hatch.linewidth": 0.7, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.titleweight": "bold",
}  # fmt: skip
_NEEDLESS = re.compile(r'<metadata>.*?</metadata>|<style type="text/css">.*?</style>|(?<=<g) id="[^"]*"', re.DOTALL)
_PROLOGUE = re.compile(r"^.*?(?=<svg )", re.DOTALL)


class Plot(Struct, frozen=True):
    """``name`` is the file's; ``draw`` takes matplotlib's axes and figure."""

    name: str
    title: str
    draw: Callable[[Any, Any], None]
    note: str = ""
    width: float = 6.2
    height: float = 3.3


class Point(Struct, frozen=True):
    """Repeats of one place: all their values."""

    x: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


Series = Mapping[str, Sequence[Point]]


def plots_of(run: Run) -> list[Plot]:
    """Whatever the results of ``run`` can show, in the order of the reference."""
    made = (one(run) for one in (pareto, goodput, tail, heat_map, speech, roofline))
    return [plot for plot in made if plot is not None]


def pareto(run: Run) -> Plot | None:
    """Tokens a second of the whole box against those that one user sees."""

    def user(result: Result) -> float | None:
        return 1000 / result.tpot_ms.p50 if result.tpot_ms is not None and result.tpot_ms.p50 > 0 else None

    series = _series(run, user, lambda result: result.rates.get("output_tokens_per_s"))
    gpus = len(run.fingerprint.hardware.get("gpus") or ())
    if not series:
        return None
    unit = "GPU" if gpus else "box (no GPU)"
    shared = {name: [Point(p.x, tuple(v / max(gpus, 1) for v in p.values)) for p in ps] for name, ps in series.items()}

    def draw(axes: Any, figure: Any) -> None:
        _lines(axes, run, shared)
        axes.set_xlabel("tokens a second that one user sees (1000 / median TPOT)")
        axes.set_ylabel(f"tokens a second of a {unit}")

    return Plot("pareto", f"{run.suite}: throughput against speed for one user", draw, "up and to the right is better")


def goodput(run: Run) -> Plot | None:
    """Goodput against the offered rate, with what was predicted where there is a prediction."""
    series = dict(_series(run, _offered, lambda result: result.goodput_per_s))
    if not series or not any(len(points) > 1 for points in series.values()):
        return None
    predicted = _series(run, _offered, lambda r: r.rates.get("predicted_goodput_per_s"))
    series |= {"predicted" if len(predicted) == 1 else f"{name}, predicted": ps for name, ps in predicted.items()}
    if len(predicted) == 1 and len(series) == 2:
        series = {"measured" if name != "predicted" else name: points for name, points in series.items()}
    failed = [r.failed / r.requests for r in run.results if _offered(r) is not None and r.requests]

    def draw(axes: Any, figure: Any) -> None:
        most = max(point.x for points in series.values() for point in points)
        axes.plot([0, most], [0, most], color=FAINT, linewidth=1.2, zorder=0)
        axes.annotate("all that is offered", (most * 0.28, most * 0.28), xytext=(-4, 6), textcoords="offset points",
                      ha="right", fontsize=7.5, color="#5a6675")  # fmt: skip
        _lines(axes, run, series)
        axes.set_xlabel("offered, requests a second")
        axes.set_ylabel("within the SLO, a second")

    return Plot(
        "goodput", f"{run.suite}: goodput by offered load ({_slo(run)})", draw,
        f"failed requests: {100 * max(failed, default=0.0):.2f} % at most of any load",
    )  # fmt: skip


def tail(run: Run) -> Plot | None:
    """The highest percentile that every load supports, against load, with the line of the SLO."""
    for metric in ("ttft_ms", "e2e_ms", "tpot_ms"):
        bound = next((run.slo[name] for name in _slo_names(metric) if name in run.slo), None)
        if bound is None:
            continue
        for percentile in ("p99", "p95"):
            series = _series(run, _load, partial(_percentile, metric, percentile), whole=True)
            if series and any(len(points) > 1 for points in series.values()):
                return _tail(run, metric, percentile, bound, series)
    return None


def heat_map(run: Run) -> Plot | None:
    """Goodput by max_num_seqs and max_num_batched_tokens."""
    cells: dict[tuple[float, float], list[float]] = defaultdict(list)
    for result in run.results:
        seqs, tokens = result.knobs.get("max_num_seqs"), result.knobs.get("max_num_batched_tokens")
        if isinstance(seqs, int | float) and isinstance(tokens, int | float):
            cells[(float(seqs), float(tokens))].append(result.goodput_per_s)
    seqs_at, tokens_at = (sorted({key[n] for key in cells}) for n in (0, 1))
    if len(cells) < 2:
        return None
    values = {key: statistics.fmean(found) for key, found in cells.items()}

    def draw(axes: Any, figure: Any) -> None:
        grid = [[values.get((s, t), math.nan) for s in seqs_at] for t in tokens_at]
        # a mesh and no image: within a page an image would be a picture in a picture
        axes.pcolormesh(grid, cmap="Blues", vmin=0, edgecolors="white", linewidth=1.5)
        best, most = max(values, key=lambda key: values[key]), max(values.values()) or 1.0
        for y, t in enumerate(tokens_at):
            for x, s in enumerate(seqs_at):
                value = values.get((s, t))
                text = "–" if value is None else f"{value:.2f}" + (" ★" if (s, t) == best else "")
                dark = value is not None and value > 0.6 * most
                axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color="white" if dark else INK,
                          weight="bold" if (s, t) == best else "normal")  # fmt: skip
        axes.set_xticks([n + 0.5 for n in range(len(seqs_at))], [f"{s:g}" for s in seqs_at])
        axes.set_yticks([n + 0.5 for n in range(len(tokens_at))], [f"{t:g}" for t in tokens_at])
        axes.set_xlabel("max_num_seqs")
        axes.set_ylabel("max_num_batched_tokens")

    height = 1.2 + 0.42 * len(tokens_at)
    return Plot("heat-map", f"{run.suite}: goodput, requests a second", draw, "★ is the best; – was not tried",
                height=height)  # fmt: skip


def speech(run: Run) -> Plot | None:
    """Seconds of audio a second against the batch, with the word error rate of the same run beside each point."""

    def batch(result: Result) -> float | None:
        for name in ("max_batch", "batch"):
            value = result.knobs.get(name)
            if isinstance(value, int | float):
                return float(value)
        return None if result.concurrency is None else float(result.concurrency)

    series = _series(run, batch, lambda result: result.rates.get("rtfx"))
    if not series:
        return None
    wers = _series(run, batch, lambda result: result.quality.get("wer"))

    def draw(axes: Any, figure: Any) -> None:
        _lines(axes, run, series)
        for name, points in series.items():
            found = {point.x: point.mean for point in wers.get(name, ())}
            for point in points:
                if point.x in found:
                    axes.annotate(f"WER {100 * found[point.x]:.1f} %", (point.x, point.mean), xytext=(0, 7),
                                  textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
        axes.autoscale(axis="x")
        axes.set_xscale("log", base=2)
        _plain_ticks(axes.xaxis, sorted({point.x for points in series.values() for point in points}))
        axes.set_xlabel("batch")
        axes.set_ylabel("seconds of audio a second (RTFx)")
        axes.set_ylim(0, 1.15 * max(point.mean for points in series.values() for point in points))

    return Plot("rtfx", f"{run.suite}: speed of transcription, with its word error rate", draw)


def roofline(run: Run) -> Plot | None:
    """Kernels under the measured ceilings: rates flop_per_byte, gflop_per_s, roof_gb_per_s and roof_gflop_per_s."""
    found = [r for r in run.results if {"flop_per_byte", "gflop_per_s", "roof_gb_per_s"} <= set(r.rates)]
    if not found:
        return None
    bandwidth = max(r.rates["roof_gb_per_s"] for r in found)
    ceiling = max((r.rates.get("roof_gflop_per_s", math.inf) for r in found), default=math.inf)

    def draw(axes: Any, figure: Any) -> None:
        at = [r.rates["flop_per_byte"] for r in found]
        low, high = min(at) / 4, max([*at, ceiling / bandwidth if ceiling < math.inf else max(at)]) * 4
        xs = [low * (high / low) ** (n / 60) for n in range(61)]
        axes.plot(xs, [min(x * bandwidth, ceiling) for x in xs], color=INK, linewidth=1.4)
        for number, result in enumerate(found):
            colour, _, marker = _LOOKS[number % _MOST_SERIES]
            x, y = result.rates["flop_per_byte"], result.rates["gflop_per_s"]
            share = y / min(x * bandwidth, ceiling)
            axes.plot([x], [y], marker=marker, color=colour, markersize=6)
            axes.annotate(f"{result.config_name}: {100 * share:.0f} %", (x, y), xytext=(7, -3),
                          textcoords="offset points", fontsize=7.5)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("FLOP a byte")
        axes.set_ylabel("GFLOP/s")

    return Plot("roofline", f"{run.suite}: share of the measured roofline ({bandwidth:,.0f} GB/s)", draw)


def svg(plot: Plot, unique: str = "") -> str:
    """An <svg> for a page; ``unique`` keeps the ids of two plots on one page apart."""
    out = io.StringIO()
    _save(plot, out, "svg", unique or plot.name)
    text = _NEEDLESS.sub("", _PROLOGUE.sub("", out.getvalue(), count=1))
    for _ in range(2):  # sized by the page
        text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
    label = plot.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).strip()


def png(plot: Plot, target: Path) -> None:
    """A PNG of 1,000 to 1,300 pixels across. Raises OSError."""
    out = io.BytesIO()
    _save(plot, out, "png", plot.name)
    target.write_bytes(out.getvalue())


def _save(plot: Plot, out: Any, kind: str, unique: str) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with rc_context({**_SETTINGS, "svg.hashsalt": unique}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(plot.width, plot.height), layout="constrained")
        (FigureCanvasSVG if kind == "svg" else FigureCanvasAgg)(figure)
        axes = figure.add_subplot()
        plot.draw(axes, figure)
        if kind == "png":
            axes.set_title(plot.title)
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=180, transparent=kind == "svg", facecolor="white", metadata=metadata)


def _series(
    run: Run, x: Callable[[Result], float | None], y: Callable[[Result], float | None], whole: bool = False
) -> dict[str, list[Point]]:
    """Points by configuration, those that have both; ``whole``: a configuration of which one has not is left out."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    broken = set()
    for result in run.results:
        at, value = x(result), y(result)
        if at is None:
            continue
        if value is None:
            broken.add(result.config_name)
            continue
        found[result.config_name][at].append(value)
    names = [name for name in found if not (whole and name in broken)]
    names.sort(key=lambda name: -max(max(values) for values in found[name].values()))
    # in the order of the run, so that a configuration looks the same in every plot of it
    kept = [name for name in _configs(run) if name in names[:_MOST_SERIES]]
    return {name: [Point(at, tuple(values)) for at, values in sorted(found[name].items())] for name in kept}


def _configs(run: Run) -> list[str]:
    return list(dict.fromkeys(result.config_name for result in run.results))


def _looks(run: Run, names: Iterable[str]) -> dict[str, tuple[Any, Any, str]]:
    """A look for each name: its place among the run's configurations, or one that is free."""
    order = {name: n % _MOST_SERIES for n, name in enumerate(_configs(run))}
    taken: dict[str, int] = {}
    for name in names:
        place = order.get(name, 0)
        while place in taken.values() and len(taken) < _MOST_SERIES:
            place = (place + 1) % _MOST_SERIES
        taken[name] = place
    return {name: _LOOKS[place] for name, place in taken.items()}


def _lines(axes: Any, run: Run, series: Series) -> None:
    """Lines through means, a point a repeat, the name beside the last point, moved apart where two would touch."""
    tops = [point.mean for points in series.values() for point in points]
    places = _apart([points[-1].mean for points in series.values()], 0.07 * (max(tops) - min(0.0, *tops) or 1.0))
    looks = _looks(run, series)
    for (name, points), place in zip(series.items(), places, strict=True):
        colour, dash, marker = looks[name]
        axes.plot([p.x for p in points], [p.mean for p in points], color=colour, linestyle=dash, linewidth=1.8)
        spots = [(point.x, value) for point in points for value in point.values]
        axes.plot(*zip(*spots, strict=True), linestyle="", marker=marker, color=colour, markersize=4.5,
                  markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
        axes.annotate(name, (points[-1].x, place), xytext=(7, 0), textcoords="offset points", va="center",
                      annotation_clip=False, weight="bold", fontsize=8)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _tail(run: Run, metric: str, percentile: str, bound: float, series: Series) -> Plot:
    offered = any(_offered(result) is not None for result in run.results)
    name = {"ttft_ms": "time to the first token", "e2e_ms": "time of a whole answer", "tpot_ms": "time a token"}[metric]

    def draw(axes: Any, figure: Any) -> None:
        _lines(axes, run, series)
        axes.axhline(bound, color=INK, linewidth=1.1, linestyle=(0, (2, 2)))
        axes.annotate(f"SLO {bound:,.0f} ms", (0, bound), xytext=(4, 4), textcoords="offset points", fontsize=8)
        most = max(value for points in series.values() for point in points for value in point.values)
        if most > 8 * bound:
            axes.set_yscale("log")
            axes.set_ylim(bottom=min(p.mean for points in series.values() for p in points) / 1.5)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("offered, requests a second" if offered else "callers at once")
        axes.set_ylabel(f"{percentile.upper()} {name}, ms")

    return Plot("tail", f"{run.suite}: {percentile.upper()} against load", draw)


def _plain_ticks(axis: Any, at: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_ticks(at, [f"{one:g}" for one in at])
    axis.set_minor_locator(NullLocator())


def _apart(places: Sequence[float], least: float) -> list[float]:
    """``places`` moved up where they are closer than ``least``."""
    moved = list(places)
    last = -math.inf
    for n in sorted(range(len(places)), key=lambda one: places[one]):
        last = moved[n] = max(places[n], last + least)
    return moved


def _load(result: Result) -> float | None:
    offered = _offered(result)
    return offered if offered is not None else result.concurrency


def _offered(result: Result) -> float | None:
    """A search finds a load of its own in every round, which is no row to compare by: it stands among the rates."""
    return result.offered_per_s if result.offered_per_s is not None else result.rates.get("load_per_s")


def _percentile(metric: str, percentile: str, result: Result) -> float | None:
    spread = getattr(result, metric)
    value: float | None = None if spread is None else getattr(spread, percentile)
    return value


def _slo_names(metric: str) -> Iterable[str]:
    """``ttft_ms`` and ``ttft_p99_ms`` bound the same thing."""
    stem = metric.removesuffix("_ms")
    return (metric, *(f"{stem}_{p}_ms" for p in ("p99", "p95", "p50")))


def _slo(run: Run) -> str:
    return ", ".join(f"{name} ≤ {bound:g}" for name, bound in run.slo.items()) or "no SLO"
