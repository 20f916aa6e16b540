"""The first admin key: made once, and again only where none is left that opens anything."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import update

from appliance.ledger import Ledger, ensure_admin_key
from appliance.ledger.core import engine
from appliance.ledger.schema import keys as table
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
from appliance.ledger.upgrade import prepare

NOW_S = 1_700_000_000.0


def test_a_live_one_is_enough(where: Any, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    made, secret = ensure_admin_key(where, file)
    assert made and secret == file.read_text().strip()
    file.unlink()
    assert ensure_admin_key(where, file) == (False, None)
    assert not file.exists()


def test_of_several_boxes_that_start_at_once_one_makes_it(where: Any, tmp_path: Path) -> None:
    prepare(where)
    together = threading.Barrier(6)

    def start(number: int) -> bool:
        together.wait(30)
        return ensure_admin_key(where, tmp_path / f"admin-{number}.key")[0]

    with ThreadPoolExecutor(6) as boxes:
        made = list(boxes.map(start, range(6)))
    assert made.count(True) == 1
    assert [path.name for path in tmp_path.glob("admin-*.key")] == [f"admin-{made.index(True)}.key"]


def test_one_that_expired_is_none(where: Any, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    ensure_admin_key(where, file, lambda: NOW_S)
    opened = engine(where)
    with opened.begin() as connection:
        connection.execute(update(table).where(table.c.role == "admin").values(expires_ms=int(NOW_S * 1000) + 10))
    assert ensure_admin_key(where, file, lambda: NOW_S) == (False, None)
    made, secret = ensure_admin_key(where, file, lambda: NOW_S + 0.01)
    assert made and secret == file.read_text().strip()
    assert [k.name for k in keys.listed(opened) if k.role == "admin"] == ["admin", "admin-2"]
    ledger = Ledger.open(where, clock=lambda: NOW_S + 0.01)
    found = ledger.authenticate(str(secret))
    assert found is not None and found.name == "admin-2"
    ledger.close()
    # a client's key is no admin's
    keys.revoke(opened, Actor("test"), next(k.id for k in keys.listed(opened) if k.name == "admin-2"))
    assert ensure_admin_key(where, file, lambda: NOW_S + 0.01)[0]
    opened.dispose()
