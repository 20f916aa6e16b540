"""Any order of admitting, settling, losing and crashing, by any gateway: the ledger equals a model of thirty lines.

Where ``test_properties`` drives the asyncio facade on SQLite, this drives journals, on both databases (on PostgreSQL
two at once), and also breaks commits: before the server had them, and after.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledger.conftest import AT_MS, Look, Values

from appliance.errors import BudgetExceeded, LedgerUnavailable
from appliance.ledger import gateways
from appliance.ledger.db import Db, connect
from appliance.ledger.entries import Entering, Entry, Settlement
from appliance.ledger.journal import Journal
from appliance.types import Admitted, Key, Tenant

KEY_CAP, TENANT_CAP = 60, 90
MONTH = 202311
_names = itertools.count()
_costs = st.integers(0, 15)  # what was held back is 1 to 10: an answer may come dearer than that
_which = st.integers(0, 10_000)


class Model:
    """What the ledger should say."""

    def __init__(self, caps: dict[str, int]) -> None:
        self.caps = caps
        self.spent = dict.fromkeys(caps, 0)
        self.reserved = dict.fromkeys(caps, 0)
        self.status: dict[str, str] = {}

    def admit(self, name: str, key: Key, nusd: int) -> bool:
        scopes = (key.id, key.tenant.id)
        used = {scope: self.spent[scope] + self.reserved[scope] for scope in scopes}
        fits = all(used[s] < self.caps[s] and used[s] + nusd <= self.caps[s] for s in scopes)
        for scope in scopes:
            self.reserved[scope] += nusd if fits else 0
        self.status[name] = "open" if fits else "refused"
        return fits

    def release(self, name: str, key: Key, nusd: int, spent: int, status: str) -> None:
        for scope in (key.id, key.tenant.id):
            self.reserved[scope] -= nusd
            self.spent[scope] += spent
        self.status[name] = status


class Gateway:
    """A journal whose next commit may break."""

    def __init__(self, where: Path | str) -> None:
        self.db: Db = connect(where)
        self.breaks: str | None = None
        self._commit = self.db.commit
        self.db.commit = self._commit_or_break  # type: ignore[method-assign]
        self.start()

    def start(self) -> None:
        self.id = f"gw_{next(_names)}"
        gateways.register(self.db, self.id, "host", 1, AT_MS)
        self.journal = Journal(self.db, self.id, lambda: AT_MS / 1000)

    def _commit_or_break(self) -> None:
        breaks, self.breaks = self.breaks, None
        if breaks == "after":
            self._commit()
        if breaks is not None:
            raise LedgerUnavailable("the connection broke")
        self._commit()


class Machine(RuleBasedStateMachine):
    """Its tenant and keys are its own, so that examples share a database."""

    where: Path | str
    how_many: int

    def __init__(self) -> None:
        super().__init__()
        self.values = Values()
        self.gateways = [Gateway(self.where) for _ in range(self.how_many)]
        self.look = Look(self.where)
        number = next(_names)
        self.tenant = Tenant(f"t{number}", f"t{number}", "salt", b"secret", cap_nusd=TENANT_CAP)
        self.keys = [Key(f"k{number}_{n}", "k", "client", self.tenant, cap_nusd=KEY_CAP) for n in range(2)]
        db = self.look.db
        db.run("INSERT INTO tenants (id, name, cache_salt, created_ms) VALUES (?, ?, '', 0)", [(self.tenant.id,) * 2])
        row = "INSERT INTO keys (id, tenant_id, name, role, digest, created_ms) VALUES (?, ?, ?, 'client', ?, 0)"
        db.run(row, [(key.id, self.tenant.id, key.id, key.id) for key in self.keys])
        self.model = Model({self.tenant.id: TENANT_CAP, **{key.id: KEY_CAP for key in self.keys}})
        self.open: dict[str, tuple[Gateway, Entering]] = {}
        self.lost: list[tuple[Gateway, Entering]] = []
        self.answered = 0

    def teardown(self) -> None:
        for gateway in self.gateways:
            gateway.db.close()
        self.look.db.close()

    def _gateway(self, which: int) -> Gateway:
        return self.gateways[which % len(self.gateways)]

    def _entering(self, which: int, nusd: int) -> Entering:
        key = self.keys[which % 2]
        return Entering(self.values.admission(key, f"req_{next(_names):09d}", reserve_nusd=nusd), MONTH)

    def _settlement(self, entering: Entering, cost: int) -> Settlement:
        outcome = self.values.outcome(entering.admission.request.id, hosted_nusd=cost)
        return Settlement(entering, outcome, AT_MS, hosted_nusd=cost)

    def _ends(self, entering: Entering, spent: int, status: str) -> None:
        admission = entering.admission
        name = admission.request.id
        self.model.release(name, admission.request.key, admission.reserve_nusd, spent, status)
        self.open.pop(name, None)
        self.answered += status == "ok"

    def _mine(self, gateway: Gateway) -> list[Entering]:
        return [entering for owner, entering in self.open.values() if owner is gateway]

    @rule(which=_which, asks=st.lists(st.tuples(_which, st.integers(1, 10)), min_size=1, max_size=6), ends=st.data())
    def a_group(self, which: int, asks: list[tuple[int, int]], ends: Any) -> None:
        """Some of what runs ends, some ask to be admitted, and of those some leave at once."""
        gateway = self._gateway(which)
        settled = [self._settlement(e, ends.draw(_costs)) for e in self._mine(gateway) if ends.draw(st.booleans())]
        entering = [self._entering(*ask) for ask in asks]
        left = [self._settlement(e, ends.draw(_costs)) for e in entering if ends.draw(st.integers(0, 3)) == 0]
        results = gateway.journal.write([*settled, *entering, *left])
        for settlement in settled:
            self._ends(settlement.entering, settlement.hosted_nusd, "ok")
        for entry, result in zip(entering, results[len(settled) :], strict=False):
            request = entry.admission.request
            fits = self.model.admit(request.id, request.key, entry.admission.reserve_nusd)
            assert isinstance(result, Admitted if fits else BudgetExceeded)
            if fits:
                self.open[request.id] = (gateway, entry)
        for settlement in left:
            if settlement.outcome.request_id in self.open:
                self._ends(settlement.entering, settlement.hosted_nusd, "ok")

    @rule(
        which=_which,
        ask=st.tuples(_which, st.integers(1, 10)),
        cost=_costs,
        breaks=st.sampled_from(["before", "after"]),
    )
    def a_commit_that_breaks(self, which: int, ask: tuple[int, int], cost: int, breaks: str) -> None:
        """Everybody is told no; afterwards nothing is open or held that nobody runs."""
        gateway = self._gateway(which)
        gateway.breaks = breaks
        entering = self._entering(*ask)
        settled = [self._settlement(e, cost) for e in self._mine(gateway)[:1]]
        group: list[Entry] = [*settled, entering]
        with pytest.raises(LedgerUnavailable):
            gateway.journal.write(group)
        assert gateway.journal.in_debt
        gateway.journal.write([])
        assert not gateway.journal.in_debt
        for settlement in settled:
            spent, status = (settlement.hosted_nusd, "ok") if breaks == "after" else (0, "lost")
            self._ends(settlement.entering, spent, status)
            if status == "lost":
                self.lost.append((gateway, settlement.entering))
        request = entering.admission.request
        if breaks == "after" and self.model.admit(request.id, request.key, entering.admission.reserve_nusd):
            self._ends(entering, 0, "lost")

    @rule(which=_which, dies=st.booleans())
    def taken_for_dead(self, which: int, dies: bool) -> None:
        """And it may be, or live on and say later how its requests ended."""
        gateway = self._gateway(which)
        if isinstance(self.where, str):
            self.look.db.run("UPDATE gateways SET beat_ms = 0 WHERE id = ?", [(gateway.id,)])
            gateways.reap_dead(self.look.db, AT_MS)
            gateways.beat(self.look.db, gateway.id)
        else:
            gateways.reap_all(self.look.db, AT_MS)
        for entering in self._mine(gateway):
            self._ends(entering, 0, "lost")
            if not dies:
                self.lost.append((gateway, entering))
        if dies:
            self.lost = [(owner, entering) for owner, entering in self.lost if owner is not gateway]
            gateway.start()

    @precondition(lambda self: self.lost)
    @rule(cost=_costs)
    def an_end_that_comes_late(self, cost: int) -> None:
        gateway, entering = self.lost.pop()
        gateway.journal.write([self._settlement(entering, cost)])
        request = entering.admission.request
        self.model.release(request.id, request.key, 0, cost, "ok")
        self.answered += 1

    @invariant()
    def the_ledger_agrees(self) -> None:
        model, tenant = self.model, (self.tenant.id,)
        rows = self.look("SELECT id, status FROM requests WHERE tenant_id = ?", tenant)
        assert dict(rows) == model.status
        for scope in model.caps:
            found = self.look("SELECT spent_nusd, reserved_nusd FROM budgets WHERE scope_id = ?", (scope,)) or [(0, 0)]
            assert found == [(model.spent[scope], model.reserved[scope])]
        held = "SELECT coalesce(sum(reserved_nusd), 0) FROM requests WHERE tenant_id = ? AND status = 'open'"
        assert self.look(held, tenant) == [(model.reserved[self.tenant.id],)]
        sums = "SELECT coalesce(sum(hosted_nusd), 0), coalesce(sum(requests), 0) FROM conversations WHERE tenant_id = ?"
        assert self.look(sums, tenant) == [(model.spent[self.tenant.id], self.answered)]
        calls = "SELECT count(*) FROM calls AS c JOIN requests AS r ON r.id = c.request_id WHERE r.tenant_id = ?"
        assert self.look(calls, tenant) == [(self.answered,)]


@pytest.fixture
def machine(where: Path | str) -> Iterator[Callable[[], Machine]]:
    yield type("TheMachine", (Machine,), {"where": where, "how_many": 2 if isinstance(where, str) else 1})


def test_whatever_happens_the_ledger_agrees_with_the_model(machine: Callable[[], Machine]) -> None:
    quick = settings(max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)  # type: ignore[no-untyped-call]
