"""Settles a group: outcomes with their attempts and calls, and what they mean for money, limits and conversations.

What it is: the statements of the hot path's second half, sent a group at a time.
What it refuses to be: lenient. A request that is not open is a fault of its caller, with one exception: a gateway that
was stopped for so long that another settled its requests as lost may still say what became of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from appliance.errors import ApplianceError
from appliance.ledger.db import Db
from appliance.ledger.entries import Entering, Settlement
from appliance.ledger.rows import Rows
from appliance.types import BESIDE, SHADOW, Admitted, AttemptRecord, CallRecord, Decision, Outcome, Status

Row = tuple[object, ...]

_SETTLE = (
    "UPDATE requests SET status = ?, http_status = ?, error_code = ?, total_ms = ?, ttft_ms = ?, finished_ms = ?,"
    " route = ?, reason = ?, escalated = ?, prompt_tokens = ?, cached_tokens = ?, completion_tokens = ?, audio_s = ?,"
    " hosted_nusd = ?, energy_nusd = ?, work_ns = ? WHERE id = ? AND status = 'open'"
)
# a gateway that was taken for dead: its reservation is released already
_SETTLE_LOST = _SETTLE.replace("status = 'open'", "status = 'lost' AND total_ms IS NULL")
_ATTEMPT = (
    "INSERT INTO attempts (request_id, ordinal, engine, model, route, reason, status, error_code, total_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CALL = (
    "INSERT INTO calls (request_id, attempt_ordinal, ordinal, engine, model, status, prompt_tokens, cached_tokens,"
    " completion_tokens, audio_s, finish_reason, ttft_ms, total_ms, thinking_tokens, characters, provider, hosted_nusd,"
    " work_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CONVERSATION = (
    "UPDATE conversations SET requests = requests + ?,"
    " last_seen_ms = CASE WHEN last_seen_ms < ? THEN ? ELSE last_seen_ms END,"
    " answered_by = coalesce(?, answered_by), escalated = escalated OR ?, hosted_nusd = hosted_nusd + ?,"
    " energy_nusd = energy_nusd + ?, work_ns = work_ns + ? WHERE tenant_id = ? AND id = ?"
)
# two conversations with one history: from now on it names neither
_THREAD = (
    "INSERT INTO threads (tenant_id, hash, conversation_id, at_ms) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (tenant_id, hash) DO UPDATE SET at_ms = excluded.at_ms, conversation_id ="
    " CASE WHEN threads.conversation_id = excluded.conversation_id THEN threads.conversation_id END"
)
_TEXT = (
    "INSERT INTO texts (request_id, tenant_id, conversation_id, at_ms, prompt, answer) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (request_id) DO NOTHING"
)
_DECISION = (
    "INSERT INTO decisions (request_id, policy, parameters, intent, language, value_class, route, alternative, verdict,"
    " reason, p_fail, p_fail_alternative, propensity, cost_nusd, extra_s, signals, shadow_of, agreement)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KEEP = (
    "UPDATE idempotency SET http_status = ?, content_type = ?, headers = ?, body = ?, at_ms = ?"
    " WHERE key_id = ? AND name = ? AND request_id = ?"
)
_UNKEEP = "DELETE FROM idempotency WHERE key_id = ? AND name = ? AND request_id = ?"
# rows that other gateways may write too are locked in one order everywhere, or two would wait for each other
_ORDER: dict[str, Callable[[Row], Any]] = {_CONVERSATION: lambda row: row[-2:], _THREAD: lambda row: row[:2]}
_LOSE = (
    "UPDATE requests SET status = 'lost', error_code = 'ledger_unavailable', finished_ms = ?, reserved_nusd = 0"
    " WHERE id = ? AND status = 'open'"
)
_RESERVED = "SELECT reserved_nusd FROM requests WHERE id = ?"
_RELEASE = (
    "UPDATE budgets SET reserved_nusd = reserved_nusd - ?"
    " WHERE month = ? AND ((scope = 'key' AND scope_id = ?) OR (scope IN ('tenant', ?) AND scope_id = ?))"
)


_DETAILS = (_ATTEMPT, _CALL, _DECISION, _CONVERSATION, _THREAD, _TEXT, _KEEP, _UNKEEP)


class NotOpen(Exception):
    """Fewer requests were open than outcomes came: some of the group names an unknown or settled one."""


def settle(
    db: Db, rows: Rows, group: Sequence[Settlement], fresh: Mapping[str, Admitted | ApplianceError | None]
) -> None:
    """Write the outcomes of ``group``. ``fresh`` has the answers of admissions of the same transaction.

    An outcome of a request that was never admitted is dropped. Raises NotOpen.
    """
    todo = []
    for settlement in group:
        admitted = fresh.get(settlement.outcome.request_id, settlement.entering.result)
        if isinstance(admitted, Admitted) and admitted.kept is None:
            todo.append((settlement, admitted))
    if not todo:
        return
    settled = [_outcome_row(settlement) for settlement, _ in todo]
    count = db.run(_SETTLE, settled)
    late = False
    if count != len(todo):
        late = len(todo) == 1 and db.run(_SETTLE_LOST, settled) == 1
        if not late:
            raise NotOpen
    for statement, found in _details(todo).items():
        if found:
            db.send(statement, sorted(found, key=_ORDER[statement]) if statement in _ORDER else found)
    for settlement, admitted in todo:
        held = settlement.entering.admission.reserve_nusd + admitted.hosted_nusd
        rows.spend(settlement.entering, settlement.hosted_nusd + settlement.energy_nusd, held, release=not late)
        _meter(rows, settlement)


def lose(db: Db, unrecorded: Iterable[Entering], now_ms: int) -> None:
    """Settle as lost what is still open of ``unrecorded``, and let go of what was held back for it."""
    for entering in unrecorded:
        admission = entering.admission
        key = admission.request.key
        found = db.query(_RESERVED, (admission.request.id,))
        if not db.run(_LOSE, [(now_ms, admission.request.id)]):
            continue
        if found and found[0][0]:
            shadow = SHADOW if admission.request.endpoint == SHADOW else "tenant"
            db.run(_RELEASE, [(found[0][0], entering.month, key.id, shadow, key.tenant.id)])
        if admission.idempotency is not None:
            db.run(_UNKEEP, [(key.id, admission.idempotency.name, admission.request.id)])


def _details(todo: Sequence[tuple[Settlement, Admitted]]) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {s: [] for s in _DETAILS}
    for settlement, admitted in todo:
        outcome, admission = settlement.outcome, settlement.entering.admission
        tenant_id, key_id = admission.request.key.tenant.id, admission.request.key.id
        whose = (tenant_id, admitted.conversation_id)
        for record in outcome.attempts:
            result[_ATTEMPT].append(_attempt_row(outcome.request_id, record))
            ordinal = record.attempt.ordinal
            result[_CALL] += [_call_row(outcome.request_id, ordinal, call) for call in record.calls]
        if outcome.decision is not None:
            result[_DECISION].append(_decision_row(outcome.request_id, outcome.decision))
        if admitted.conversation_id:
            result[_CONVERSATION].append(_conversation_row(settlement, whose))
        if outcome.thread is not None:
            result[_THREAD].append((tenant_id, outcome.thread, admitted.conversation_id, settlement.finished_ms))
        if outcome.prompt is not None:
            # PostgreSQL's text holds no NUL; a model that says one must not make its answer impossible to record
            text = (outcome.prompt, (outcome.answer or "").replace("\0", "\ufffd"))
            result[_TEXT].append((outcome.request_id, *whose, settlement.finished_ms, *text))
        if admission.idempotency is not None:
            which = (key_id, admission.idempotency.name, outcome.request_id)
            kept = outcome.kept
            if kept is None:
                result[_UNKEEP].append(which)
            else:
                headers = msgspec.json.encode(kept.headers).decode()
                answer = (kept.http_status, kept.content_type, headers, kept.body, settlement.finished_ms)
                result[_KEEP].append((*answer, *which))
    return result


def _meter(rows: Rows, settlement: Settlement) -> None:
    admission = settlement.entering.admission
    meter = rows.meter(admission.request.key)
    if meter is not None:
        meter.fill(max(settlement.finished_ms, meter.filled_ms))
        prompt, _, completion, _ = _sums(settlement.outcome)
        meter.give_back(admission.reserve_tokens, prompt + completion)


def answering(outcome: Outcome) -> AttemptRecord | None:
    """The attempt that answered; the last one tried where none did.

    An answer that was held back for a better one stands where the better one failed: it is the last that is whole.
    """
    whole = (record for record in reversed(outcome.attempts) if record.status is Status.OK)
    return next(whole, outcome.attempts[-1] if outcome.attempts else None)


def _outcome_row(settlement: Settlement) -> Row:
    outcome = settlement.outcome
    last = answering(outcome)
    return (
        outcome.status.value,
        outcome.http_status,
        outcome.error_code,
        outcome.total_ms,
        outcome.ttft_ms,
        settlement.finished_ms,
        None if last is None else last.attempt.route,
        None if last is None else last.attempt.reason.value,
        _escalated(outcome),
        *_sums(outcome),
        settlement.hosted_nusd,
        settlement.energy_nusd,
        settlement.work_ns,
        outcome.request_id,
    )


def _escalated(outcome: Outcome) -> bool:
    """Answered, but not by the first route."""
    return outcome.status is Status.OK and len(outcome.attempts) > 1 and answering(outcome) is not outcome.attempts[0]


def _sums(outcome: Outcome) -> tuple[int, int, int, float]:
    """Prompt, cached and completion tokens and seconds of audio over all calls."""
    prompt = cached = completion = 0
    audio_s = 0.0
    for record in outcome.attempts:
        for call in record.calls:
            usage = call.usage
            prompt += usage.prompt_tokens
            cached += usage.cached_tokens
            completion += usage.completion_tokens
            audio_s += usage.audio_s
    return prompt, cached, completion, audio_s


def _conversation_row(settlement: Settlement, whose: tuple[str, str]) -> Row:
    outcome = settlement.outcome
    last = answering(outcome)
    told = (1, settlement.finished_ms, settlement.finished_ms)
    route = last.attempt.route if last is not None and outcome.status is Status.OK else None
    escalated = _escalated(outcome)
    if settlement.entering.admission.request.endpoint in BESIDE:
        told, route, escalated = (0, 0, 0), None, False
    return (
        *told,
        route,
        escalated,
        settlement.hosted_nusd,
        settlement.energy_nusd,
        settlement.work_ns,
        *whose,
    )


def _attempt_row(request_id: str, record: AttemptRecord) -> Row:
    attempt = record.attempt
    return (
        request_id,
        attempt.ordinal,
        attempt.engine,
        attempt.model,
        attempt.route,
        attempt.reason.value,
        record.status.value,
        record.error_code,
        record.total_ms,
    )


def _decision_row(request_id: str, decision: Decision) -> Row:
    return (
        request_id,
        decision.policy,
        decision.parameters,
        decision.intent,
        decision.language,
        decision.value_class,
        decision.route,
        decision.alternative,
        decision.verdict,
        None if decision.reason is None else decision.reason.value,
        decision.p_fail,
        decision.p_fail_alternative,
        decision.propensity,
        decision.cost_nusd,
        decision.extra_s,
        msgspec.json.encode(decision.signals).decode(),
        decision.shadow_of,
        decision.agreement,
    )


def _call_row(request_id: str, attempt_ordinal: int, call: CallRecord) -> Row:
    usage = call.usage
    return (
        request_id,
        attempt_ordinal,
        call.ordinal,
        call.engine,
        call.model,
        call.status.value,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.audio_s,
        call.finish_reason,
        call.ttft_ms,
        call.total_ms,
        usage.thinking_tokens,
        usage.characters,
        call.provider,
        call.hosted_nusd,
        call.work_ns,
    )
