"""``make bench-routing FILE=answers.jsonl``: how well the judge knows which answers to send to the strong model.

What it is: any file of prompts with a weak and a strong answer and which of them were right, against always-local,
always-hosted, random at the same share, the best table by intent, kNN and the oracle; every figure with a 95 % interval
from resampled conversations. Writes JSON and a picture.
What it refuses to be: an evaluation of its own training data: the fitted judge, kNN and the table score each part of
the file by what they learned from the others. A simulated file is called so in every output.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from appliance_bench import routing_curves as curves
from appliance_bench import routing_data as data
from appliance_bench import routing_scores as scores
from appliance_bench.routing_curves import Floats, Interval, World
from appliance_bench.routing_plot import Picture, draw

# these see the weak answer, so that it is paid for also where it is thrown away
_CASCADES = ("judge", "judge by hand")
RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m appliance_bench.routing", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON lines")
    parser.add_argument("--simulate", type=int, metavar="LINES", help="write FILE first, with invented lines")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for the JSON and the picture")
    parser.add_argument("--quality", type=float, default=0.95, help="of the strong model's, to find the cost of")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        if given.simulate is not None:
            data.simulate(given.file, given.simulate, given.seed)
        result, picture = measure(given.file, given.quality, given.resamples, given.seed)
    except (OSError, ValueError, RuntimeError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    stem = f"routing-{'simulated-' if result['simulated'] else ''}{time.strftime('%Y%m%d-%H%M%S')}"
    target = given.out / f"{stem}.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    draw(picture, given.out / f"{stem}.png")
    show(result)
    print(target)
    print(given.out / f"{stem}.png")
    return 0


def measure(file: Path, share_of_strong: float, resamples: int, seed: int) -> tuple[dict[str, Any], Picture]:
    """All figures of ``file``, and what to draw. Raises OSError, ValueError, RuntimeError."""
    cases = data.read(file)
    world = World(cases, resamples, seed)
    by_hand, fitted = scores.judged(file, None), scores.judged(file, scores.FOLDS)
    methods = {
        "judge": fitted,
        "judge by hand": by_hand,
        "knn": scores.knn(cases),
        "static per intent": scores.static_per_intent(cases),
        "oracle": scores.oracle(cases),
        "random": np.zeros(len(cases)),
    }
    strong = world.interval(lambda w: float(np.average(world.strong, weights=w)))
    wanted = share_of_strong * strong.value
    _, at_share = curves.at_quality(curves.curve(world, fitted, np.ones(len(cases))), wanted)
    simulated = any(one.simulated for one in cases)
    priced = any(one.strong_cost != 1.0 or one.weak_cost for one in cases)
    result = {
        "benchmark": "routing",
        "file": file.name,
        "simulated": simulated,
        "cases": len(cases),
        "resamples": resamples,
        "unit": "USD" if priced else "strong answers",
        "quality_wanted": wanted,
        "share_of_strong": share_of_strong,
        "always_local": _fixed(world, world.weak, world.weak_cost),
        "always_hosted": _fixed(world, world.strong, world.strong_cost),
        "equal_share": at_share,
        "methods": {
            name: _method(world, found, cases, share_of_strong, at_share, name) for name, found in methods.items()
        },
        "calibration": {
            name: _calibration(world, p, cases) for name, p in (("judge", fitted), ("judge by hand", by_hand))
        },
    }
    every = np.ones(len(cases))
    quality = {name: curves.curve(world, found, every, name in _CASCADES) for name, found in methods.items()}
    risk = quality | {"oracle": curves.curve(world, scores.oracle_risk(cases), every)}
    title = f"{'SIMULATED: ' if simulated else ''}{file.name}, {len(cases)} cases"
    return result, Picture(risk, quality, title, wanted, str(result["unit"]))


def _fixed(world: World, right: Floats, cost: Floats) -> dict[str, Interval]:
    return {
        "quality": world.interval(lambda w: float(np.average(right, weights=w))),
        "cost": world.interval(lambda w: float(np.average(cost, weights=w))),
    }


def _method(
    world: World, found: Floats, cases: Sequence[data.Case], share_of_strong: float, at_share: float, name: str
) -> dict[str, Interval]:
    risk_order = scores.oracle_risk(cases) if name == "oracle" else found
    cascade = name in _CASCADES

    def cost_and_share(w: Floats) -> tuple[float, float]:
        strong = float(np.average(world.strong, weights=w))
        return curves.at_quality(curves.curve(world, found, w, cascade), share_of_strong * strong)

    return {
        "area_under_risk_coverage": world.interval(lambda w: curves.area(curves.curve(world, risk_order, w))),
        "cost_at_quality": world.interval(lambda w: cost_and_share(w)[0]),
        "share_at_quality": world.interval(lambda w: cost_and_share(w)[1]),
        "quality_at_equal_share": world.interval(lambda w: curves.quality_at(curves.curve(world, found, w), at_share)),
    }


def _calibration(world: World, p: Floats, cases: Sequence[data.Case]) -> dict[str, dict[str, Any]]:
    failed = 1.0 - world.weak
    names = np.array([one.language for one in cases])
    result = {}
    for name in ("all", *sorted(set(names.tolist()))):
        inside = np.ones(len(cases)) if name == "all" else (names == name).astype(np.float64)

        def ece(w: Floats, inside: Floats = inside) -> float:
            return curves.ece(p, failed, w * inside)

        def brier(w: Floats, inside: Floats = inside) -> float:
            return curves.brier(p, failed, w * inside)

        result[name] = {"cases": int(inside.sum()), "ece": world.interval(ece), "brier": world.interval(brier)}
    return result


def show(result: dict[str, Any]) -> None:
    """The figures for people."""
    if result["simulated"]:
        print("SIMULATED DATA: none of these answers was ever given")
    print(f"{result['file']}: {result['cases']} cases, costs in {result['unit']}")
    for name in ("always_local", "always_hosted"):
        fixed = result[name]
        print(f"  {name.replace('_', '-'):18} quality {_text(fixed['quality'])}  cost {_text(fixed['cost'])}")
    print(f"cost at {result['share_of_strong']:.0%} of the strong model's quality ({result['quality_wanted']:.3f}):")
    for name, found in result["methods"].items():
        print(
            f"  {name:18} cost {_text(found['cost_at_quality'])}  sent {_text(found['share_at_quality'])}"
            f"  area {_text(found['area_under_risk_coverage'])}"
            f"  quality at the judge's share {_text(found['quality_at_equal_share'])}"
        )
    for name, languages in result["calibration"].items():
        print(f"calibration of {name}:")
        for language, found in languages.items():
            print(f"  {language:12} {found['cases']:6} ECE {_text(found['ece'])}  Brier {_text(found['brier'])}")


def _text(found: Interval) -> str:
    return "never" if np.isnan(found.value) else f"{found.value:.4g} ({found.low:.4g} to {found.high:.4g})"


if __name__ == "__main__":
    sys.exit(main())
