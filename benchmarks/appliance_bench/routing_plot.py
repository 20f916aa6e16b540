"""The picture of a routing benchmark: risk by coverage, and quality by cost.

What it is: one PNG of two panels. The file's name and, where it is so, that it is simulated, stand in the title.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from msgspec import Struct

from appliance_bench.routing_curves import Curve

_COLOURS = {
    "judge": "#1b7f4d",
    "judge by hand": "#7fbf9f",
    "knn": "#2f6db3",
    "static per intent": "#c27c1a",
    "random": "#888888",
    "oracle": "#b03a2e",
}


class Picture(Struct, frozen=True):
    """``wanted`` is the quality whose cost is asked for, ``unit`` what costs are counted in."""

    risk: Mapping[str, Curve]
    quality: Mapping[str, Curve]
    title: str
    wanted: float
    unit: str


def draw(picture: Picture, target: Path) -> None:
    """Write ``target``."""
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for panel, curves in ((left, picture.risk), (right, picture.quality)):
        for name, found in curves.items():
            x, y = (1.0 - found.share, found.risk) if panel is left else (found.cost, found.quality)
            panel.plot(x, y, "--" if name in ("random", "oracle") else "-", color=_COLOURS.get(name), label=name)
    left.set(
        xlabel="share answered by the weak model", ylabel="wrong among those", title="risk by coverage", xlim=(0, 1)
    )
    right.set(xlabel=f"cost a case ({picture.unit})", ylabel="right among all", title="quality by cost")
    right.xaxis.set_major_locator(MaxNLocator(6))
    right.axhline(picture.wanted, color="#444444", linewidth=0.8, linestyle=":")
    left.legend(frameon=False)
    figure.suptitle(picture.title)
    figure.savefig(target, dpi=120)
    pyplot.close(figure)
