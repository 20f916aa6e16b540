"""The rows that requests share: budgets and meters, read once and written once a group.

What it is: ``Rows`` locks what has a limit (in one order everywhere, so that two gateways cannot wait for each other),
lets ``admitting`` and ``settling`` count on it, and writes the sums: one UPDATE a budget row and group.
What it refuses to be: a cache. It lives as long as the transaction.
What it costs: nothing to read for a tenant and key without caps and limits; two upserts a group to keep their sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.ledger.db import Db, Retry
from appliance.ledger.entries import Entering, Entry, Settlement
from appliance.ledger.limits import FULL, Headroom, Meter, caps_of, limited
from appliance.types import SHADOW, Key

BudgetKey = tuple[str, str, int]  # scope, scope_id, month

_NEW_BUDGET = (
    "INSERT INTO budgets (scope, scope_id, month, spent_nusd, reserved_nusd) VALUES (?, ?, ?, 0, 0)"
    " ON CONFLICT (scope, scope_id, month) DO NOTHING"
)
_READ_BUDGET = "SELECT spent_nusd, reserved_nusd FROM budgets WHERE scope = ? AND scope_id = ? AND month = ?"
_ADD = (
    "INSERT INTO budgets (scope, scope_id, month, spent_nusd, reserved_nusd) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, scope_id, month) DO UPDATE SET spent_nusd = budgets.spent_nusd + excluded.spent_nusd,"
    " reserved_nusd = budgets.reserved_nusd + excluded.reserved_nusd"
)
# the condition repeats what Headroom decided: whatever a fault of ours may be, a cap is not passed
_RESERVE = (
    "UPDATE budgets SET spent_nusd = spent_nusd + ?, reserved_nusd = reserved_nusd + ?"
    " WHERE scope = ? AND scope_id = ? AND month = ? AND spent_nusd + reserved_nusd + ? <= ?"
)
_NEW_METER = (
    "INSERT INTO meters (key_id, requests, tokens, filled_ms) VALUES (?, ?, ?, ?) ON CONFLICT (key_id) DO NOTHING"
)
_READ_METER = "SELECT requests, tokens, filled_ms, NULL FROM meters WHERE key_id = ?"
# the server's clock: gateways whose own are minutes apart would each refill what another has emptied
_READ_METER_POSTGRES = (
    "SELECT requests, tokens, filled_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM meters"
    " WHERE key_id = ? FOR UPDATE"
)
_WRITE_METER = "UPDATE meters SET requests = ?, tokens = ?, filled_ms = ? WHERE key_id = ?"
_RUNNING = "SELECT count(*) FROM requests WHERE status = 'open' AND key_id = ? AND endpoint <> 'shadow'"


class _Delta:
    """What a group adds to one budget row."""

    def __init__(self) -> None:
        self.spent = 0
        self.reserved = 0
        self.most: int | None = None  # of both, when something was held back; a cost may be more than was held for it


class Rows:
    """Made after ``begin``; ``write`` before ``commit``."""

    def __init__(self, db: Db, group: Sequence[Entry]) -> None:
        self._db = db
        self._lock = " FOR UPDATE" if db.dialect == "postgresql" else ""
        self._deltas: dict[BudgetKey, _Delta] = {}
        self._headrooms: dict[BudgetKey, Headroom] = {}
        self._meters: dict[str, Meter] = {}
        caps: dict[BudgetKey, int] = {}
        keys: dict[str, tuple[Key, int]] = {}
        for entering in _enterings(group):
            admission = entering.admission
            for scope, scope_id, cap in caps_of(admission):
                caps[(scope, scope_id, entering.month)] = cap
            key = admission.request.key
            if limited(key):
                keys.setdefault(key.id, (key, admission.request.at_ms))
        for budget in sorted(caps):
            self._headrooms[budget] = self._read_budget(budget, caps[budget])
        for key_id in sorted(keys):
            self._meters[key_id] = self._read_meter(*keys[key_id])

    def headrooms(self, entering: Entering) -> list[Headroom]:
        """Of the caps that ``entering`` falls under, the key's first."""
        return [found for budget in _budgets(entering) if (found := self._headrooms.get(budget)) is not None]

    def meter(self, key: Key) -> Meter | None:
        """The buckets of ``key``; None for a key without limits."""
        return self._meters.get(key.id) if limited(key) else None

    def count_running(self) -> None:
        """Read how many requests run, for keys that limit it. Others wait for the meters' locks meanwhile."""
        for meter in self._meters.values():
            if meter.key.max_concurrent is not None:
                ((meter.running,),) = self._db.query(_RUNNING, (meter.key.id,))

    def reserve(self, entering: Entering, nusd: int) -> None:
        """Hold back what an admitted request may cost."""
        for headroom in self.headrooms(entering):
            headroom.reserved_nusd += nusd
        if nusd:
            for delta in self._deltas_of(entering):
                delta.reserved += nusd
                now = delta.spent + delta.reserved
                delta.most = now if delta.most is None else max(delta.most, now)

    def spend(self, entering: Entering, spent_nusd: int, held_nusd: int, release: bool = True) -> None:
        """Book what a request cost, and let go of what was held back for it."""
        held = held_nusd if release else 0
        if not spent_nusd and not held:
            return
        for headroom in self.headrooms(entering):
            headroom.spent_nusd += spent_nusd
            headroom.reserved_nusd -= held
        for delta in self._deltas_of(entering):
            delta.spent += spent_nusd
            delta.reserved -= held

    def write(self) -> None:
        """Write the sums. Raises Retry if a cap moved under a lock that should have held it."""
        plain: list[tuple[object, ...]] = []
        for budget in sorted(self._deltas):
            delta, headroom = self._deltas[budget], self._headrooms.get(budget)
            if headroom is None or delta.most is None:
                plain.append((*budget, delta.spent, delta.reserved))
                continue
            row = (delta.spent, delta.reserved, *budget, delta.most, headroom.cap_nusd)
            if self._db.run(_RESERVE, [row]) != 1:
                raise Retry(
                    "the ledger could not hold back money for a request; try again", headers={"retry-after": "1"}
                )
        if plain:
            self._db.send(_ADD, plain)
        if self._meters:
            self._db.send(
                _WRITE_METER,
                [(m.requests, m.tokens, m.filled_ms, key_id) for key_id, m in sorted(self._meters.items())],
            )

    def _deltas_of(self, entering: Entering) -> list[_Delta]:
        return [self._deltas.setdefault(budget, _Delta()) for budget in _budgets(entering)]

    def _read_budget(self, budget: BudgetKey, cap_nusd: int) -> Headroom:
        rows = self._db.query(_READ_BUDGET + self._lock, budget)
        if not rows:
            self._db.run(_NEW_BUDGET, [budget])
            rows = self._db.query(_READ_BUDGET + self._lock, budget)
        return Headroom(budget[0], budget[1], cap_nusd, *rows[0])

    def _read_meter(self, key: Key, now_ms: int) -> Meter:
        read = _READ_METER_POSTGRES if self._lock else _READ_METER
        rows = self._db.query(read, (key.id,))
        if not rows:
            full = [FULL if limit is None else limit for limit in (key.requests_per_minute, key.tokens_per_minute)]
            self._db.run(_NEW_METER, [(key.id, *full, now_ms)])
            rows = self._db.query(read, (key.id,))
        requests, tokens, filled_ms, clock_ms = rows[0]
        return Meter(key, requests, tokens, filled_ms, 0, clock_ms)


def _budgets(entering: Entering) -> tuple[BudgetKey, ...]:
    request = entering.admission.request
    key = request.key
    both = ("key", key.id, entering.month), ("tenant", key.tenant.id, entering.month)
    return both if request.endpoint != SHADOW else (*both, (SHADOW, key.tenant.id, entering.month))


def _enterings(group: Iterable[Entry]) -> Iterable[Entering]:
    for entry in group:
        if isinstance(entry, Entering):
            yield entry
        elif isinstance(entry, Settlement):
            yield entry.entering
