"""What the judge decided, from an outcome into the ledger and away with the details."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from appliance.ledger import Ledger
from appliance.ledger.check import check
from appliance.ledger.core import engine
from appliance.ledger.stores import retention
from appliance.types import Decision, Key, Reason

ESCALATED = Decision(
    policy="7",
    parameters="2026-11-26/3",
    route="local",
    alternative="hosted",
    verdict="escalate",
    reason=Reason.LOW_CONFIDENCE,
    p_fail=0.4,
    p_fail_alternative=0.1,
    propensity=0.95,
    cost_nusd=1_200_000,
    extra_s=0.75,
    intent="refund",
    language="hin_Deva",
    value_class="gold",
    signals={"p10": -2.5, "margin_p10": 0.25},
)


async def settled(ledger: Ledger, values: Any, key: Key, *decisions: Decision | None) -> list[str]:
    ledger.start(asyncio.get_running_loop())
    names = []
    for decision in decisions:
        admission = values.admission(key)
        admitted = await ledger.admit(admission)
        await ledger.settle(admission, admitted, values.outcome(admission.request.id, decision=decision))
        names.append(admission.request.id)
    return names


async def test_a_decision_is_written_with_its_outcome(ledger: Ledger, values: Any, key: Key, look: Any) -> None:
    plain = Decision(policy="7", route="local", verdict="commit", p_fail=0.02)
    first, _, third = await settled(ledger, values, key, ESCALATED, None, plain)
    rows = look("SELECT * FROM decisions ORDER BY request_id")
    assert [row[0] for row in rows] == [first, third]
    names = list(Decision.__struct_fields__)
    columns = look.column("SELECT signals FROM decisions ORDER BY request_id")
    assert [msgspec.json.decode(text) for text in columns] == [{"p10": -2.5, "margin_p10": 0.25}, {}]
    for row, decision in zip(rows, (ESCALATED, plain), strict=True):
        known = {value for value in row if value is not None}
        for name in set(names) - {"signals"}:
            value = getattr(decision, name)
            assert value is None or value in known, name
    assert look("SELECT verdict, reason, alternative, shadow_of, agreement FROM decisions ORDER BY request_id") == [
        ("escalate", "low_confidence", "hosted", None, None),
        ("commit", None, None, None, None),
    ]


async def test_decisions_go_with_the_details(ledger: Ledger, values: Any, key: Key, look: Any, where: Any) -> None:
    await settled(ledger, values, key, ESCALATED, ESCALATED)
    assert check(where).ok
    made = engine(where)
    try:
        retention.run(made, values.request(key).at_ms + 100 * 365 * 86_400_000)
    finally:
        made.dispose()
    assert look("SELECT count(*) FROM decisions") == [(0,)]
    assert look("SELECT count(*) FROM requests") == [(2,)]


async def test_the_check_finds_a_decision_without_its_request(where: Any, look: Any) -> None:
    look.db.begin(lambda: None)
    look.db.run(
        "INSERT INTO decisions (request_id, policy, parameters, route, verdict, p_fail, propensity, cost_nusd, extra_s,"
        " signals)"
        " VALUES (?, '7', '', 'local', 'commit', 0.1, 1.0, 0, 0.0, '{}')",
        [("req_nobody",)],
    )
    look.db.commit()
    bad = [line for line in check(where).lines if not line.ok]
    assert [("decision of req_nobody" in line.detail) for line in bad] == [True]
