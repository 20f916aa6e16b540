"""``appliance plan``: what each engine gets on this machine, and why."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.ledger import as_json, print_table

if TYPE_CHECKING:
    from appliance.supervisor.hardware import Hardware
    from appliance.supervisor.memory import Grant, Plan, Pool


# a driver keeps about 0.5 GB of each GPU for itself
_UNNAMED_BYTES = 1_000_000_000


@click.command()
@click.option("--model", "models", multiple=True, help="Plan for this catalogue model instead (repeat).")
@click.option(
    "--hardware", "recording", type=click.Path(path_type=Path), help="Plan for the machine recorded in this file."
)
@click.option("--record", "target", type=click.Path(path_type=Path), help="Record this machine to this file, and stop.")
@as_json
def plan(models: Sequence[str], recording: Path | None, target: Path | None, as_json: bool) -> None:
    """What each engine gets on this machine: memory, KV tokens, requests at once, and why.

    \b
    Exit code 0: everything configured fits. 1: it does not, and the largest set that does is shown.
    """
    from appliance.supervisor import planned
    from appliance.supervisor.command import CannotStart
    from appliance.supervisor.models import check_kind

    if target is not None:
        _record(target)
        return
    settings = settings_or_exit()
    try:
        if not models:
            for engine in settings.engines.values():
                check_kind(settings, engine)
        if recording is not None:
            made = planned.plan_elsewhere(settings, _load(recording), models)
        else:
            made = planned.plan_machine(settings, planned.measure(os.environ, _on_cpu()), models)
    except CannotStart as e:
        raise Failure(str(e), e.code) from None
    if as_json:
        click.echo(json.dumps(to_builtins(made), indent=1))
    else:
        show(made)
    sys.exit(0 if made.fits else 1)


def _on_cpu() -> bool:
    from appliance.supervisor.vllm import on_cpu

    return on_cpu()


def _record(target: Path) -> None:
    import msgspec

    from appliance.supervisor import hardware

    found = hardware.record("recorded by `appliance plan --record`")
    try:
        target.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as e:
        raise Failure(f"{target} cannot be written ({e.strerror}); name another file") from None
    click.echo(f"this machine is recorded in {target}; `appliance plan --hardware {target}` plans for it anywhere")


def _load(path: Path) -> Hardware:
    from appliance.supervisor import hardware

    try:
        return hardware.parse(hardware.load(path))
    except hardware.Unreadable as e:
        raise Failure(str(e)) from None


def to_builtins(made: Plan) -> dict[str, Any]:
    """The plan for programs."""
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(made)
    for shown, grant in zip(fields["grants"], made.grants, strict=True):
        shown["budget_bytes"] = grant.budget_bytes
    return {"fits": made.fits, "start_order": [grant.engine for grant in made.grants], **fields}


def show(made: Plan) -> None:
    """The plan for people."""
    for pool in made.pools:
        click.echo(_pool(pool, made.hardware))
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo()
    if made.grants:
        heads = ["ENGINE", "MODEL", "WHERE", "GETS", "WEIGHTS", "CACHE", "KV TOKENS", "CONTEXT", "AT ONCE"]
        print_table(heads, [_row(grant) for grant in made.grants])
        click.echo()
    for engine, sentence in _sentences(made):
        click.echo(f"{engine}: {sentence}")
    if len(made.grants) > 1:
        click.echo(f"started one after another: {', '.join(grant.engine for grant in made.grants)}")
    if made.left_out:
        fitting = ", ".join(grant.engine for grant in made.grants) or "none of them"
        click.echo(f"not everything fits; the largest set of engines that does: {fitting}")


def _pool(pool: Pool, hardware: Hardware) -> str:
    from appliance.supervisor.plan import gb

    name = f"GPU {pool.gpu}: {pool.name}" if pool.gpu is not None else "RAM"
    line = f"{name}, {gb(pool.total_bytes)}, {gb(pool.free_bytes)} free"
    line += f"; {gb(pool.headroom_bytes)} kept free, {gb(pool.granted_bytes)} for engines, {gb(pool.spare_bytes)} spare"
    if pool.others:
        line += f"; used by others: {', '.join(pool.others)}"
    elif pool.gpu is not None and pool.others_bytes > _UNNAMED_BYTES:
        line += f"; {gb(pool.others_bytes)} used by others that the driver does not name"
    if pool.gpu is None and hardware.limited_by:
        line += f"; limited by control group {hardware.limited_by}"
    return line


def _row(grant: Grant) -> list[str]:
    from appliance.supervisor.plan import gb

    where = f"GPU {'+'.join(map(str, grant.gpus))}" if grant.gpus else "RAM"
    at_once = f"{grant.concurrent} x {grant.request_tokens:,} tokens" if grant.concurrent else "-"
    return [
        grant.engine,
        grant.model,
        where,
        gb(grant.budget_bytes),
        gb(grant.weights_bytes),
        gb(grant.kv_bytes) if grant.kv_bytes else "-",
        f"{grant.kv_tokens:,}" if grant.kv_tokens else "-",
        f"{grant.context_tokens:,}" if grant.context_tokens else "-",
        at_once,
    ]


def _sentences(made: Plan) -> Iterator[tuple[str, str]]:
    for grant in made.grants:
        if grant.profile != "normal":
            yield grant.engine, f"runs with the {grant.profile} profile"
        yield from ((grant.engine, sentence) for sentence in grant.why)
    for out in made.left_out:
        yield out.engine, f"left out: {out.why}"
        if out.instead:
            yield out.engine, f"of its kind would fit: {', '.join(out.instead)}"
