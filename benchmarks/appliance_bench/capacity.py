"""``appliance bench capacity``: boxes, rupees a month and hosted share for a volume of conversations.

What it is: a measured profile (how long an engine's work takes), a mix (what conversations are made of) and costs go
in; ``sizing`` finds by simulation what one box carries within the SLO, and the rest is division, said with everything
it rests on. ``--boxes`` asks the other way round: what a given number answers, and what would leave or be late.
What it refuses to be: a measurement. It says which profile it reckons with, where that was measured, how far its
predictions lay from a real run (docs/capacity.md), and which figures are assumptions.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance_bench.box import BoxProfile
from appliance_bench.costs import Costs, Month, month, rupees
from appliance_bench.fingerprint import differences, fingerprint
from appliance_bench.mix import Kind, Mix, load_mix, load_toml
from appliance_bench.records import RecordError
from appliance_bench.sizing import Carried, Seen, boxes_for, carried
from appliance_bench.stations import Service

MEASURED = Path(__file__).with_name("measured")
ASSUMED = Path(__file__).with_name("assumed") / "costs.toml"
_ENGINE_OF = {"transcribe": "transcribe", "translate": "translate", "translate_back": "translate", "chat": "chat"}


class Box(Struct, frozen=True):
    """What a profile says of the box as a whole."""

    sharing: float = 1.0
    gateway_ms: float = 0.0


class Profile(Struct, frozen=True):
    """The part of a profile that capacity needs; whatever else is in the file is others' (knobs, intervals).

    ``validated_per_s``: engine -> calls a second up to which its predictions were shown to hold; no box is reckoned
    to carry more. ``service``: engine -> its times. ``evidence``: ids of the runs they come from; none makes it an
    assumption.
    """

    name: str
    service: Mapping[str, Service]
    box: Box = Box()
    fingerprint: Mapping[str, Any] = {}
    evidence: tuple[str, ...] = ()
    validated_per_s: Mapping[str, float] = {}


class Option(Struct, frozen=True):
    """What so many boxes come to. Shares of conversations, over the whole day."""

    boxes: int
    hosted_share: float
    late_share: float
    month: Month

    def as_dict(self) -> dict[str, Any]:
        """For programs; rupees as whole numbers."""
        parts = {"servers": self.month.servers_inr, "energy": self.month.energy_inr, "hosted": self.month.hosted_inr,
                 "total": self.month.total_inr}  # fmt: skip
        return {
            "boxes": self.boxes, "hosted_share": round(self.hosted_share, 4), "late_share": round(self.late_share, 4),
            "inr_a_month": {name: round(value) for name, value in parts.items()},
        }  # fmt: skip


class Plan(Struct, frozen=True):
    """The answer, over all sites. ``needed`` boxes carry the busiest hour, ``spare`` more stand by."""

    conversations_a_day: float
    peak_per_s: float
    found: Carried
    needed: int
    spare: int
    sites: int
    options: tuple[Option, ...]
    busy_by_hour: tuple[float, ...]


def plan(
    profile: Profile,
    mix: Mix,
    costs: Costs,
    a_day: float,
    *,
    within: float,
    spare: int = 1,
    sites: int = 1,
    boxes: int | None = None,
    turns: int = 2000,
    seeds: Sequence[int] = (1, 2),
    found: Carried | None = None,
) -> Plan:
    """``sites`` share the load evenly; each has its own spare boxes, and none helps another out.

    Raises RecordError for an engine that the profile does not know, or an SLO that nothing meets.
    """
    check_engines(profile, mix)
    if found is None:
        found = carried(box_of(profile), mix, within=within, turns=turns, seeds=seeds)
    found = bounded(found, profile, mix)
    hours = mix.per_hour(a_day)
    peak = max(hours) * mix.busiest_day
    needed, stand_by = sites * boxes_for(peak / sites, found.per_s), sites * spare
    wanted = {needed + stand_by, needed} | {sites * max(1, -(-needed // sites * part // 4)) for part in (1, 2, 3)}
    options = [option(mix, costs, found, hours, count) for count in sorted({boxes} if boxes else wanted)]
    chosen = boxes or needed + stand_by
    busy = tuple(_busy(found, min(per_s / chosen, found.per_s)) for per_s in hours)
    return Plan(a_day, peak, found, needed, stand_by, sites, tuple(options), busy)


def option(mix: Mix, costs: Costs, found: Carried, hours: Sequence[float], boxes: int) -> Option:
    """So many boxes on a mean day: what is above what they carry leaves where it may, and is late where not."""
    total = sum(hours)
    over = sum(max(0.0, per_s - boxes * found.per_s) for per_s in hours)
    leaving = min(over, total * mix.leaving_share)
    stays = total - leaving
    busy = [_busy(found, min(per_s / boxes, found.per_s)) for per_s in hours]
    day = 3600.0
    # those that leave do so with all their turns, the others with the turns that their kind escalates
    prompt, answer = _hosted_tokens(mix, False)
    away_prompt, away_answer = _hosted_tokens(mix, True)
    cost = month(
        costs,
        boxes,
        busy,
        day * (stays * prompt + leaving * away_prompt),
        day * (stays * answer + leaving * away_answer),
    )
    share = (stays * mix.hosted_share + leaving) / total if total else 0.0
    return Option(boxes, share, (over - leaving) / total if total else 0.0, cost)


def bounded(found: Carried, profile: Profile, mix: Mix) -> Carried:
    """``found``, but no more than any engine was shown to be predicted well at."""
    total = sum(kind.share for kind in mix.kinds)
    most = found.per_s
    for engine, per_s in profile.validated_per_s.items():
        calls = sum(
            kind.share * kind.turns * sum(_ENGINE_OF[step] == engine for step in kind.steps) for kind in mix.kinds
        )
        if calls:
            most = min(most, per_s * total / calls)
    return msgspec.structs.replace(found, per_s=most) if most < found.per_s else found


def box_of(profile: Profile) -> BoxProfile:
    """For the simulation."""
    return BoxProfile(profile.service, profile.box.sharing, profile.box.gateway_ms)


def check_engines(profile: Profile, mix: Mix) -> None:
    """Raises RecordError for an engine that the mix passes through and the profile does not have."""
    needed = {_ENGINE_OF[step] for kind in mix.kinds for step in kind.steps}
    if missing := sorted(needed - set(profile.service)):
        raise RecordError(
            f"the profile {profile.name!r} has no {' and no '.join(missing)}, which the mix passes through; measure it"
            " (`appliance bench capacity --help` says how) or name another profile"
        )


def load_profile(named: Sequence[str], home: Path) -> tuple[Profile, str]:
    """Files or names put together; without any this machine's own, else what comes along for its like.

    Raises RecordError where there is none, or where two of different hardware were named.
    """
    along = {path.stem: path for path in sorted(MEASURED.glob("*.toml"))}
    paths = [along.get(one, Path(one)) for one in named]
    for one, path in zip(named, paths, strict=True):
        if not path.is_file():
            raise RecordError(f"there is no profile and no file {one!r} (profiles: {', '.join(along) or 'none'})")
    if paths:
        return merge([_profile(path) for path in paths]), ", ".join(path.name for path in paths)
    here = fingerprint()
    for places in (sorted((home / "profiles").glob("*.toml")), list(along.values())):
        found = [(path, profile) for path in places if (profile := _profile(path, quiet=True)) is not None]
        mine = [one for one in found if not differences(_hardware(one[1].fingerprint), _hardware(here))]
        if mine:
            return merge([profile for _, profile in mine]), ", ".join(path.name for path, _ in mine)
    raise RecordError(
        "no profile was measured on a machine like this one; measure one, or name one with --profile"
        f" ({', '.join(along) or 'none comes along'})"
    )


def merge(profiles: Sequence[Profile]) -> Profile:
    """One profile of several engines; of two that know an engine the later one wins."""
    first = profiles[0]
    for other in profiles[1:]:
        if changed := differences(_hardware(first.fingerprint), _hardware(other.fingerprint)):
            raise RecordError(
                f"{first.name!r} and {other.name!r} were measured on different hardware ({'; '.join(changed)}):"
                " no box has both"
            )
    service = {name: one for profile in profiles for name, one in profile.service.items()}
    evidence = tuple(dict.fromkeys(run for profile in profiles for run in profile.evidence))
    # a profile without evidence is an assumption, and so is what it is part of
    known = evidence if all(profile.evidence for profile in profiles) else ()
    name = " + ".join(dict.fromkeys(profile.name for profile in profiles))
    most = {engine: per_s for profile in profiles for engine, per_s in profile.validated_per_s.items()}
    return Profile(name, service, profiles[-1].box, first.fingerprint, known, most)


def load_costs(path: Path | None) -> Costs:
    """Of a file, or the assumptions that come along. Raises RecordError."""
    return load_toml(path or ASSUMED, Costs)


def show(made: Plan, profile: Profile, mix: Mix, costs: Costs, within: float, where: str) -> str:
    """For people."""
    found, kinds = made.found, ", ".join(f"{100 * kind.share:.0f} % {kind.name}" for kind in mix.kinds)
    lines = [
        f"{made.conversations_a_day:,.0f} conversations a day: {kinds}",
        f"busiest hour of the busiest day: {made.peak_per_s:.2f} conversations a second,"
        f" {made.peak_per_s * mix.turns:.1f} turns a second",
        f"profile: {profile.name} ({where}), " + _evidence(profile),
        "",
        f"one box carries {found.per_s:.4g} conversations a second"
        f" ({found.per_s * mix.turns * 60:,.0f} turns a minute)",
        f"with {100 * within:g} % of the turns of every kind within its SLO;",
        *(
            [f"(the simulation says {found.there.per_s:.4g}, beyond what its predictions were shown to hold for)"]
            if found.per_s < found.there.per_s
            else []
        ),
        f"at {found.there.per_s:.4g} its engines are busy {100 * found.there.busy:.0f} % of the time"
        f" ({', '.join(f'{name} {100 * share:.0f} %' for name, share in found.there.engines.items())}),"
        f" p95 {_ms(found.there.e2e_p95_ms)} for a whole answer",
        *(
            f"  {kind.name}: {100 * found.there.by_kind.get(kind.name, 0):.1f} % within {_slo(kind)}"
            for kind in mix.kinds
        ),
        "",
        f"{made.needed:,} boxes carry the busiest hour; {made.spare} more for one that fails"
        + (f" on each of {made.sites:,} sites, which share the load evenly" if made.sites > 1 else ""),
        "",
        *_table(made),
        "",
        f"costs: {costs.source}",
        f"  a box {costs.server.purchase_usd:,} USD over {costs.server.lifetime_months} months,"
        f" {costs.server.busy_w}/{costs.server.idle_w} W busy/idle, {costs.server.tariff_inr_per_kwh} INR a kWh,"
        f" {costs.server.inr_per_usd} INR a USD; {costs.hosted.model}"
        f" {costs.hosted.prompt_usd_per_million}/{costs.hosted.completion_usd_per_million} USD a million tokens in/out",
    ]
    return "\n".join(lines)


def _table(made: Plan) -> list[str]:
    heads = ("BOXES", "HOSTED", "LATE", "SERVERS", "ENERGY", "HOSTED INR", "A MONTH", "A CONVERSATION")
    monthly = Decimal(repr(made.conversations_a_day)) * Decimal("30.4375")
    rows = []
    for one in made.options:
        each = one.month.total_inr / monthly
        mark = " ←" if one.boxes == made.needed + made.spare and len(made.options) > 1 else ""
        rows.append((
            f"{one.boxes:,}", f"{100 * one.hosted_share:.1f} %", f"{100 * one.late_share:.1f} %",
            rupees(one.month.servers_inr), rupees(one.month.energy_inr), rupees(one.month.hosted_inr),
            rupees(one.month.total_inr), f"₹{each:.4f}{mark}",
        ))  # fmt: skip
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]


def _hosted_tokens(mix: Mix, every_turn: bool) -> tuple[float, float]:
    """Prompt and answer tokens that the hosted model gets of one conversation."""
    kinds = [kind for kind in mix.kinds if kind.may_leave] if every_turn else list(mix.kinds)
    total = sum(kind.share for kind in kinds)
    if not total:
        return 0.0, 0.0
    weights = [kind.share / total * kind.turns * (1.0 if every_turn else kind.hosted) for kind in kinds]
    prompt = sum(weight * kind.prompt_tokens for weight, kind in zip(weights, kinds, strict=True))
    return prompt, sum(weight * kind.answer_tokens for weight, kind in zip(weights, kinds, strict=True))


def _busy(found: Carried, per_s: float) -> float:
    """Share of time a box is busy at a load: between the loads that were simulated, by a straight line."""
    points = [(0.0, 0.0), *((seen.per_s, seen.busy) for seen in found.tried if seen.per_s <= found.per_s)]
    for (x0, y0), (x1, y1) in pairwise(points):
        if per_s <= x1:
            return y0 + (y1 - y0) * (per_s - x0) / (x1 - x0) if x1 > x0 else y1
    return points[-1][1]


def _profile(path: Path, quiet: bool = False) -> Any:
    try:
        return load_toml(path, Profile)
    except RecordError:
        if quiet:  # a profile without the part that capacity needs
            return None
        raise


def _hardware(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(found.get("hardware", {}))


def _evidence(profile: Profile) -> str:
    if not profile.evidence:
        return "ASSUMED: it names no run"
    hardware = _hardware(profile.fingerprint)
    gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
    return f"measured on {hardware.get('cores', '?')} cores, {gpus}; runs {', '.join(profile.evidence)}"


def _slo(kind: Kind) -> str:
    return ", ".join(f"{name}={bound:g}" for name, bound in kind.slo.items())


def _ms(value: float | None) -> str:
    return "more than the simulation lasted" if value is None else f"{value:,.0f} ms"


def _progress(seen: Seen) -> None:
    print(
        f"  {seen.per_s:.4g} conversations/s: {100 * seen.within:.1f} % of {seen.turns} turns within", file=sys.stderr
    )


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="appliance bench capacity", description=__doc__.partition("\n")[0])
    p.add_argument("--conversations-per-day", type=float, metavar="N", help="of a mean day, on all sites together")
    p.add_argument("--mix", default="support", help="a mix that comes along, or a TOML file (default: support)")
    p.add_argument("--profile", action="append", default=[],
                   help="a measured profile: a file or a name; one an engine (default: this machine's)")  # fmt: skip
    p.add_argument("--costs", type=Path, help="TOML with what servers and hosted tokens cost (default: assumptions)")
    p.add_argument("--within", type=float, default=0.95, help="share of turns to be within the SLO (default 0.95)")
    p.add_argument("--boxes", type=int, help="what this many boxes come to, instead of how many are needed")
    p.add_argument("--spare", type=int, default=1, help="boxes that stand by (default 1)")
    p.add_argument(
        "--sites", type=int, default=1, help="that share the load evenly, each with its own spare (default 1)"
    )
    p.add_argument("--turns", type=int, default=2000, help="turns of a simulation (default 2000)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json", action="store_true")
    return p


def _check(args: argparse.Namespace) -> None:
    if args.conversations_per_day is None:
        raise RecordError("say how many: --conversations-per-day 2000000")
    if not 0 < args.conversations_per_day <= 1e10:
        raise RecordError("--conversations-per-day is a number above 0, at most 10,000,000,000")
    if not 0.5 <= args.within < 1:
        raise RecordError("--within is a share of turns from 0.5 to below 1, such as 0.95")
    if args.turns < 300:
        raise RecordError(f"--turns {args.turns}: fewer than 300 turns say nothing of their 95th percentile")
    if (args.boxes is not None and args.boxes < 1) or args.spare < 0 or args.sites < 1:
        raise RecordError("--boxes and --sites are at least 1, --spare at least 0")


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    args = _parser().parse_args(argv)
    _check(args)
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    profile, where = load_profile(args.profile, home)
    mix, costs = load_mix(args.mix), load_costs(args.costs)
    check_engines(profile, mix)
    seeds = (args.seed, args.seed + 1)
    if not args.json:
        print(f"simulating one box, seeds {seeds[0]} and {seeds[1]} …", file=sys.stderr)
    found = carried(box_of(profile), mix, within=args.within, turns=args.turns, seeds=seeds,
                    said=(lambda seen: None) if args.json else _progress)  # fmt: skip
    made = plan(profile, mix, costs, args.conversations_per_day, within=args.within, spare=args.spare, sites=args.sites,
                boxes=args.boxes, found=found)  # fmt: skip
    if args.json:
        print(
            msgspec.json.format(msgspec.json.encode(_json(made, profile, mix, costs, args.within)), indent=1).decode()
        )
    else:
        print(show(made, profile, mix, costs, args.within, where))
    return 0


def _json(made: Plan, profile: Profile, mix: Mix, costs: Costs, within: float) -> dict[str, Any]:
    return {
        "conversations_a_day": made.conversations_a_day, "peak_per_s": made.peak_per_s, "within": within,
        "profile": {"name": profile.name, "evidence": profile.evidence}, "mix": mix.about, "costs": costs.source,
        "box_per_s": made.found.per_s, "box": made.found.there, "boxes_needed": made.needed, "spare": made.spare,
        "sites": made.sites,
        "options": [one.as_dict() for one in made.options],
    }  # fmt: skip
