"""kill -9 of a process that answers: every answer it gave is in the ledger, once and whole."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from appliance.ledger import Ledger, Reader

ROUNDS = 5
ANSWERS = 300

_ANSWER = """
import asyncio, itertools, sys
from pathlib import Path
from appliance.ledger import Ledger
from appliance.types import *
path, secret, round = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
numbers = itertools.count()

async def answer(ledger, key):
    while True:
        name = f"req_{round}_{next(numbers):08d}"
        await ledger.admit(Request(name, key, "chat.completions", "m", False, 1))
        call = CallRecord(0, "chat", "m", Status.OK, Usage(1, 0, 2), "stop", None, 1.0)
        record = AttemptRecord(Attempt(0, "chat", "m", "local", Reason.ROUTINE), Status.OK, None, (call,), 1.0)
        await ledger.settle(Outcome(name, Status.OK, 200, None, 1.0, None, (record,)))
        print(name)

async def main():
    ledger = Ledger.open(path)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    await asyncio.gather(*(answer(ledger, key) for _ in range(32)))

asyncio.run(main())
"""


def test_no_answer_is_lost_or_doubled(path: Path, secret: str, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    answered: list[str] = []
    for number in range(ROUNDS):
        process = spawn(_ANSWER, path, secret, number)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(ANSWERS)]
        process.send_signal(signal.SIGKILL)
        lines.extend(process.stdout)
        answered += [line.strip() for line in lines if line.endswith("\n")]
        process.wait()
    assert len(answered) == len(set(answered)) >= ROUNDS * ANSWERS
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        whole = connection.execute(
            "SELECT r.id, count(*) FROM requests r JOIN attempts a ON a.request_id = r.id"
            " JOIN calls c ON c.request_id = r.id WHERE r.status = 'ok' GROUP BY r.id"
        ).fetchall()
    assert {count for _, count in whole} == {1}
    assert set(answered) <= {request_id for request_id, _ in whole}
    with closing(Reader.open(path)) as reader:
        counts = reader.counts()
        assert set(counts) <= {"ok", "lost"}
        assert counts["ok"] == len(whole)
        assert reader.totals() == (sum(counts.values()), len(whole), len(whole))
