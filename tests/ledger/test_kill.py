"""kill -9 of a process that answers: every answer it gave is in the ledger, once and whole, and its sums agree.

Five rounds here; ``make soak`` sets KILL_ROUNDS=50.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from appliance.ledger import Ledger

ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
ANSWERS = 300

_ANSWER = """
import asyncio, itertools, sys
from pathlib import Path
from appliance.ledger import Ledger
from appliance.types import *
where, secret, round = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]), sys.argv[2], sys.argv[3]
numbers = itertools.count()

async def answer(ledger, key):
    while True:
        name = f"req_{round}_{next(numbers):08d}"
        request = Request(name, key, "chat.completions", "m", False, 1_700_000_000_000)
        asks = Admission(request, Turn(), "conv_" + name, reserve_nusd=100)
        admitted = await ledger.admit(asks)
        call = CallRecord(0, "chat", "m", Status.OK, Usage(1, 0, 2), "stop", None, 1.0, hosted_nusd=7)
        record = AttemptRecord(Attempt(0, "chat", "m", "local", Reason.ROUTINE), Status.OK, None, (call,), 1.0)
        await ledger.settle(asks, admitted, Outcome(name, Status.OK, 200, None, 1.0, None, (record,)))
        print(name)

async def main():
    ledger = Ledger.open(where)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    await asyncio.gather(*(answer(ledger, key) for _ in range(32)))

asyncio.run(main())
"""


def test_no_answer_is_lost_or_doubled(
    where: Any, secret: str, look: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    answered: list[str] = []
    for number in range(ROUNDS):
        process = spawn(_ANSWER, where, secret, number)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(ANSWERS)]
        process.send_signal(signal.SIGKILL)
        lines.extend(process.stdout)
        answered += [line.strip() for line in lines if line.endswith("\n")]
        process.wait()
    assert len(answered) == len(set(answered)) >= ROUNDS * ANSWERS
    if isinstance(where, str):  # as if 15 seconds had passed: the server counts them by its own clock
        look.db.run("UPDATE gateways SET beat_ms = ?", [(0,)])
    Ledger.open(where).close()
    whole = look(
        "SELECT r.id, count(*) FROM requests r JOIN attempts a ON a.request_id = r.id"
        " JOIN calls c ON c.request_id = r.id WHERE r.status = 'ok' GROUP BY r.id"
    )
    assert {count for _, count in whole} == {1}
    assert set(answered) <= {request_id for request_id, _ in whole}
    counts = look.counts()
    assert set(counts) <= {"ok", "lost"}
    assert counts["ok"] == len(whole)
    assert look.totals() == (sum(counts.values()), len(whole), len(whole))
    assert look("SELECT spent_nusd, reserved_nusd FROM budgets") == [(7 * len(whole), 0)] * 2
    assert look("SELECT sum(hosted_nusd), sum(requests) FROM conversations") == [(7 * len(whole), len(whole))]
