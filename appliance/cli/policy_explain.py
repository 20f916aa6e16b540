"""``appliance policy explain``: where one request would go now, and why, without sending it anywhere.

What it is: the body through the gateway's own checks, reader and ``Decider``, over the ledger's tenants and prices, the
engines' state files, and what a running gateway says of how busy they are (``run/control.sock``).
What it refuses to be: a recorded request; ``appliance requests explain ID`` shows what became of one. Its plan is of a
first turn and of this moment.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.common import Failure
from appliance.cli.ledger import Open, as_json, opened, print_json
from appliance.errors import ApplianceError
from appliance.settings import Settings
from appliance.types import Key, Tenant

if TYPE_CHECKING:
    from appliance.api.params_chat import ChatParams
    from appliance.engines.registry import Registry
    from appliance.pipeline.deciding import Decider, Known
    from appliance.policy.values import Candidate, Decision, Policy

_ASK_WITHIN_S = 2.0


@click.command()
@click.argument("request", type=click.Path(path_type=Path))
@click.option("--policy", "policy_file", type=click.Path(path_type=Path), help="Instead of HOME/policy.toml.")
@click.option("--tenant", "tenant_id", metavar="ID", default="default", show_default=True, help="Whose request it is.")
@as_json
def explain(request: Path, policy_file: Path | None, tenant_id: str, as_json: bool) -> None:
    """Where REQUEST would go now, and why: a file with the body of a chat completion, or - for standard input.

    Nothing is sent and nothing is recorded. The engines are taken as their state files and the running gateway say;
    where none runs, as if all three kinds were up.
    """
    body = _body(request)
    with opened() as ledger:
        policy, tenant, registry = _policy(ledger, policy_file), _tenant(ledger, tenant_id), _registry(ledger)
        live = _live(ledger.settings, registry)
        decision, known, supposed = _decided(
            body, policy, tenant, _decider(ledger, registry), registry, ledger.settings
        )
    found = {**_found(decision, known, supposed), "gateway": live}
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        click.echo(line)


def _body(path: Path) -> ChatParams:
    from appliance.api.params_chat import parse_chat

    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as e:
        raise Failure(f"{path} cannot be read ({e.strerror})") from None
    try:
        return parse_chat(raw)
    except ApplianceError as e:
        where = "standard input" if str(path) == "-" else path
        raise Failure(f"{where} is no request that the gateway would take: {e.message}") from None


def _policy(ledger: Open, path: Path | None) -> Policy:
    from appliance.policy.load import PolicyError, load
    from appliance.policy.values import BUILT_IN

    file = path or ledger.settings.home / "policy.toml"
    try:
        return load(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        if path is None:
            return BUILT_IN
        raise Failure(f"{file} does not exist") from None
    except UnicodeDecodeError as e:
        raise Failure(f"{file} is not UTF-8 (byte {e.start}); save it as UTF-8") from None
    except OSError as e:
        raise Failure(f"{file} cannot be read ({e.strerror})") from None
    except PolicyError as e:
        raise Failure("\n".join(f"{file}, {problem}" for problem in e.problems)) from None


def _tenant(ledger: Open, tenant_id: str) -> Tenant:
    from appliance.ledger.stores import tenants

    found = tenants.get(ledger.engine, tenant_id)
    return Tenant(found.id, found.name, "", b"", found.residency, tuple(found.regions), tuple(found.languages))


def _registry(ledger: Open) -> Registry:
    from appliance.engines.registry import Registry

    registry = Registry(ledger.settings, time.time)
    registry.read_states()
    return registry


def _live(settings: Settings, registry: Registry) -> bool:
    """Bring ``registry`` to what the gateway knows of its engines' load; False where no gateway tells."""
    import msgspec

    from appliance.cli.control import Refused, ask
    from appliance.engines.entry import Load

    try:
        answer = ask(settings.run / "control.sock", "policy.live", timeout_s=_ASK_WITHIN_S)
        loads = msgspec.convert((answer or {}).get("engines", {}), dict[str, Load])
    except (Refused, OSError, msgspec.ValidationError):
        return False  # an overloaded one, or one of another version: what the files say is still worth showing
    for name, load in loads.items():
        if name in registry.entries:
            registry.entries[name].take_load(load, time.monotonic())
    return answer is not None


def _decider(ledger: Open, registry: Registry) -> Decider:
    from sqlalchemy import text

    from appliance.api.intent_models import IntentModels
    from appliance.language_id import identify
    from appliance.ledger.core import reading
    from appliance.ledger.tariff import load_tariff
    from appliance.pipeline.deciding import Decider
    from appliance.pipeline.reading import Reader

    with reading(ledger.engine) as connection:
        tariff = load_tariff(lambda query: [tuple(row) for row in connection.execute(text(query))])
    decider = Decider(registry, lambda: tariff, time.time, time.monotonic)
    decider.max_output_tokens = lambda name: ledger.settings.engines[name].hosted.max_output_tokens
    decider.reader = Reader(identify, IntentModels(ledger.settings.home).classify)
    return decider


def _decided(
    body: ChatParams, policy: Policy, tenant: Tenant, decider: Decider, registry: Registry, settings: Settings
) -> tuple[Decision, Known, bool]:
    """The decision, what it was made of, and whether the engines are only supposed."""
    from appliance.api.turns import turn_about
    from appliance.pipeline.work import Run, Work
    from appliance.policy.plan import plan
    from appliance.policy.rollout import Loaded
    from appliance.types import Admission, Admitted, Request

    now_ms = int(time.time() * 1000)
    key = Key("key_explained", "explained", "client", tenant)
    try:
        turn = turn_about(body.metadata or {})
    except ApplianceError as e:
        raise Failure(e.message) from None
    decider.loaded = Loaded(policy)
    model = registry.resolve(body.model)
    hosted_nusd = decider.hosted_nusd(body.tail, key, turn, now_ms)
    request = Request("req_explained", key, "chat.completions", body.model, body.stream, now_ms)
    run = Run(Admission(request, turn, "", hosted_nusd=hosted_nusd), 0.0, time.monotonic)
    run.admitted = Admitted("", True, hosted_nusd=hosted_nusd)
    work = Work("", model, body.stream, settings.server.request_deadline_s, body.engine_body, tail=body.tail)
    decision, known = decider.decide(work, run)
    if any(candidate.ready for candidate in decider.candidates(policy, known.seen, model, hosted_nusd)):
        return decision, known, False
    return plan(policy, known.seen, _good_day(policy, tenant)), known, True


def _good_day(policy: Policy, tenant: Tenant) -> list[Candidate]:
    """Every kind of engine, up."""
    from msgspec.structs import replace

    from appliance.policy.cases import candidates
    from appliance.policy.file import TestSection

    region = tenant.regions[0] if tenant.regions else ""
    found = candidates(TestSection(name="a good day", expect="local"))
    return [
        replace(c, region=region, model=policy.hosted.model, ceiling_nusd=0) if c.route == "hosted" else c
        for c in found
    ]


def _found(decision: Decision, known: Known, supposed: bool) -> dict[str, Any]:
    seen = known.seen
    return {
        "policy": decision.version,
        "engines_supposed": supposed,
        "language": seen.language,
        "intent": seen.intent,
        "intent_confidence": round(seen.intent_confidence, 3),
        "value_class": decision.value_class.name or None,
        "residency": seen.asked.residency,
        "personal_data": seen.asked.personal,
        "needs": sorted(seen.needs),
        "attempts": [
            {
                "route": step.route,
                "engine": step.engine,
                "model": step.model,
                # what a judge goes on to has the reason that the judge finds
                "reason": None if step.ordinal == decision.escalation else step.reason,
                "redact": step.redact,
            }
            for step in decision.attempts
        ],
        "judged_from": decision.escalation,
        "refusal": decision.refusal,
        "not_tried": [{"route": d.route, "engine": d.engine, "reason": d.reason, "why": d.why} for d in decision.drops],
    }


def _lines(found: dict[str, Any]) -> list[str]:
    intent = f"{found['intent']} ({found['intent_confidence']:.0%})" if found["intent"] else "none"
    lines = [
        f"policy {found['policy']}: language {found['language'] or 'unknown'}, intent {intent},"
        f" value class {found['value_class'] or 'none'}, residency {found['residency']}"
        + (", personal data found" if found["personal_data"] else ""),
    ]
    if found["engines_supposed"]:
        lines.append("no engine that could answer runs here; as if local, pivot and hosted were all up:")
    for number, step in enumerate(found["attempts"], 1):
        judged = "if the answer before it is not good enough, " if found["judged_from"] == number - 1 else ""
        reason = f" ({step['reason']})" if step["reason"] else ""
        hidden = ", personal data hidden" if step["redact"] else ""
        lines.append(f"{number}. {judged}{step['route']} on {step['engine']}{reason}{hidden}")
    if found["refusal"] is not None:
        lines.append(f"refused: {found['refusal']}")
    lines += [f"not {one['route']} on {one['engine']}: {one['why']} ({one['reason']})" for one in found["not_tried"]]
    if not found["gateway"]:
        lines.append("no gateway runs here: requests in flight, breakers and predicted times are not in this")
    return lines
