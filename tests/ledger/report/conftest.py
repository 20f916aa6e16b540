"""A small simulated month in both databases, and a ledger whose every figure can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger.postgres_server import PostgresServer
from sqlalchemy import Engine, insert

from appliance.ledger.core import engine, transaction
from appliance.ledger.demo import fill
from appliance.ledger.schema import conversations, engine_hours, requests
from appliance.ledger.stores import keys, prices
from appliance.ledger.stores.changes import Actor
from appliance.ledger.upgrade import prepare

Where = Path | str
MONTH = 202610
START_MS = 1_790_793_000_000  # 2026-10-01 00:00 in Kolkata
END_MS = START_MS + 31 * 86_400_000
HOUR_MS = 3_600_000
NOW_MS = END_MS + 86_400_000


@pytest.fixture(scope="session")
def demo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "ledger.db"
    fill(path, MONTH, 800, seed=3)
    return path


@pytest.fixture(scope="session")
def demo_url(postgres_server: PostgresServer) -> str:
    url = postgres_server.create()
    fill(url, MONTH, 800, seed=3)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(request: pytest.FixtureRequest) -> Where:
    """The same simulated month in each of the two databases."""
    found: Where = request.getfixturevalue("demo_path" if request.param == "sqlite" else "demo_url")
    return found


class Book:
    """Writes rows as a gateway would have left them."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._talks: list[dict[str, Any]] = []
        self._requests: list[dict[str, Any]] = []
        self.engine: Engine = engine(where)
        self.actor = Actor("test", lambda: (START_MS - 1000) / 1000)
        self._number = 0
        self._key_id = keys.create(self.engine, self.actor, "web").key.id

    @property
    def where(self) -> Where:
        """The ledger, with everything that was said so far."""
        with transaction(self.engine) as connection:
            for table, rows in ((conversations, self._talks), (requests, self._requests)):
                for row in rows:
                    connection.execute(insert(table).values(**row))
                rows.clear()
        return self._where

    def talk(
        self, state: str, *, at_ms: int = START_MS + HOUR_MS, tokens: tuple[int, int, int] = (0, 0, 0), **fields: Any
    ) -> str:
        """A conversation of one request."""
        self._number += 1
        name = f"conv_{self._number}"
        route, reason = fields.pop("route", "local"), fields.pop("reason", "routine")
        money = {key: fields.get(key, 0) for key in ("hosted_nusd", "energy_nusd", "work_ns", "busy_ns")}
        row = {"channel": "web", "intent": "refund", "language": "hin_Deva", **fields}
        prompt, cached, completion = tokens
        self._talks.append(
            dict(
                tenant_id="default", id=name, key_id=self._key_id, opened_ms=at_ms, last_seen_ms=at_ms + 1000,
                state=state, state_ms=at_ms + 2000, answered_by=route, **row,
            )
        )  # fmt: skip
        self._requests.append(
            dict(
                id=f"req_{at_ms:012x}{self._number:016x}", tenant_id="default", key_id=self._key_id,
                endpoint="chat.completions", model="default", stream=True, at_ms=at_ms, status="ok", total_ms=900.0,
                ttft_ms=100.0 * self._number, finished_ms=at_ms + 900, conversation_id=name, route=route,
                reason=reason, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion, **money,
            )
        )  # fmt: skip
        return name

    def hour(
        self, busy_ns: int, hour_ms: int = START_MS - 1_800_000 + HOUR_MS, name: str = "chat", **fields: Any
    ) -> None:
        row = {"gateway_id": "gw_1", "up_ns": HOUR_MS * 1_000_000, "work_ns": 1, **fields}
        with transaction(self.engine) as connection:
            connection.execute(insert(engine_hours).values(engine=name, hour_ms=hour_ms, busy_ns=busy_ns, **row))

    def server(self, effective_ms: int = START_MS - 1, **fields: Any) -> None:
        """744 USD a month and nothing for power, unless told otherwise."""
        row = {
            "purchase_usd": "7440", "lifetime_months": 10, "upkeep_usd_per_month": "0", "busy_w": 0, "idle_w": 0,
            "tariff_inr_per_kwh": "10", "inr_per_usd": "80", **fields,
        }  # fmt: skip
        prices.set_server(self.engine, self.actor, effective_ms=effective_ms, **row)

    def price(self, model: str = "m1", **units: str) -> None:
        for unit, usd in units.items():
            prices.set_price(self.engine, self.actor, "google", model, unit, usd, effective_ms=START_MS - 1)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    path = tmp_path / "ledger.db"
    prepare(path)
    made = Book(path)
    yield made
    made.engine.dispose()
