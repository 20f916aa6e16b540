"""``run/control.sock``: how the command line talks to a running appliance.

What it is: one JSON object a line each way, on a socket only its owner can open (0600, in a 0700
directory). ``{"op": "keys.create", "name": "web"}`` gives ``{"ok": true, …}`` or ``{"ok": false, "error": …}``.
What it refuses to be: reachable over the network, or a second HTTP surface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.api.service import Service
from appliance.api.status import engines_report
from appliance.errors import ApplianceError
from appliance.ledger import KeyStore

_LINE_LIMIT_BYTES = 64 * 1024
_KEY_SEEN_WITHIN_S = 1.0
_log = logging.getLogger("appliance.control")


class ControlServer:
    """Answers operations until closed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._path = service.settings.run / "control.sock"
        self._server: asyncio.Server | None = None
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "keys.create": self._keys_create,
            "keys.list": self._keys_list,
            "keys.revoke": self._keys_revoke,
        }

    async def start(self) -> None:
        """Listen. A socket that a dead gateway left behind is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=_LINE_LIMIT_BYTES)
        finally:
            os.umask(old)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # ValueError: a line over the limit
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(line, type=dict[str, Any])
            operation = self._operations.get(str(message.get("op")))
            if operation is None:
                known = ", ".join(sorted(self._operations))
                return {"ok": False, "error": f"unknown operation {message.get('op')!r}; known: {known}"}
            # in a thread: these open the ledger, which may wait for a lock
            return {"ok": True, **await asyncio.to_thread(operation, message)}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {"ok": False, "error": "send one JSON object a line"}
        except ApplianceError as e:
            return {"ok": False, "error": e.message}
        except (KeyError, ValueError, LookupError) as e:
            return {"ok": False, "error": str(e.args[0] if e.args else e)}
        except Exception as e:
            _log.exception("a control operation failed")
            return {"ok": False, "error": f"the operation failed inside the gateway ({type(e).__name__}); see its log"}

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        ready, engines = engines_report(self._service)
        return {"ready": ready, "engines": engines, "pid": os.getpid()}

    def _store(self) -> KeyStore:
        return KeyStore.open(Path(self._service.settings.ledger_path))

    def _keys_create(self, message: dict[str, Any]) -> dict[str, Any]:
        with contextlib.closing(self._store()) as store:
            key, secret = store.create(str(message["name"]), message.get("role", "client"))
        # the ledger's thread looks for new keys a few times a second; whoever reads the secret may use it at once
        give_up = time.monotonic() + _KEY_SEEN_WITHIN_S
        while self._service.ledger.authenticate(secret) is None and time.monotonic() < give_up:
            time.sleep(0.01)
        return {"id": key.id, "name": key.name, "role": key.role, "secret": secret}

    def _keys_list(self, _: dict[str, Any]) -> dict[str, Any]:
        with contextlib.closing(self._store()) as store:
            return {"keys": [msgspec.to_builtins(info) for info in store.list()]}

    def _keys_revoke(self, message: dict[str, Any]) -> dict[str, Any]:
        with contextlib.closing(self._store()) as store:
            store.revoke(str(message["id"]))
        return {"id": message["id"]}
