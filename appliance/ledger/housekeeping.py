"""What runs by itself: silence, retention, kept answers, reconciliation; once a minute, by exactly one gateway.

What it is: jobs with a lease in the ledger, run in a thread of whichever gateway gets it first.
What it refuses to be: in a request's way. It has its own connection, writes in small transactions, and loads
SQLAlchemy only when the first job is due.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import LedgerUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

_EVERY_S = 60.0
_LEASE_MS = 15 * 60 * 1000
_MINUTE_MS = 60_000
_log = logging.getLogger("appliance.ledger")

# name -> how often, in milliseconds
_JOBS = {
    "answers": _MINUTE_MS,
    "silence": 15 * _MINUTE_MS,
    "reconcile": 15 * _MINUTE_MS,
    "retention": 1440 * _MINUTE_MS,
}


class Housekeeper:
    """``start`` and ``close`` with the gateway."""

    def __init__(self, where: Path | str, timezone: str, clock: Callable[[], float]) -> None:
        self._where = where
        self._timezone = timezone
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin; the first round comes a minute later."""
        self._thread.start()

    def close(self) -> None:
        """End after the job that is running."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self.round()
            except LedgerUnavailable as e:
                _log.warning("housekeeping waits: %s", e.message)
            except Exception:  # it must outlive any fault of ours
                _log.exception("housekeeping failed; trying again in a minute")

    def round(self) -> list[str]:
        """Run what is due and not run by another gateway. Returns the names of the jobs it ran."""
        from appliance.ledger.core import engine

        made = engine(self._where)
        ran = []
        try:
            for name, every_ms in _JOBS.items():
                if not self._stop.is_set() and self._lease(made, name, every_ms) and self._ran(made, name):
                    ran.append(name)
        finally:
            made.dispose()
        return ran

    def _ran(self, made: Engine, name: str) -> bool:
        """Whether it went well. A job that fails holds up no other; it is due again when its lease ends."""
        try:
            self._done(made, name, _do(made, name, self._now_ms()))
        except Exception as e:
            _log.exception("the job %s failed; trying again in %d minutes", name, _LEASE_MS // _MINUTE_MS)
            self._failed(made, name, f"failed ({type(e).__name__}); the gateway's log says why")
            return False
        return True

    def _failed(self, made: Engine, name: str, detail: str) -> None:
        from sqlalchemy import update

        from appliance.ledger.core import transaction
        from appliance.ledger.schema import jobs

        with transaction(made) as connection:
            connection.execute(update(jobs).where(jobs.c.name == name).values(detail=detail))

    def _lease(self, made: Engine, name: str, every_ms: int) -> bool:
        """Take the job if it is due and nobody has it."""
        from sqlalchemy import or_, update

        from appliance.ledger.core import transaction
        from appliance.ledger.schema import jobs

        now_ms = self._now_ms()
        with transaction(made) as connection:
            _make(connection, name)
            # a ran_ms ahead of now is a clock that went back: the job is due
            due = or_(jobs.c.ran_ms.is_(None), jobs.c.ran_ms <= now_ms - every_ms, jobs.c.ran_ms > now_ms)
            free = or_(jobs.c.lease_until_ms <= now_ms, jobs.c.lease_until_ms > now_ms + _LEASE_MS)
            take = update(jobs).where(jobs.c.name == name, due, free).values(lease_until_ms=now_ms + _LEASE_MS)
            return connection.execute(take).rowcount == 1

    def _done(self, made: Engine, name: str, detail: str) -> None:
        from sqlalchemy import update

        from appliance.ledger.core import transaction
        from appliance.ledger.schema import jobs

        with transaction(made) as connection:
            values = {"ran_ms": self._now_ms(), "lease_until_ms": 0, "detail": detail}
            connection.execute(update(jobs).where(jobs.c.name == name).values(**values))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _make(connection: object, name: str) -> None:
    from sqlalchemy import Connection, text

    assert isinstance(connection, Connection)
    connection.execute(text("INSERT INTO jobs (name) VALUES (:name) ON CONFLICT (name) DO NOTHING"), {"name": name})


def _do(made: Engine, name: str, now_ms: int) -> str:
    from appliance.ledger.reconcile import reconcile
    from appliance.ledger.stores import retention, silence

    if name == "answers":
        return f"{retention.expire_answers(made, now_ms)} kept answers expired"
    if name == "silence":
        return f"{silence.presume(made, now_ms)} conversations presumed resolved"
    if name == "reconcile":
        return f"{reconcile(made, now_ms)} engine-hours shared out"
    gone = retention.run(made, now_ms)
    return (
        f"deleted: {gone.texts} texts, {gone.translations} translations, {gone.threads} histories,"
        f" {gone.details} requests' details"
    )
