"""kill -9 of the gateway at random under load: every answered request is in the ledger exactly once, and the caps and
reservations are right afterwards. Five rounds on each database here; ``make soak`` kills fifty times.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.ledgers import PATIENCE_S, Callers, Gateway, check, fake_engine, gone, prepared, rounds, soon_reaped
from contract.stack import FakeProcess
from ledger.conftest import Look, postgres_server
from ledger.postgres_server import PostgresServer
from support import wait_until

__all__ = ["postgres_server"]  # the fixture


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProcess]:
    with fake_engine() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> Iterator[Path | str]:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield server.create()
        return
    with tempfile.TemporaryDirectory(prefix="ap-") as home:  # short: a socket lies below it
        yield Path(home, "ledger.db")


def test_no_answered_request_is_lost_or_counted_twice(where: Path | str, fake: FakeProcess) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")  # shown where it fails
    chance = random.Random(seed)
    secret = prepared(where, cap_nusd=10**15)
    gateway = Gateway(fake, where)
    look = Look(where)
    answered: list[str] = []
    for _ in range(rounds(5)):
        callers = Callers(gateway.port, secret)
        wait_until(lambda callers=callers: len(callers.answered) >= 20, PATIENCE_S, "some are answered")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))  # the moment is the test
        gateway.kill()
        callers.join()
        assert not callers.refused
        answered += callers.answered
        wait_until(lambda: gone(look), PATIENCE_S, "nothing of it is left in the server")
        check(look, answered, open_left=True)
        soon_reaped(look)
        gateway.start()
        counts = check(look, answered)
    assert set(counts) <= {"ok", "lost", "cancelled"}
    assert gateway.ask(secret).status_code == 200
    gateway.stop()
    look.db.close()
