"""What runs by itself, on both databases: once, by whichever gateway is first, and with an effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.ledger import Ledger
from appliance.ledger.housekeeping import Housekeeper
from appliance.types import Key

HOUR_S = 3600.0


@pytest.mark.parametrize("answered", [True, False])
async def test_silence_after_an_answer_is_presumed_resolved(
    answered: bool, ledger: Ledger, key: Key, where: Any, look: Any, values: Any
) -> None:
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key)
    admitted = await ledger.admit(admission)
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, attempts=int(answered)))
    ((seen_ms,),) = look("SELECT last_seen_ms FROM conversations")
    now = seen_ms / 1000
    keeper = Housekeeper(where, "Asia/Kolkata", lambda: now)
    assert set(keeper.round()) == {"answers", "silence", "reconcile", "retention"}
    assert look.column("SELECT state FROM conversations") == ["open"]
    assert keeper.round() == []  # nothing is due
    now += 73 * HOUR_S
    assert "silence" in keeper.round()
    assert look.column("SELECT state FROM conversations") == ["presumed_resolved" if answered else "open"]
    assert look.column("SELECT source FROM outcomes") == (["silence"] if answered else [])
