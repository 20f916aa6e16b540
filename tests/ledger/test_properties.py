"""Any interleaving of admit, settle, cancel and crash: one row a request, whole or lost; caps and sums hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger.conftest import Look

from appliance.errors import BudgetExceeded
from appliance.ledger import Ledger
from appliance.types import Key

CAP_NUSD = 100
RESERVE_NUSD = 10

# One request: turns of the loop before it starts, whether its caller leaves while it is admitted or settled, whether
# it is settled at all, how many attempts and calls it took, what a call cost (never more than was reserved).
_life = st.tuples(
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(0, 2),
)
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
    turns, leaves_early, leaves_late, settles, attempts, calls, nusd = life
    for _ in range(turns):
        await asyncio.sleep(0)
    admission = values.admission(key, f"req_{number}", reserve_nusd=RESERVE_NUSD)
    admit = asyncio.ensure_future(ledger.admit(admission))
    await asyncio.sleep(0)
    admitted = None
    if leaves_early:
        admit.cancel()
        await asyncio.wait([admit])
    else:
        try:
            admitted = await admit
        except BudgetExceeded:
            return
        run.admitted.add(admission.request.id)
    if not settles:
        return
    outcome = values.outcome(admission.request.id, attempts=attempts, calls=calls, hosted_nusd=nusd)
    settle = asyncio.ensure_future(ledger.settle(admission, admitted, outcome))
    await asyncio.sleep(0)
    if leaves_late:
        settle.cancel()
        await asyncio.wait([settle])
    else:
        await settle
        if admitted is not None:
            run.settled[admission.request.id] = (attempts, attempts * calls)


def _check(path: Path, run: Run, lives: list[Any], *, complete: bool) -> None:
    Ledger.open(path).close()
    look = Look(path)
    rows = {
        name: (status, attempts, calls)
        for name, status, attempts, calls in look(
            "SELECT r.id, r.status, (SELECT count(*) FROM attempts a WHERE a.request_id = r.id),"
            " (SELECT count(*) FROM calls c WHERE c.request_id = r.id) FROM requests r"
        )
    }
    assert run.admitted <= set(rows)
    if complete:
        assert len(rows) == len(lives)
    spent = 0
    for request_id, (status, *sizes) in rows.items():
        _, _, _, settles, attempts, calls, nusd = lives[int(request_id.removeprefix("req_"))]
        assert status in ("ok", "lost", "refused")
        if request_id in run.settled or (complete and settles):
            assert status in ("ok", "refused")
        if request_id in run.admitted:
            assert status != "refused"
        assert sizes == ([attempts, attempts * calls] if status == "ok" else [0, 0])
        spent += attempts * calls * nusd if status == "ok" else 0
    assert look("SELECT coalesce(max(spent_nusd), 0), coalesce(max(reserved_nusd), 0) FROM budgets") == [(spent, 0)]
    assert spent <= CAP_NUSD
    assert look("SELECT coalesce(sum(hosted_nusd), 0) FROM conversations") == [(spent,)]
    look.db.close()


async def _watch_the_cap(ledger: Ledger, path: Path, stop: asyncio.Event) -> None:
    look = Look(path)
    while not stop.is_set():
        for spent, reserved in look("SELECT spent_nusd, reserved_nusd FROM budgets"):
            assert 0 <= spent + reserved <= CAP_NUSD
            assert reserved % RESERVE_NUSD == 0
        await asyncio.sleep(0)
    look.db.close()


async def _scenario(path: Path, crashed: Path, secret: str, values: Any, plan: Any) -> tuple[Run, Run]:
    lives, crash_turn = plan
    ledger = Ledger.open(path)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    key = msgspec.structs.replace(key, cap_nusd=CAP_NUSD)
    run, stop = Run(), asyncio.Event()
    watch = asyncio.ensure_future(_watch_the_cap(ledger, path, stop))
    tasks = [asyncio.ensure_future(_live(ledger, run, key, values, n, life)) for n, life in enumerate(lives)]
    for _ in range(crash_turn):
        await asyncio.sleep(0)
    before = run.copy()
    # What kill -9 leaves: the file and its WAL as they are now, perhaps in the middle of a commit. (No checkpoint
    # comes within so few rows, so the two belong together.)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
    await asyncio.gather(*tasks)
    stop.set()
    await watch
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
