"""kill -9 of the gateway under load: no answered request is missing from the ledger."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from contract.stack import Stack
from support import wait_until

CALLERS = 8
ANSWERS = 400


@pytest.fixture
def doomed() -> Iterator[Stack]:
    """A stack of its own: its gateway dies."""
    running = Stack()
    yield running
    running.stop()


class Callers:
    """Threads that ask, streamed and not in turn, and note the id of each answer they have read whole."""

    def __init__(self, stack: Stack) -> None:
        self.answered: list[str] = []
        self._stack = stack
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.port, timeout=10)
        headers = {"authorization": f"Bearer {self._stack.key}", "content-type": "application/json"}
        question = {"model": "fake", "messages": [{"role": "user", "content": "hello"}], "stream": number % 2 == 0}
        with closing(connection):
            while True:
                try:
                    connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
                    response = connection.getresponse()
                    body = response.read()
                except (OSError, http.client.HTTPException):
                    return
                assert response.status == 200
                # a stream without its closing event was not answered
                if not question["stream"] or body.endswith(b"data: [DONE]\n\n"):
                    self.answered.append(response.headers["x-request-id"])

    def join(self) -> None:
        """Wait until all have noticed that the gateway is gone."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


def test_no_answered_request_is_lost(doomed: Stack) -> None:
    callers = Callers(doomed)
    wait_until(lambda: len(callers.answered) >= ANSWERS, 60, f"{ANSWERS} requests are answered")
    doomed.gateway.kill()
    doomed.gateway.wait()
    callers.join()
    with closing(sqlite3.connect(doomed.home / "ledger.db")) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        settled = {row[0] for row in ledger.execute("SELECT id FROM requests WHERE status = 'ok'")}
        called = {row[0] for row in ledger.execute("SELECT request_id FROM calls WHERE status = 'ok'")}
        opened = {row[0] for row in ledger.execute("SELECT id FROM requests WHERE status = 'open'")}
    assert set(callers.answered) <= settled
    assert set(callers.answered) <= called
    assert len(callers.answered) == len(set(callers.answered))
    doomed.start_gateway()
    assert doomed.rows("SELECT id FROM requests WHERE status = 'open'") == []
    assert {row["id"] for row in doomed.rows("SELECT id FROM requests WHERE status = 'lost'")} == opened
    assert doomed.ask("hello").status_code in (200, 503)
