"""The first admin key: made once, when a ledger has none, and written to a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.ledger.db import connect
from appliance.ledger.sqlite import not_writable
from appliance.ledger.upgrade import prepare

_HAS_ADMIN = (
    "SELECT 1 FROM keys WHERE role = 'admin' AND revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > ?) LIMIT 1"
)


def ensure_admin_key(
    where: Path | str, secret_path: Path, clock: Callable[[], float] = time.time
) -> tuple[bool, str | None]:
    """On the first start make the admin key and its file: ``(True, secret)``; otherwise ``(False, None)``.

    A deleted file is not a reason to make another: only that no admin key is left that opens anything. Raises
    LedgerUnavailable.
    """
    prepare(where, clock)
    db = connect(where)
    try:
        # every start but the first ends here, without a lock and without SQLAlchemy
        if db.query(_HAS_ADMIN, (int(clock() * 1000),)):
            return False, None
    finally:
        db.close()
    from appliance.ledger.core import engine
    from appliance.ledger.stores import keys
    from appliance.ledger.stores.changes import Actor

    made = engine(where)
    try:
        secret = keys.create_admin(
            made, Actor("appliance", clock), lambda text: _write_private(secret_path, text + "\n")
        )
    finally:
        made.dispose()
    return secret is not None, secret


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically by a durable file of mode 0600. Raises LedgerUnavailable."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
    except OSError as e:
        raise not_writable(path.name, e) from e
