"""Days of a simulated ledger, as rows.

What it is: ``Simulation``: each call of ``day`` gives the rows of one day's conversations, a table at a time, and keeps
the sums (engine hours, budgets) that ``rest`` gives at the end. The same seed gives the same rows.
What it costs: about 15 µs a row, in columns; a day at a time, so that memory does not grow with the month.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from appliance.ledger.demo import conversations, mix, turns
from appliance.ledger.demo.conversations import Drift, Floats, Ints, Talks
from appliance.ledger.demo.turns import ENGINES, MODELS, REASONS, ROUTES, STATUSES, Calls, Traffic
from appliance.ledger.money import to_nusd
from appliance.ledger.months import HOUR_MS

Table = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]
_PRESUMED_AFTER_MS = 72 * HOUR_MS
_LOCAL = len(mix.ENGINES)

_CONVERSATION = (
    "tenant_id id key_id channel language intent value_class subject opened_ms last_seen_ms state state_ms reopened"
    " requests answered_by escalated hosted_nusd energy_nusd work_ns busy_ns"
)
_REQUEST = (
    "id tenant_id key_id endpoint model stream at_ms status http_status error_code total_ms ttft_ms finished_ms"
    " conversation_id gateway_id month reserved_nusd route reason escalated prompt_tokens cached_tokens"
    " completion_tokens audio_s hosted_nusd energy_nusd work_ns busy_ns"
)
_ATTEMPT = "request_id ordinal engine model route reason status error_code total_ms"
_CALL = (
    "request_id attempt_ordinal ordinal engine model status prompt_tokens cached_tokens completion_tokens audio_s"
    " finish_reason ttft_ms total_ms thinking_tokens characters provider hosted_nusd work_ns"
)
_OUTCOME = "id tenant_id conversation_id at_ms source key_id resolved handed_to_human csat note"
_HTTP = {"ok": 200, "failed": 502, "cancelled": 499}
_ERROR = {"ok": None, "failed": "engine_failed", "cancelled": "client_closed"}


def key_of(tenant_id: str) -> str:
    """The id of a demo tenant's only key."""
    return f"key_{tenant_id}"


class Simulation:
    """Rows from ``start_ms`` to ``until_ms``; what is silent at the end is presumed resolved as usual."""

    def __init__(self, seed: int, start_ms: int, until_ms: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._start_ms = start_ms // HOUR_MS * HOUR_MS
        self._until_ms = until_ms
        hours = (until_ms - self._start_ms) // HOUR_MS + 3
        # how far measured busy time is from what the coefficients say, by engine and hour
        self._measured = self._rng.normal(1.0, 0.05, (_LOCAL, hours)).clip(0.85, 1.2)
        self._busy = np.zeros((_LOCAL, hours), np.int64)
        self._work = np.zeros((_LOCAL, hours), np.int64)
        self._spent: dict[tuple[int, int], int] = {}
        self._energy = _energy_nusd_per_ns()

    def day(self, day_ms: int, month: int, count: int, drift: Drift) -> Iterator[Table]:
        """The rows of ``count`` conversations opened on the day that begins at ``day_ms``."""
        rng = self._rng
        talks = conversations.draw(rng, day_ms, count, drift)
        traffic, calls = turns.draw(rng, talks, day_ms)
        hosted, work = _hosted_nusd(calls), _work_ns(calls)
        finished_ms = traffic.at_ms + traffic.total_ms.astype(np.int64)
        busy = self._note_busy(calls, work, finished_ms)
        count_r, count_c = len(traffic.talk), len(talks.tenant)
        sums = {name: _summed(calls.request, column, count_r) for name, column in _columns(calls, hosted, work, busy)}
        energy = np.rint(sums["work_ns"] * self._energy).astype(np.int64)
        talk_ids = _ids(rng, "conv", talks.opened_ms)
        ids = _ids(rng, "req", traffic.at_ms)
        self._note_spent(month, talks.tenant[traffic.talk], sums["hosted_nusd"] + energy)
        last_ms = np.zeros(count_c, np.int64)
        np.maximum.at(last_ms, traffic.talk, finished_ms)
        yield from self._conversation_rows(talks, traffic, talk_ids, last_ms, sums, energy)
        yield _request_table(talks, traffic, ids, talk_ids, finished_ms, month, sums, energy)
        yield _attempt_table(traffic, ids)
        yield _call_table(traffic, calls, ids, hosted, work)

    def rest(self, gateway_id: str) -> Iterator[Table]:
        """What the days came to: engines' hours and budgets."""
        up_ns = HOUR_MS * 1_000_000
        rows = [
            (mix.ENGINES[e].name, self._start_ms + h * HOUR_MS, gateway_id, min(int(self._busy[e, h]), up_ns), up_ns,
             int(self._work[e, h]))
            for e in range(_LOCAL)
            for h in range((self._until_ms - self._start_ms) // HOUR_MS)
        ]  # fmt: skip
        yield "engine_hours", ("engine", "hour_ms", "gateway_id", "busy_ns", "up_ns", "work_ns"), rows
        spent = [
            (scope, mix.TENANTS[t].id if scope == "tenant" else key_of(mix.TENANTS[t].id), month, nusd, 0)
            for (month, t), nusd in sorted(self._spent.items())
            for scope in ("tenant", "key")
        ]
        yield "budgets", ("scope", "scope_id", "month", "spent_nusd", "reserved_nusd"), spent

    def _note_busy(self, calls: Calls, work: Ints, finished_ms: Ints) -> Ints:
        hour = np.minimum((finished_ms[calls.request] - self._start_ms) // HOUR_MS, self._busy.shape[1] - 1)
        local = calls.engine < _LOCAL
        engine = np.where(local, calls.engine, 0)
        busy = np.where(local, np.rint(work * self._measured[engine, hour]), 0).astype(np.int64)
        for total, part in ((self._busy, busy), (self._work, work)):
            np.add.at(total, (engine[local], hour[local]), part[local])
        return busy

    def _note_spent(self, month: int, tenant: Ints, nusd: Ints) -> None:
        for number in range(len(mix.TENANTS)):
            key = (month, number)
            self._spent[key] = self._spent.get(key, 0) + int(nusd[tenant == number].sum())

    def _conversation_rows(
        self, talks: Talks, traffic: Traffic, ids: list[str], last_ms: Ints, sums: dict[str, Any], energy: Ints
    ) -> Iterator[Table]:
        rng, count = self._rng, len(ids)
        total = {name: _summed(traffic.talk, sums[name], count) for name in ("hosted_nusd", "work_ns", "busy_ns")}
        failed = _summed(traffic.talk, traffic.status != turns.OK, count) > 0
        resolved = talks.luck < talks.chance - 0.3 * failed
        said = rng.random(count) < np.array([t.outcomes for t in mix.TENANTS])[talks.tenant]
        handed = ~resolved & (rng.random(count) < 0.58)
        said_ms = last_ms + (60_000 + rng.exponential(1_800_000, count)).astype(np.int64)
        silent = last_ms + _PRESUMED_AFTER_MS < self._until_ms
        state = np.where(said, np.where(resolved, 1, np.where(handed, 3, 2)), np.where(silent, 4, 0))
        state_ms = np.where(said, said_ms, np.where(silent, last_ms + _PRESUMED_AFTER_MS, talks.opened_ms))
        reopened = ((state == 1) | (state == 4)) & (talks.turns > 2) & (rng.random(count) < 0.05)
        answer = traffic.status == turns.OK
        answered = np.full(count, -1)
        answered[traffic.talk[answer]] = traffic.route[answer]
        escalated = _summed(traffic.talk, traffic.escalated, count) > 0
        states = ("open", "resolved", "unresolved", "handed_to_human", "presumed_resolved")
        tenant_ids = _named([t.id for t in mix.TENANTS], talks.tenant)
        keys = _named([key_of(t.id) for t in mix.TENANTS], talks.tenant)
        columns = (
            tenant_ids,
            ids,
            keys,
            _named([name for name, _ in mix.CHANNELS], talks.channel),
            _named([one.tag for one in mix.LANGUAGES], talks.language),
            _named([i.name for i in mix.INTENTS], talks.intent),
            _named([i.value_class for i in mix.INTENTS], talks.intent),
            [None] * count,
            talks.opened_ms.tolist(),
            last_ms.tolist(),
            _named(states, state),
            state_ms.tolist(),
            reopened.astype(int).tolist(),
            np.bincount(traffic.talk, minlength=count).tolist(),
            _named([*ROUTES, None], answered),
            escalated.tolist(),
            total["hosted_nusd"].tolist(),
            _summed(traffic.talk, energy, count).tolist(),
            total["work_ns"].tolist(),
            total["busy_ns"].tolist(),
        )
        yield _table("conversations", _CONVERSATION, columns)
        csat = np.where(
            rng.random(count) < 0.2, np.where(resolved, rng.integers(3, 6, count), rng.integers(1, 4, count)), 0
        )
        yield self._outcomes(tenant_ids, ids, keys, state.tolist(), state_ms, reopened.tolist(), csat.tolist(), last_ms)

    def _outcomes(
        self,
        tenant_ids: list[Any],
        ids: list[str],
        keys: list[Any],
        states: list[int],
        state_ms: Ints,
        reopened: list[bool],
        csat: list[int],
        last_ms: Ints,
    ) -> Table:
        rows: list[tuple[Any, ...]] = []
        names = _ids(self._rng, "out", state_ms)
        for n, (state, at, again) in enumerate(zip(states, state_ms.tolist(), reopened, strict=True)):
            if state == 0:
                continue
            whose = (tenant_ids[n], ids[n])
            if again:  # it was taken for resolved once before
                before = int(last_ms[n]) - 9_000
                rows.append((names[n] + "a", *whose, before, "api", keys[n], True, None, None, None))
                rows.append((names[n] + "b", *whose, before + 4_000, "reopened", keys[n], None, None, None, None))
            if state == 4:
                rows.append((names[n], *whose, at, "silence", None, None, None, None, None))
            else:
                rows.append(
                    (names[n], *whose, at, "api", keys[n], state == 1, state == 3 or None, csat[n] or None, None)
                )
        return "outcomes", tuple(_OUTCOME.split()), rows


def _columns(calls: Calls, hosted: Ints, work: Ints, busy: Ints) -> list[tuple[str, Any]]:
    return [
        ("prompt_tokens", calls.prompt), ("cached_tokens", calls.cached), ("completion_tokens", calls.completion),
        ("audio_s", calls.audio_s), ("hosted_nusd", hosted), ("work_ns", work), ("busy_ns", busy),
    ]  # fmt: skip


def _request_table(
    talks: Talks,
    traffic: Traffic,
    ids: list[str],
    talk_ids: list[str],
    finished_ms: Ints,
    month: int,
    sums: dict[str, Any],
    energy: Ints,
) -> Table:
    count, tenant = len(ids), talks.tenant[traffic.talk]
    talk_names = np.array(talk_ids, dtype=object)
    status = traffic.status
    columns = (
        ids,
        _named([t.id for t in mix.TENANTS], tenant),
        _named([key_of(t.id) for t in mix.TENANTS], tenant),
        _named(["chat.completions", "audio.transcriptions"], traffic.audio.astype(int)),
        _named(["default", "whisper-1"], traffic.audio.astype(int)),
        (~traffic.audio).tolist(),
        traffic.at_ms.tolist(),
        _named(STATUSES, status),
        _named([_HTTP[name] for name in STATUSES], status),
        _named([_ERROR[name] for name in STATUSES], status),
        traffic.total_ms.tolist(),
        _without_nan(traffic.ttft_ms),
        finished_ms.tolist(),
        talk_names[traffic.talk].tolist(),
        ["gw_demo"] * count,
        [month] * count,
        [0] * count,
        _named(ROUTES, traffic.route),
        _named(REASONS, traffic.reason),
        traffic.escalated.tolist(),
        *(sums[name].tolist() for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
        sums["audio_s"].round(3).tolist(),
        sums["hosted_nusd"].tolist(),
        energy.tolist(),
        sums["work_ns"].tolist(),
        sums["busy_ns"].tolist(),
    )
    return _table("requests", _REQUEST, columns)


def _attempt_table(traffic: Traffic, ids: list[str]) -> Table:
    """The first attempt of all, and the hosted one of those that escalated; in order of request."""
    names, again = np.array(ids, dtype=object), np.flatnonzero(traffic.escalated)
    order = np.argsort(np.concatenate([np.arange(len(ids)), again + 0.5]), kind="stable")
    first = (traffic.first, traffic.first_reason, traffic.first_total_ms)
    second = (traffic.route[again], traffic.reason[again], (traffic.total_ms - traffic.first_total_ms)[again].clip(1))
    route, reason, total_ms = (np.concatenate(pair)[order] for pair in zip(first, second, strict=True))
    # an answer that was not good enough came in full: its attempt is ok, and the next one's reason says what it lacked
    status = np.concatenate([traffic.status, traffic.status[again]])[order]
    engine = np.where(route == turns.HOSTED, turns.CLOUD, turns.CHAT)
    audio = np.concatenate([traffic.audio, np.zeros(len(again), np.bool_)])[order]
    engine = np.where(audio, turns.TRANSCRIBE, engine)
    columns = (
        np.concatenate([names, names[again]])[order].tolist(),
        np.concatenate([np.zeros(len(ids), np.int64), np.ones(len(again), np.int64)])[order].tolist(),
        _named(ENGINES, engine),
        _named(MODELS, engine),
        _named(ROUTES, route),
        _named(REASONS, reason),
        _named(STATUSES, status),
        _named([_ERROR[name] for name in STATUSES], status),
        total_ms.round(1).tolist(),
    )
    return _table("attempts", _ATTEMPT, columns)


def _call_table(traffic: Traffic, calls: Calls, ids: list[str], hosted: Ints, work: Ints) -> Table:
    count = len(calls.request)
    status = traffic.status[calls.request]
    columns = (
        np.array(ids, dtype=object)[calls.request].tolist(),
        calls.attempt.tolist(),
        calls.ordinal.tolist(),
        _named(ENGINES, calls.engine),
        _named(MODELS, calls.engine),
        _named(STATUSES, status),
        calls.prompt.tolist(),
        calls.cached.tolist(),
        calls.completion.tolist(),
        calls.audio_s.tolist(),
        _named(["stop", None, None], status),
        _without_nan(np.where(calls.engine == turns.TRANSLATE, np.nan, traffic.ttft_ms[calls.request])),
        traffic.total_ms[calls.request].tolist(),
        [0] * count,
        calls.characters.tolist(),
        _named(["local", "local", "local", mix.PROVIDER], calls.engine),
        hosted.tolist(),
        work.tolist(),
    )
    return _table("calls", _CALL, columns)


def _work_ns(calls: Calls) -> Ints:
    """By the coefficients; nothing for hosted calls."""
    total = np.zeros(len(calls.request))
    for number, engine in enumerate(mix.ENGINES):
        own = (
            (calls.prompt - calls.cached) * engine.prompt_token_ns
            + calls.completion * engine.completion_token_ns
            + calls.audio_s * engine.audio_s_ns
            + calls.characters * engine.character_ns
        )
        total = np.where(calls.engine == number, own, total)
    return np.rint(total).astype(np.int64)


def _hosted_nusd(calls: Calls) -> Ints:
    """What the provider charges, exact: each price is whole nano-dollars a token."""
    per_token = {unit: int(Decimal(standard) * 1000) for unit, (standard, _) in mix.PRICES.items()}
    nusd = (
        (calls.prompt - calls.cached) * per_token["prompt_token"]
        + calls.cached * per_token["cached_token"]
        + calls.completion * per_token["completion_token"]
    )
    return np.where(calls.engine == turns.CLOUD, nusd, 0)


def _energy_nusd_per_ns() -> float:
    usd_per_kwh = Decimal(str(mix.SERVER["tariff_inr_per_kwh"])) / Decimal(str(mix.SERVER["inr_per_usd"]))
    kwh_nusd = to_nusd(usd_per_kwh * int(str(mix.SERVER["busy_w"])) / 1000)
    return kwh_nusd / (HOUR_MS * 1e6)


def _summed(group: Ints, values: Any, count: int) -> Any:
    """Sums of ``values`` by group, whole ones exact below 2⁵³."""
    total = np.bincount(group, weights=values, minlength=count)
    return total if np.asarray(values).dtype == np.float64 else total.astype(np.int64)


def _named(names: Sequence[Any], codes: Any) -> list[Any]:
    found: list[Any] = np.array([*names], dtype=object)[codes].tolist()
    return found


def _without_nan(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _ids(rng: np.random.Generator, prefix: str, at_ms: Ints) -> list[str]:
    digits = rng.bytes(8 * len(at_ms)).hex()
    return [f"{prefix}_{ms:012x}{digits[16 * n : 16 * n + 16]}" for n, ms in enumerate(at_ms.tolist())]


def _table(name: str, fields: str, columns: tuple[list[Any], ...]) -> Table:
    return name, tuple(fields.split()), list(zip(*columns, strict=True))
