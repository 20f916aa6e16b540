"""``/health/live``, ``/health/ready``, ``/metrics``, ``/v1/models``.

What it is: what load balancers, Prometheus and clients' model pickers read.
What it refuses to be: a liveness check of engines; live means that this process answers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.api import auth
from appliance.api.http import Exchange
from appliance.api.service import Service
from appliance.types import Key

# clients compare the ids, and Open WebUI caches by this field: it must not change between calls
_CREATED_UNIX_S = 1_764_547_200


async def live(exchange: Exchange) -> None:
    """200 while the event loop turns."""
    await exchange.respond(200, b'{"status":"ok"}')


def engines_report(service: Service) -> tuple[bool, dict[str, Any]]:
    """Whether every configured engine takes requests, and each one's state with its reason."""
    report: dict[str, Any] = {}
    for name, engine in service.settings.engines.items():
        entry = service.registry.entries.get(name)
        if entry is None:
            report[name] = {"ready": False, "phase": "starting", "detail": "has not reported yet", "models": []}
            if engine.model is not None:
                report[name]["models"] = [engine.model]
        else:
            state = entry.state
            ready = state.phase == "ready"
            report[name] = {"ready": ready, "phase": state.phase, "detail": state.detail, "models": state.models}
            report[name]["in_flight"] = entry.in_flight
            if state.exit:
                report[name]["exit"] = state.exit
    return all(e["ready"] for e in report.values()), report


def reasons(report: dict[str, Any], draining: bool) -> list[str]:
    """Why not everything is ready, a sentence each. Without paths or addresses: anybody may read these."""
    found = ["the appliance is stopping and takes no new requests"] if draining else []
    for name, engine in report.items():
        if not engine["ready"]:
            because = f" ({engine['exit'].replace('_', ' ')})" if engine.get("exit") else ""
            found.append(f"engine {name} is {engine['phase']}{because}")
    return found


class StatusRoutes:
    """Handlers over one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ready(self, exchange: Exchange) -> None:
        """200 when every engine takes requests, else 503. Details hold paths and addresses, so operators only."""
        ready, engines = engines_report(self._service)
        draining = self._service.draining
        why = reasons(engines, draining)
        ready = ready and not draining
        if not auth.is_operator(exchange, self._service.ledger):
            for engine in engines.values():
                engine.pop("detail", None)
                engine.pop("in_flight", None)
        body = msgspec.json.encode({"status": "ready" if ready else "not_ready", "reasons": why, "engines": engines})
        await exchange.respond(200 if ready else 503, body)

    async def metrics(self, exchange: Exchange) -> None:
        """Prometheus text, to operators: volumes and engine names are nobody else's."""
        auth.require_operator(exchange, self._service.ledger)
        for name, entry in self._service.registry.entries.items():
            self._service.metrics.engine(name, entry.state.phase == "ready", entry.in_flight)
        text = self._service.metrics.render()
        await exchange.respond(200, text, b"text/plain; version=0.0.4; charset=utf-8")

    def _cards(self, key: Key) -> dict[str, dict[str, Any]]:
        registry = self._service.registry
        context = {m: e.state.context_tokens for e in registry.entries.values() for m in e.state.models}
        cards: dict[str, dict[str, Any]] = {}
        for name in self._service.names(key):
            cards[name] = {
                "id": name,
                "object": "model",
                "created": _CREATED_UNIX_S,
                "owned_by": "inference-appliance",
            }
            if tokens := context.get(registry.resolve(name), 0):
                cards[name]["max_model_len"] = tokens
        return cards

    async def models(self, exchange: Exchange) -> None:
        """The list, aliases included."""
        key = self._service.authenticate(exchange)
        await exchange.respond(200, msgspec.json.encode({"object": "list", "data": list(self._cards(key).values())}))

    async def model(self, exchange: Exchange) -> None:
        """One card. Raises NotFound."""
        key = self._service.authenticate(exchange)
        name = str(exchange.scope["path_params"]["model"])
        cards = self._cards(key)
        if name not in cards:
            raise self._service.unknown_model(name, key)
        await exchange.respond(200, msgspec.json.encode(cards[name]))
