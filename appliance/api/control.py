"""``run/control.sock``: how the command line talks to a running gateway.

What it is: the gateway's operations on ``jsonlines``' loop; each runs in a thread, because some of them wait.
What it refuses to be: reachable over the network, or a second HTTP surface.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from appliance.api.reload import reload
from appliance.api.service import Service
from appliance.api.status import engines_report
from appliance.errors import ApplianceError
from appliance.jsonlines import LineServer, Message
from appliance.settings import SettingsError

_SEEN_WITHIN_S = 1.0
_log = logging.getLogger("appliance.control")


class ControlServer:
    """Answers operations until closed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        path = service.settings.run / "control.sock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        operations = {"status": _threaded(self._status), "ledger.seen": _threaded(self._ledger_seen)}
        # on the loop: what they change or read is the loop's
        on_loop = {"reload": self._reload, "policy.live": self._policy_live}
        self._server = LineServer(path, {**operations, **on_loop}, _explain)

    async def start(self) -> None:
        """Listen. A socket that a dead gateway left behind is replaced."""
        await self._server.start()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._server.close()

    def _status(self, _: Message) -> Mapping[str, Any]:
        ready, engines = engines_report(self._service)
        service = self._service
        return {
            "ready": ready,
            "draining": service.draining,
            "engines": engines,
            "pid": os.getpid(),
            "running": service.running,
            "since_unix_s": service.since_unix_s,
            "policy": service.policing.report(),
        }

    def _reload(self, _: Message) -> Mapping[str, Any]:
        return reload(self._service, os.environ)

    def _policy_live(self, _: Message) -> Mapping[str, Any]:
        """What decides and is in no file: how busy each engine is (``appliance policy explain``)."""
        now_s = self._service.monotonic()
        entries = self._service.registry.entries
        return {"engines": {name: msgspec.to_builtins(entry.load(now_s)) for name, entry in entries.items()}}

    def _ledger_seen(self, message: Message) -> Mapping[str, Any]:
        """Wait until the gateway has in memory what the ledger's ``version`` holds: a new key works at once."""
        version = int(message["version"])
        give_up = time.monotonic() + _SEEN_WITHIN_S
        while self._service.ledger.version < version and time.monotonic() < give_up:
            time.sleep(0.01)
        return {"version": self._service.ledger.version}


def _threaded(operation: Callable[[Message], Mapping[str, Any]]) -> Callable[[Message], Awaitable[Mapping[str, Any]]]:
    return lambda message: asyncio.to_thread(operation, message)


def _explain(error: Exception) -> str:
    if isinstance(error, ApplianceError):
        return error.message
    if isinstance(error, SettingsError):
        return str(error)
    if isinstance(error, KeyError | ValueError | LookupError):
        return str(error.args[0] if error.args else error)
    _log.error("a control operation failed", exc_info=error)
    return f"the operation failed inside the gateway ({type(error).__name__}); see its log"
