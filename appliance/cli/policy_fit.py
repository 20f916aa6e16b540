"""``appliance policy fit`` and ``replay``: learn from the ledger's outcomes, and a month under another policy.

What it is: readers and printers over ``policy.fitting`` and ``policy.replaying``.
What it refuses to be: a reload. A running gateway sees the new file within a second or two.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import Failure
from appliance.cli.ledger import Open, as_json, opened, print_json, print_table

if TYPE_CHECKING:
    from appliance.policy.estimate import Estimate
    from appliance.policy.fitting import Fitted, Quality
    from appliance.policy.learning import Judged
    from appliance.policy.parameters import Parameters
    from appliance.policy.values import Policy

_NUSD = 1_000_000_000


@click.command()
@click.option("--since", help="From this day on (2026-10-01); by default everything the ledger still has.")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only this tenant's conversations.")
@click.option("--dry-run", is_flag=True, help="Only say how good it would be.")
@as_json
def fit(since: str | None, tenant_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Learn from judged answers whose conversation ended how sure the local model has to be.

    Writes policy.fitted.json beside policy.toml. The figures are of a fit to the earlier conversations, measured on the
    later quarter of them; the file learns from all. With fewer than 200 such answers it declines.
    """
    from appliance.policy import fitting, learning
    from appliance.policy.parameters import FILE, encode

    now_ms = int(time.time() * 1000)
    with opened() as ledger:
        rows = _judged(ledger, ledger.moment(since) or 0, now_ms, tenant_id)
        target = ledger.settings.home / FILE
    try:
        fitted = fitting.fit(learning.examples(rows), learning.routes(rows), now_ms)
    except fitting.NotEnough as e:
        raise Failure(str(e)) from None
    if not dry_run:
        _write(target, encode(fitted.parameters))
    if as_json:
        print_json({"file": None if dry_run else str(target), "version": fitted.parameters.version, "held_out": fitted})
        return
    _show_fit(fitted)
    if not dry_run:
        click.echo(f"written to {target}, version {fitted.parameters.version}; a running gateway takes it up at once")


@click.command()
@click.option(
    "--policy", "file", type=click.Path(path_type=Path), help="The policy to try (default: HOME/policy.toml)."
)
@click.option("--month", required=True, help="Such as 2026-11.")
@click.option("--fitted", "fitted_file", type=click.Path(path_type=Path), help="Parameters (default: those in use).")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only this tenant's conversations.")
@as_json
def replay(file: Path | None, month: str, fitted_file: Path | None, tenant_id: str | None, as_json: bool) -> None:
    """What a month would have cost, escalated and resolved under another policy, with intervals.

    Every judged request is judged again from its kept signals. What the log cannot say, because the old policy never
    decided that way, is a model's word, and the output says how much of it is.
    """
    from appliance.ledger.months import Calendar, parse_month
    from appliance.policy import replaying
    from appliance.policy.parameters import FILE

    with opened() as ledger:
        settings = ledger.settings
        since_ms, until_ms = Calendar(settings.site.timezone).range_of(parse_month(month))
        rows = _judged(ledger, since_ms, until_ms, tenant_id)
    policy = _policy(file or settings.home / "policy.toml", named=file is not None)
    parameters = _parameters(fitted_file or settings.home / FILE, named=fitted_file is not None)
    try:
        found = replaying.replay(rows, policy, parameters)
    except ValueError as e:
        raise Failure(str(e)) from None
    if as_json:
        print_json({"month": month, "policy": policy.version, "parameters": parameters.version, "replayed": found})
        return
    click.echo(f"{month}, policy {policy.version}, parameters {parameters.version or 'set by hand'}")
    sides = [("as it was", found.logged), ("replayed, doubly robust", found.new)]
    if found.new_ips is not None:
        sides.append(("replayed, by propensities", found.new_ips))
    print_table(
        ["", "ESCALATED", "RESOLVED", "HOSTED USD A REQUEST"],
        [(name, _share(side.escalated), _share(side.resolved), _money(side.hosted_nusd)) for name, side in sides],
    )
    o = found.overlap
    click.echo(
        f"{found.rows} requests with an outcome and an alternative; {found.left_out} judged ones without"
        f"\n{o.changed} decisions change, {o.tried} of them might have gone that way before;"
        f" the propensities are worth {o.weight_rows:.0f} rows"
    )
    if o.changed > o.tried:
        click.echo(
            f"for the other {o.changed - o.tried} the log holds no evidence: their part of `doubly robust` is the"
            " model's word"
        )


def _judged(ledger: Open, since_ms: int, until_ms: int, tenant_id: str | None) -> list[Judged]:
    from appliance.ledger.stores import decisions
    from appliance.policy.learning import Judged

    return [
        Judged(
            row.request_id,
            row.conversation,
            row.opened_ms,
            row.resolved,
            row.hosted_nusd,
            row.answered,
            row.decision,
        )
        for row in decisions.judged(ledger.engine, since_ms, until_ms, tenant_id)
    ]


def _policy(path: Path, named: bool) -> Policy:
    from appliance.policy.load import PolicyError, load
    from appliance.policy.values import BUILT_IN

    try:
        return load(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        if named:
            raise Failure(f"{path} does not exist; name the policy.toml to try") from None
        return BUILT_IN
    except (OSError, UnicodeDecodeError) as e:
        raise Failure(f"{path} cannot be read ({e})") from None
    except PolicyError as e:
        raise Failure(str(e)) from None


def _parameters(path: Path, named: bool) -> Parameters:
    from appliance.policy.parameters import BY_HAND, decode

    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        if named:
            raise Failure(f"{path} does not exist; name a file that `appliance policy fit` wrote") from None
        return BY_HAND
    except OSError as e:
        raise Failure(f"{path} cannot be read ({e.strerror})") from None
    except ValueError as e:
        raise Failure(str(e)) from None


def _write(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as e:
        raise Failure(f"{target} cannot be written ({e.strerror})") from None


def _show_fit(fitted: Fitted) -> None:
    rows: list[Sequence[Any]] = [
        ("all, set by hand", *_quality(fitted.before)),
        ("all, fitted", *_quality(fitted.overall)),
        *((name, *_quality(quality)) for name, quality in fitted.by_language.items()),
    ]
    print_table(["ON LATER CONVERSATIONS", "ANSWERS", "UNRESOLVED", "BRIER", "ECE"], rows)
    click.echo(f"learned from {fitted.parameters.rows} judged answers")


def _quality(q: Quality) -> tuple[str, ...]:
    return f"{q.rows}", f"{q.unresolved:.1%}", f"{q.brier:.4f}", f"{q.ece:.4f}"


def _share(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _money(found: Estimate) -> str:
    return f"{found.value / _NUSD:.6f} ({found.low / _NUSD:.6f} to {found.high / _NUSD:.6f})"
