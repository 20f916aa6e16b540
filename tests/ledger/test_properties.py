"""Any interleaving of admit, settle, cancel and crash: one row a request, whole or lost, and totals that agree."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.ledger import Ledger, Reader
from appliance.types import Key

# One request: turns of the loop before it starts, whether its caller leaves while it is admitted or settled, whether
# it is settled at all, how many attempts and calls it took.
_life = st.tuples(st.integers(0, 5), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(1, 3))
_plan = st.tuples(st.lists(_life, min_size=1, max_size=30), st.integers(0, 60))


class Run:
    """What was confirmed to the callers of one ledger."""

    def __init__(self) -> None:
        self.admitted: set[str] = set()
        self.settled: dict[str, tuple[int, int]] = {}

    def copy(self) -> Run:
        other = Run()
        other.admitted, other.settled = set(self.admitted), dict(self.settled)
        return other


async def _live(ledger: Ledger, run: Run, key: Key, values: Any, number: int, life: Any) -> None:
    turns, leaves_early, leaves_late, settles, attempts, calls = life
    for _ in range(turns):
        await asyncio.sleep(0)
    request = values.request(key, f"req_{number}")
    admit = asyncio.ensure_future(ledger.admit(request))
    await asyncio.sleep(0)
    if leaves_early:
        admit.cancel()
    else:
        await admit
        run.admitted.add(request.id)
    if not settles:
        return
    settle = asyncio.ensure_future(ledger.settle(values.outcome(request.id, attempts=attempts, calls=calls)))
    await asyncio.sleep(0)
    if leaves_late:
        settle.cancel()
    else:
        await settle
        run.settled[request.id] = (attempts, attempts * calls)


def _check(path: Path, run: Run, lives: list[Any], *, complete: bool) -> None:
    Ledger.open(path).close()
    with closing(Reader.open(path)) as reader:
        ids = reader.ids()
        rows = {request_id: reader.request(request_id) for request_id in ids}
        totals = reader.totals()
    assert len(ids) == len(rows) == totals[0]
    assert run.admitted <= set(ids)
    if complete:
        assert len(ids) == len(lives)
    seen_attempts = seen_calls = 0
    for request_id, row in rows.items():
        assert row is not None
        sizes = (len(row.attempts), sum(len(attempt.calls) for attempt in row.attempts))
        seen_attempts += sizes[0]
        seen_calls += sizes[1]
        _, _, _, settles, attempts, calls = lives[int(request_id.removeprefix("req_"))]
        assert row.status in ("ok", "lost")
        if request_id in run.settled or (complete and settles):
            assert row.status == "ok"
        assert sizes == ((attempts, attempts * calls) if row.status == "ok" else (0, 0))
    assert totals[1:] == (seen_attempts, seen_calls)


async def _scenario(path: Path, crashed: Path, secret: str, values: Any, plan: Any) -> tuple[Run, Run]:
    lives, crash_turn = plan
    ledger = Ledger.open(path)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    run = Run()
    tasks = [asyncio.ensure_future(_live(ledger, run, key, values, n, life)) for n, life in enumerate(lives)]
    for _ in range(crash_turn):
        await asyncio.sleep(0)
    before = run.copy()
    # What kill -9 leaves: the file and its WAL as they are now, perhaps in the middle of a commit. (No checkpoint
    # comes within so few rows, so the two belong together.)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
    await asyncio.gather(*tasks)
    await asyncio.to_thread(ledger.close)
    return run, before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=_plan)
def test_every_interleaving(plan: Any, template: tuple[Path, str], values: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        path, crashed = Path(directory, "ledger.db"), Path(directory, "crashed.db")
        shutil.copy(template[0], path)
        run, before = asyncio.run(_scenario(path, crashed, template[1], values, plan))
        _check(path, run, plan[0], complete=True)
        _check(crashed, before, plan[0], complete=False)
