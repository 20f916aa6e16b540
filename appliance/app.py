"""The ASGI application factory, and the process that serves it.

What it is: ``create_app(settings)`` builds the rooms once and wires the routes; ``serve_gateway(settings)``
runs it under uvicorn on one event loop.
What it refuses to be: a model runtime. Nothing imported from here pulls torch, vllm or ctranslate2.
What it costs: see ``make bench-gateway``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from appliance.api.audio import transcription_route
from appliance.api.completions import completion_route
from appliance.api.control import ControlServer
from appliance.api.http import Endpoint
from appliance.api.params import parse_chat, parse_completions
from appliance.api.refusals import refusal_for
from appliance.api.service import Service
from appliance.api.status import StatusRoutes, live
from appliance.engines.registry import check_attached
from appliance.errors import ApplianceError, MethodNotAllowed, NotFound
from appliance.ledger import Ledger, ensure_admin_key
from appliance.settings import Settings, SettingsError

_CHAT = "/v1/chat/completions"
_COMPLETIONS = "/v1/completions"
_TRANSCRIPTIONS = "/v1/audio/transcriptions"


def _routes(service: Service) -> list[Route]:
    status = StatusRoutes(service)
    table = [
        # the first routes are matched first, so the busiest come first
        ("POST", _CHAT, completion_route(service, "chat.completions", _CHAT, parse_chat)),
        ("POST", _COMPLETIONS, completion_route(service, "completions", _COMPLETIONS, parse_completions)),
        ("POST", _TRANSCRIPTIONS, transcription_route(service)),
        ("GET", "/health/live", live),
        ("GET", "/health/ready", status.ready),
        ("GET", "/metrics", status.metrics),
        ("GET", "/v1/models", status.models),
        ("GET", "/v1/models/{model:path}", status.model),
    ]
    return [
        Route(path, Endpoint(path, handler, service.metrics, service.new_id), methods=[method])
        for method, path, handler in table
    ]


async def _outside_the_routes(request: HttpRequest, error: Exception) -> HttpResponse:
    """404, 405 and 501 in the envelope."""
    path, method = request.url.path, request.method
    status = error.status_code if isinstance(error, HTTPException) else 500
    ours: ApplianceError
    if (refusal := refusal_for(method, path)) is not None:
        ours = refusal
    elif status == 405:
        ours = MethodNotAllowed(f"{path} does not take {method}")
        ours.headers.update(getattr(error, "headers", None) or {})
    else:
        ours = NotFound(f"no such route: {method} {path[:200]}; see docs/api.md for the routes there are")
    service: Service = request.app.state.service
    service.metrics.request("other", ours.status, 0.0)
    service.metrics.error("other", ours.code)
    headers = {**ours.headers, "content-type": "application/json", "x-request-id": service.new_id()}
    return HttpResponse(ours.envelope(), ours.status, headers)


def create_app(settings: Settings) -> Starlette:
    """The application over ``settings``. Opens the ledger at once; sockets and tasks wait for the lifespan.

    Raises what ``Ledger.open`` raises when the ledger cannot be used.
    """
    # benchmarks measure a customer's disk with this; 0 in every other run
    delay_s = float(os.environ.get("APPLIANCE_BENCH_COMMIT_DELAY_MS", "0")) / 1000.0
    ledger = Ledger.open(settings.ledger_path, clock=time.time, commit_delay_s=delay_s)
    service = Service(settings, ledger, time.time, time.monotonic)
    control = ControlServer(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ledger.start(asyncio.get_running_loop())
        service.registry.start()
        await control.start()
        gc.collect()
        gc.freeze()  # what start-up built stays; collections on the hot path need not walk it
        yield
        await control.close()
        await service.registry.close()
        await asyncio.to_thread(ledger.close)

    app = Starlette(
        routes=_routes(service),
        lifespan=lifespan,
        exception_handlers={HTTPException: _outside_the_routes},
    )
    app.state.service = service
    app.router.redirect_slashes = False  # a redirect is no envelope, and behind TLS it would point at http
    return app


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError with a sentence in ``strerror``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise OSError(
            e.errno,
            f"cannot listen on {host}:{port} ({e.strerror}); set APPLIANCE_HOST and APPLIANCE_PORT to a free one",
        ) from None
    listener.listen(2048)
    return listener


def _allow_many_sockets() -> None:
    """A request in flight needs two descriptors; the usual soft limit of 1,024 is fewer than 1,024 requests do."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announce_admin_key(settings: Settings) -> None:
    created, secret = ensure_admin_key(settings.ledger_path, settings.admin_key_path)
    if created:
        print(f"admin key written to {settings.admin_key_path} (mode 0600)", flush=True)
        if sys.stdout.isatty():
            print(f"admin key (shown once): {secret}", flush=True)


def serve_gateway(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; in-flight requests get ``server.drain_s`` seconds. Returns the exit code."""
    server = settings.server
    _allow_many_sockets()
    try:
        check_attached(settings)
    except SettingsError as e:
        print(f"error: {e}", file=sys.stderr)
        return 64
    try:
        listener = bind(server.host, server.port)
    except OSError as e:
        print(f"error: {e.strerror}", file=sys.stderr)
        return 1
    try:
        _announce_admin_key(settings)
        app = create_app(settings)
    except ApplianceError as e:
        print(f"error: {e.message}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(server.drain_s)),
    )
    instance = uvicorn.Server(config)
    # uvicorn raises the signal again when it has drained, and before it listens to signals itself:
    # either way being asked to stop is no failure
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    instance.run(sockets=[listener])
    return 0 if instance.started else 1
