"""Admits a group: kept answers, limits and caps, conversations, then one row a request.

What it is: the decisions are taken in the order of the queue, on rows that this transaction has locked; the statements
are sent a group at a time. A refused request leaves its row too, with the reason, and touches nothing else.
What it refuses to be: policy. It knows limits, not routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from appliance.errors import ApplianceError, BudgetExceeded, Conflict, NotFound, RateLimited
from appliance.ledger.db import Db
from appliance.ledger.entries import Entering
from appliance.ledger.resolving import Found, Known
from appliance.ledger.rows import Rows
from appliance.types import BESIDE, Admission, Admitted, Idempotency, Kept, Reason

KEPT_MS = 10 * 60 * 1000  # how long an answer stays for its Idempotency-Key, from when it was given

_REQUEST = (
    "INSERT INTO requests (id, tenant_id, key_id, endpoint, model, stream, at_ms, status, http_status, error_code,"
    " total_ms, finished_ms, conversation_id, gateway_id, month, reserved_nusd, reason)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_OPEN = (
    "INSERT INTO conversations (tenant_id, id, key_id, channel, language, intent, value_class, subject, opened_ms,"
    " last_seen_ms, state, state_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)"
    " ON CONFLICT (tenant_id, id) DO NOTHING"
)
_DESCRIBE = (
    "UPDATE conversations SET language = coalesce(?, language), intent = coalesce(?, intent),"
    " value_class = coalesce(?, value_class), subject = coalesce(subject, ?) WHERE tenant_id = ? AND id = ?"
)
_REOPEN = (
    "UPDATE conversations SET state = 'open', state_ms = ?, reopened = reopened + 1"
    " WHERE tenant_id = ? AND id = ? AND state <> 'open'"
)
_REOPENED = (
    "INSERT INTO outcomes (id, tenant_id, conversation_id, at_ms, source, key_id) VALUES (?, ?, ?, ?, 'reopened', ?)"
)
# not while it runs: whoever settles it, or finds its gateway dead, takes it away
_FORGET = "DELETE FROM idempotency WHERE key_id = ? AND name = ? AND at_ms < ? AND http_status IS NOT NULL"
_UNDO = "DELETE FROM idempotency WHERE key_id = ? AND name = ? AND request_id = ?"
_REMEMBER = (
    "INSERT INTO idempotency (key_id, name, digest, request_id, at_ms) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (key_id, name) DO NOTHING"
)
_RECALL = (
    "SELECT digest, request_id, http_status, content_type, headers, body FROM idempotency WHERE key_id = ? AND name = ?"
)
_TOO_LARGE = -1  # http_status of an answer that was too large to keep

_REASONS: dict[type[ApplianceError], Reason] = {
    BudgetExceeded: Reason.BUDGET,
    RateLimited: Reason.RATE_LIMITED,
}

Row = tuple[object, ...]


class Admitting:
    """One group's admissions inside one transaction."""

    def __init__(self, db: Db, rows: Rows, gateway_id: str) -> None:
        self._db = db
        self._rows = rows
        self._gateway_id = gateway_id
        self._requests: list[Row] = []
        self._opened: list[Row] = []
        self._described: list[Row] = []
        self._reopened: list[Row] = []
        self._reopenings: list[Row] = []

    def admit(self, group: Sequence[Entering]) -> Iterator[tuple[str, Admitted | ApplianceError]]:
        """The request ids of ``group`` with what became of each."""
        self._rows.count_running()
        known = Known(self._db, [entering.admission for entering in group])
        results = [(entering.admission.request.id, self._one(entering, known)) for entering in group]
        for statement, rows in (
            (_OPEN, self._opened),
            (_DESCRIBE, self._described),
            (_REOPEN, self._reopened),
            (_REOPENED, self._reopenings),
            (_REQUEST, self._requests),
        ):
            if rows:
                self._db.send(statement, rows)
        return iter(results)

    def _one(self, entering: Entering, known: Known) -> Admitted | ApplianceError:
        admission = entering.admission
        if admission.idempotency is not None:
            kept = self._kept(admission, admission.idempotency)
            if kept is not None:
                return kept
        refusal = self._refusal(entering) or _unknown_answer(admission, known)
        if refusal is not None:
            if admission.idempotency is not None:  # nothing ran, so a repeat may
                request = admission.request
                self._db.run(_UNDO, [(request.key.id, admission.idempotency.name, request.id)])
            self._refuse(entering, refusal)
            return refusal
        return self._let_in(entering, known)

    def _refusal(self, entering: Entering) -> ApplianceError | None:
        """Over a limit or a cap; otherwise counts it in."""
        admission = entering.admission
        meter = self._rows.meter(admission.request.key)
        if meter is not None:
            meter.fill(admission.request.at_ms)
            if (limit := meter.refusal(admission.reserve_tokens)) is not None:
                return limit
        for headroom in self._rows.headrooms(entering):
            if not headroom.fits(admission.reserve_nusd):
                return headroom.refusal()
        return None

    def _let_in(self, entering: Entering, known: Known) -> Admitted:
        admission = entering.admission
        request, turn = admission.request, admission.turn
        found = known.of(admission)
        conversation_id = found.id if found is not None else (turn.conversation_id or admission.new_conversation_id)
        if request.endpoint in BESIDE:  # its conversation is told of no more than what it costs
            conversation_id = "" if found is None else found.id
        elif found is not None:
            self._go_on(admission, found, known)
        elif turn.opens or turn.conversation_id is not None:
            self._open(admission, conversation_id)
            known.opened(request.key.tenant.id, conversation_id)
        else:
            conversation_id = ""
        hosted_nusd = self._hosted(entering)
        held_nusd = admission.reserve_nusd + hosted_nusd
        self._rows.reserve(entering, held_nusd)
        self._requests.append(self._row(entering, "open", conversation_id or None, held_nusd))
        meter = self._rows.meter(request.key)
        requests = tokens = None
        if meter is not None:
            meter.take(admission.reserve_tokens)
            requests, tokens = meter.limits()
        new = found is None and bool(conversation_id)
        if found is None:
            return Admitted(conversation_id, new, requests, tokens, None, hosted_nusd)
        last = (found.answered_by, found.last_seen_ms, found.state != "open")
        return Admitted(conversation_id, new, requests, tokens, None, hosted_nusd, *last)

    def _hosted(self, entering: Entering) -> int:
        """What is held back for hosted attempts: all that they may cost, or nothing, and then none is made."""
        admission = entering.admission
        if not admission.hosted_nusd:
            return 0
        both = admission.reserve_nusd + admission.hosted_nusd
        return admission.hosted_nusd if all(h.fits(both) for h in self._rows.headrooms(entering)) else 0

    def _open(self, admission: Admission, conversation_id: str) -> None:
        request, turn = admission.request, admission.turn
        about = (turn.channel, turn.language, turn.intent, turn.value_class, turn.subject)
        whose = (request.key.tenant.id, conversation_id, request.key.id)
        self._opened.append((*whose, *about, request.at_ms, request.at_ms, request.at_ms))

    def _go_on(self, admission: Admission, found: Found, known: Known) -> None:
        request, turn = admission.request, admission.turn
        tenant_id = request.key.tenant.id
        if found.state != "open":
            known.reopened(admission, found)
            self._reopened.append((request.at_ms, tenant_id, found.id))
            # the request's own id, of which there is one, gives the row of the reopening its name
            self._reopenings.append((f"out_{request.id}", tenant_id, found.id, request.at_ms, request.key.id))
        if not found.knows(turn):
            about = (turn.language, turn.intent, turn.value_class, turn.subject)
            self._described.append((*about, tenant_id, found.id))

    def _refuse(self, entering: Entering, error: ApplianceError) -> None:
        self._requests.append(self._row(entering, "refused", None, 0, error))

    def _row(
        self,
        entering: Entering,
        status: str,
        conversation_id: str | None,
        reserved_nusd: int,
        error: ApplianceError | None = None,
    ) -> Row:
        request = entering.admission.request
        key = request.key
        end: Row = (None, None, None, None)
        reason: Reason | None = None
        if error is not None:
            end = (error.status, error.code, 0.0, request.at_ms)
            reason = _REASONS.get(type(error))
        return (
            request.id,
            key.tenant.id,
            key.id,
            request.endpoint,
            request.model,
            request.stream,
            request.at_ms,
            status,
            *end,
            conversation_id,
            self._gateway_id,
            entering.month,
            reserved_nusd,
            None if reason is None else reason.value,
        )

    def _kept(self, admission: Admission, asked: Idempotency) -> Admitted | Conflict | None:
        """The answer that was kept, why there is none, or None: this request is the first of its name."""
        request = admission.request
        key_id, now_ms = request.key.id, request.at_ms
        self._db.run(_FORGET, [(key_id, asked.name, now_ms - KEPT_MS)])
        if self._db.run(_REMEMBER, [(key_id, asked.name, asked.digest, request.id, now_ms)]):
            return None
        ((digest, request_id, status, content_type, headers, body),) = self._db.query(_RECALL, (key_id, asked.name))
        if bytes(digest) != asked.digest:
            return Conflict(
                "this Idempotency-Key came with another request before; use a fresh one for every new request",
                code="idempotency_conflict",
            )
        if status is None:
            return Conflict(
                "the request with this Idempotency-Key is still running; try again when it has ended",
                code="idempotency_in_progress",
                headers={"retry-after": "1"},
            )
        if status == _TOO_LARGE:
            return Conflict(
                "the request with this Idempotency-Key was answered, but its answer was too large to keep",
                code="idempotency_not_kept",
                headers={"x-should-retry": "false"},
            )
        kept = Kept(request_id, status, content_type, msgspec.json.decode(headers, type=dict[str, str]), bytes(body))
        return Admitted("", False, kept=kept)


def _unknown_answer(admission: Admission, known: Known) -> NotFound | None:
    turn = admission.turn
    if turn.conversation_id is not None or turn.previous_id is None or known.of(admission) is not None:
        return None
    return NotFound(
        "previous_response_id names no answer of this tenant; send the id of an answer that was given here",
        code="previous_response_not_found",
        param="previous_response_id",
    )
