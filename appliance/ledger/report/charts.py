"""The report's charts, as SVG to be put into its page.

What it is: a function a chart, drawn by matplotlib without a display. Text stays text, so that the browser sets it in
whatever script it is in; every series has its own hatch or dash and its own label beside it, so that neither print nor
colour-blind eyes lose anything.
What it costs: matplotlib takes 0.5 s to load, a chart some 50 ms.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from appliance.ledger.report.text import count, usd
from appliance.ledger.report.values import BreakEven, Counts, Report, Span

# Okabe and Ito's colours, told apart by every common kind of colour vision
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8A8F98"
INK, FAINT = "#1b2430", "#d5dae1"
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# what an SVG needs in a file of its own and not within a page; ids of groups, which nothing refers to
_NEEDLESS = re.compile(r'<metadata>.*?</metadata>|<style type="text/css">.*?</style>|(?<=<g) id="[^"]*"', re.DOTALL)
_PROLOGUE = re.compile(r"^.*?(?=<svg )", re.DOTALL)


def outcomes(counts: Counts) -> str:
    """What became of the conversations: one bar, its parts labelled."""
    parts = [
        ("Confirmed resolved", counts.confirmed, BLUE, ""),
        ("Presumed resolved", counts.presumed, SKY, "////"),
        ("Handed to a person", counts.handed_to_human, ORANGE, r"\\\\"),
        ("Not resolved", counts.unresolved, RED, "xxxx"),
        ("Still open", counts.open, "#ffffff", ""),
    ]

    def draw(axes: Any) -> None:
        left = 0.0
        for _, number, colour, hatch in parts:
            share = number / counts.conversations
            axes.barh(
                0, share, left=left, color=colour, hatch=hatch, edgecolor="white" if hatch else INK, linewidth=0.5
            )
            left += share
        axes.set_xlim(0, 1)
        axes.axis("off")
        at = 0.0
        for name, number, colour, hatch in parts:
            axes.barh(-1.25, 0.018, left=at, height=0.34, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.5)
            axes.text(at + 0.024, -1.25, name, va="center")
            axes.text(at + 0.024, -1.8, f"{count(number)} ({100 * number / counts.conversations:.1f} %)", va="center")
            at += 0.205
        axes.set_ylim(-2.2, 0.5)

    return _figure("outcomes", 7.2, 1.0, draw, "What became of the conversations")


def figures(report: Report) -> str:
    """The three figures side by side, in USD a confirmed resolved conversation."""
    standard, batch = report.hosted.quote(False), report.hosted.quote(True)
    rows = [
        ("Marginal: energy and hosted", report.cost.marginal.value, BLUE, ""),
        ("Fully loaded: with the server", report.cost.loaded, GREEN, "////"),
        ("All-hosted, standard price", None if standard is None else standard.per_confirmed_nusd, ORANGE, r"\\\\"),
        ("All-hosted, batch price", None if batch is None else batch.per_confirmed_nusd, PINK, "xxxx"),
    ]

    def draw(axes: Any) -> None:
        most = max([value or 0.0 for _, value, _, _ in rows] + [1.0])
        for n, (name, value, colour, hatch) in enumerate(rows):
            axes.barh(-n, value or 0, height=0.46, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            axes.text(0, -n + 0.32, name, va="bottom")
            axes.text(
                (value or 0) + most * 0.015,
                -n,
                usd(value) if value is not None else "not known",
                va="center",
                weight="bold",
            )
        span = report.cost.marginal
        if span.low is not None and span.high is not None and span.value is not None:
            axes.plot([span.low, span.high], [0, 0], color=INK, linewidth=1.4)
        axes.set_xlim(0, most * 1.22)
        axes.set_ylim(-3.45, 0.75)
        axes.axis("off")

    return _figure("figures", 3.5, 2.25, draw, "Cost of a confirmed resolved conversation")


def break_even(even: BreakEven) -> str:
    """What a month costs here and all-hosted, by how much it resolves."""

    def draw(axes: Any) -> None:
        points = [even.now, *(one for one in (even.standard, even.batch) if one is not None and one < 8 * even.now)]
        most = 1.25 * max(points) or 1.0
        lines = [
            ("Here", even.fixed_nusd, even.here_each_nusd, GREEN, "-"),
            ("All-hosted", 0, even.standard_each_nusd, ORANGE, "--"),
        ]
        if even.batch_each_nusd is not None:
            lines.append(("All-hosted, batch", 0, even.batch_each_nusd, PINK, ":"))
        ends = [(fixed + each * most) / 1e9 for _, fixed, each, _, _ in lines]
        top = max(ends)
        for (name, fixed, _, colour, dash), end, place in zip(lines, ends, _apart(ends, 0.09 * top), strict=True):
            axes.plot([0, most], [fixed / 1e9, end], color=colour, linestyle=dash, linewidth=2)
            axes.annotate(
                name, (most, place), xytext=(4, 0), textcoords="offset points", va="center", annotation_clip=False
            )
        axes.axvline(even.now, color=INK, linewidth=0.8)
        side = -1 if even.now > most / 2 else 1
        axes.annotate(
            f"this month: {count(even.now)}", (even.now, top * 1.04), xytext=(3 * side, 0), textcoords="offset points",
            ha="right" if side < 0 else "left", va="top", annotation_clip=False,
        )  # fmt: skip
        if even.standard is not None and even.standard <= most:
            level = even.standard * even.standard_each_nusd / 1e9
            axes.plot([even.standard], [level], marker="o", color=INK, markersize=5)
            axes.annotate(
                f"break-even: {count(even.standard)}", (even.standard, level), xytext=(5, -9),
                textcoords="offset points", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip
        axes.set_xlim(0, most)
        axes.set_ylim(0, top * 1.04)
        axes.set_xlabel("confirmed resolved conversations a month")
        axes.set_ylabel("USD a month")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_locator(_few(4))
        axes.yaxis.set_major_locator(_few(5))
        axes.grid(axis="y", color=FAINT, linewidth=0.6)

    return _figure(
        "break-even", 3.9, 2.25, draw, "What a month costs, by how much it resolves", (0.14, 0.19, 0.58, 0.76)
    )


def _apart(places: Sequence[float], least: float) -> list[float]:
    """``places`` moved up where they are closer than ``least``, so that labels do not cover each other."""
    moved = list(places)
    last = float("-inf")
    for n in sorted(range(len(places)), key=lambda one: places[one]):
        last = moved[n] = max(places[n], last + least)
    return moved


def by_hour(shares: Sequence[float]) -> str:
    """How busy the server is, by hour of the day."""

    def draw(axes: Any) -> None:
        axes.bar(range(24), [100 * one for one in shares], color=BLUE, width=0.72)
        axes.set_xticks(range(0, 24, 3), [f"{hour:02d}" for hour in range(0, 24, 3)])
        axes.set_xlabel("hour of the day")
        axes.set_ylabel("% busy")
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(_few(4))

    return _figure("by-hour", 3.5, 1.5, draw, "How busy the server is, by hour of the day", (0.12, 0.27, 0.87, 0.68))


def spans(title: str, rows: Sequence[tuple[str, Span]], unit: Callable[[float], str], scale: float) -> str:
    """Points with their intervals, a row a group."""

    def draw(axes: Any) -> None:
        most = max([span.high or span.value or 0.0 for _, span in rows] + [0.0]) * scale or 1.0
        for n, (name, span) in enumerate(rows):
            axes.text(-0.02 * most, -n, name, ha="right", va="center")
            axes.axhline(-n, color=FAINT, linewidth=0.6, zorder=0)
            if span.value is None:
                axes.text(0.01 * most, -n, "no confirmed one", va="center", style="italic")
                continue
            if span.low is not None and span.high is not None:
                axes.plot(
                    [span.low * scale, span.high * scale],
                    [-n, -n],
                    color=BLUE,
                    linewidth=3,
                    solid_capstyle="butt",
                    alpha=0.55,
                )
            axes.plot([span.value * scale], [-n], marker="D", color=INK, markersize=3.6)
            axes.text(1.03 * most, -n, unit(span.value), va="center", ha="left")
        axes.set_xlim(0, most)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.axis("off")

    height = 0.22 * len(rows) + 0.1
    return _figure(f"spans-{title}", 3.5, height, draw, title, (0.42, 0.02, 0.42, 0.96))


def routes(rows: Sequence[tuple[str, float, str]]) -> str:
    """Shares of requests by route and reason, a bar each; hatched by route."""
    looks = {"local": (GREEN, ""), "pivot": (SKY, "////"), "hosted": (ORANGE, r"\\\\")}

    def draw(axes: Any) -> None:
        most = max(share for _, share, _ in rows)
        for n, (name, share, route) in enumerate(rows):
            colour, hatch = looks.get(route, (GREY, "xxxx"))
            axes.barh(-n, share, height=0.62, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            axes.text(-0.012 * most, -n, name, ha="right", va="center")
            axes.text(share + 0.012 * most, -n, f"{100 * share:.1f} %", va="center")
        axes.set_xlim(0, most * 1.12)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.axis("off")

    return _figure("routes", 7.2, 0.2 * len(rows) + 0.1, draw, "Requests by route and reason", (0.27, 0.02, 0.72, 0.96))


def latencies(rows: Sequence[tuple[str, float | None, float | None, float | None]]) -> str:
    """Median to 95th percentile of the time to the first token, and the SLO where there is one."""

    def draw(axes: Any) -> None:
        most = max([value for _, *values in rows for value in values if value is not None] + [1.0])
        for n, (name, median, high, slo) in enumerate(rows):
            axes.text(-0.012 * most, -n, name, ha="right", va="center")
            if median is None or high is None:
                continue
            axes.plot([median, high], [-n, -n], color=BLUE, linewidth=2)
            axes.plot([median], [-n], marker="o", color=INK, markersize=4.5)
            axes.plot([high], [-n], marker=">", color=BLUE, markersize=5.5)
            if slo is not None:
                axes.plot([slo, slo], [-n - 0.36, -n + 0.36], color=RED, linewidth=2, linestyle=(0, (1.5, 1)))
        axes.set_xlim(0, most * 1.05)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(
            "ms to the first token: ● median, ▶ 95th percentile" + (", ┆ SLO" if any(r[3] for r in rows) else "")
        )
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    height = 0.2 * len(rows) + 0.45
    return _figure(
        "latencies", 7.2, height, draw, "Time to the first token", (0.22, 0.4 / height, 0.76, 1 - 0.42 / height)
    )


def _few(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _figure(
    name: str,
    width: float,
    height: float,
    draw: Callable[[Any], None],
    title: str,
    place: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> str:
    """An <svg> of so many inches. ``name`` keeps the ids of two charts on one page apart."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    out = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        # matplotlib measures with its own font, the browser draws with one that has the glyphs
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        draw(figure.add_axes(place))
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = _NEEDLESS.sub("", _PROLOGUE.sub("", out.getvalue(), count=1))
    # sized by the page; read out by its name
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()
