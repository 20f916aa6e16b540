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
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance.api import admin
from appliance.api.audio import spoken_language_route, transcription_route
from appliance.api.audio_languages import audio_languages_route
from appliance.api.completions import completion_route
from appliance.api.control import ControlServer
from appliance.api.conversations import ConversationRoutes
from appliance.api.detect import detect_route
from appliance.api.handoff import handoff_route
from appliance.api.http import Endpoint
from appliance.api.jobs import PATH as JOBS
from appliance.api.jobs import JobRoutes
from appliance.api.openapi import openapi_route
from appliance.api.params import parse_chat, parse_completions
from appliance.api.refusals import refusal_for
from appliance.api.service import Service
from appliance.api.status import StatusRoutes, live
from appliance.api.translate import translate_route
from appliance.api.transliterate import transliterate_route
from appliance.engines.registry import check_attached
from appliance.errors import ApplianceError, MethodNotAllowed, NotFound
from appliance.ledger import Ledger, ensure_admin_key
from appliance.ledger.housekeeping import Housekeeper
from appliance.ledger.months import HOUR_MS
from appliance.logs import set_up
from appliance.networks import OutsideSite, Unresolved, local_ip, parse_networks
from appliance.notify import Notifier
from appliance.settings import Settings, SettingsError

if TYPE_CHECKING:
    from appliance.tracing import Tracing

_MEASURE_EVERY_S = 10.0
_LAST_MOMENTS_S = 1
_GC_THRESHOLDS = (10_000, 20, 20)
_CHAT = "/v1/chat/completions"
_COMPLETIONS = "/v1/completions"
_TRANSCRIPTIONS = "/v1/audio/transcriptions"


class Application(Starlette):
    """Starlette, which is asked only where a path has parameters or nobody answers it.

    Its middleware and its router cost 15 µs a request, and every route here handles its own errors.
    """

    fixed: Mapping[tuple[str, str], Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            endpoint = self.fixed.get((scope["method"], scope["path"]))
            if endpoint is not None:
                scope["path_params"] = {}
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def _routes(service: Service, traces: Tracing | None, jobs: JobRoutes) -> list[Route]:
    status = StatusRoutes(service)
    conversations = ConversationRoutes(service)
    job = "/v1/audio/transcriptions/jobs/{id}"
    table = [
        ("POST", _CHAT, completion_route(service, "chat.completions", _CHAT, parse_chat)),
        ("POST", _COMPLETIONS, completion_route(service, "completions", _COMPLETIONS, parse_completions)),
        ("POST", _TRANSCRIPTIONS, transcription_route(service)),
        ("POST", "/v1/audio/translations", transcription_route(service, "audio.translations")),
        ("POST", JOBS, jobs.create),
        ("GET", job, jobs.get),
        ("GET", f"{job}/result", jobs.result),
        ("DELETE", job, jobs.delete),
        ("POST", "/v1/audio/detect-language", spoken_language_route(service)),
        ("GET", "/v1/audio/languages", audio_languages_route(service)),
        ("POST", "/v1/detect-language", detect_route(service)),
        ("POST", "/v1/transliterate", transliterate_route(service)),
        ("POST", "/v1/translate", translate_route(service)),
        ("GET", "/health/live", live),
        ("GET", "/health/ready", status.ready),
        ("GET", "/metrics", status.metrics),
        ("GET", "/v1/models", status.models),
        ("GET", "/v1/models/{model:path}", status.model),
        ("POST", "/v1/conversations/{id}/outcome", conversations.outcome),
        ("POST", "/v1/conversations/{id}/handoff", handoff_route(service)),
        ("GET", "/v1/conversations/{id}", conversations.get),
        *((route.method, route.path, admin.endpoint(service, route)) for route in admin.ROUTES),
        ("GET", "/openapi.json", openapi_route()),
    ]
    routes = []
    for method, path, handler in table:
        endpoint: Any = Endpoint(path, handler, service.metrics, service.new_id)
        if traces is not None and path in (_CHAT, _COMPLETIONS, _TRANSCRIPTIONS):
            endpoint = _traced(endpoint, traces, path)
        routes.append(Route(path, endpoint, methods=[method]))
    return routes


def _open_traces(settings: Settings) -> Tracing | None:
    """The exporter where traces are on. Imported here: OpenTelemetry is 15 MB that the others do not pay for."""
    if settings.tracing.otlp_endpoint is None:
        return None
    from appliance.tracing import Tracing

    return Tracing.of(settings)


def _traced(endpoint: Any, traces: Tracing, path: str) -> Any:
    from appliance.tracing import Traced

    return Traced(endpoint, traces.tracer, path)


def _service(settings: Settings, ledger: Ledger, traces: Tracing | None) -> Service:
    if traces is None:
        return Service(settings, ledger, time.time, time.monotonic)
    from appliance.traced import TracedPipeline

    return Service(settings, ledger, time.time, time.monotonic, partial(TracedPipeline, traces.tracer))


async def _measure(service: Service) -> None:
    """Hand the engines' busy time to the ledger, often enough that an hour's edge costs a third of a percent."""
    while True:
        await asyncio.sleep(_MEASURE_EVERY_S)
        _note_busy(service)


def _note_busy(service: Service) -> None:
    hour_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS
    for engine, busy_ns, up_ns in service.registry.take_busy():
        service.ledger.busy(engine, hour_ms, busy_ns, up_ns)


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


def create_app(settings: Settings, notifier: Notifier | None = None) -> Application:
    """The application over ``settings``. Opens the ledger at once; sockets and tasks wait for the lifespan.

    ``notifier`` is told when it listens, and that it lives.

    Raises what ``Ledger.open`` raises when the ledger cannot be used.
    """
    # benchmarks measure a customer's disk with this; 0 in every other run
    delay_s = float(os.environ.get("APPLIANCE_BENCH_COMMIT_DELAY_MS", "0")) / 1000.0
    ledger = Ledger.open(
        settings.ledger_where, clock=time.time, commit_delay_s=delay_s, timezone=settings.site.timezone
    )
    traces = _open_traces(settings)
    service = _service(settings, ledger, traces)
    control = ControlServer(service)
    jobs = JobRoutes(service)
    manager = notifier or Notifier("", 0.0)
    housekeeper = Housekeeper(settings.ledger_where, settings.site.timezone, time.time)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ledger.start(asyncio.get_running_loop())
        service.registry.start()
        await control.start()
        await asyncio.to_thread(service.policing.look)
        measuring = asyncio.create_task(_measure(service))
        policing = asyncio.create_task(service.policing.watch())
        # the event loop's own progress: a gateway whose engines are loading, or gone, is alive
        feeding = asyncio.create_task(manager.feed(lambda: True))
        housekeeper.start()
        await jobs.runner.start()
        gc.collect()
        gc.freeze()  # what start-up built stays; collections on the hot path need not walk it
        manager.ready(f"listening; engines: {', '.join(settings.engines) or 'none'}")
        yield
        manager.stopping()
        feeding.cancel()
        await control.close()
        await jobs.runner.close()
        measuring.cancel()
        policing.cancel()
        await service.shadows.close()
        _note_busy(service)
        await service.registry.close()
        await asyncio.to_thread(housekeeper.close)
        await asyncio.to_thread(ledger.close)
        if traces is not None:
            await asyncio.to_thread(traces.close)

    routes = _routes(service, traces, jobs)
    app = Application(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _outside_the_routes},
    )
    app.fixed = {
        (method, route.path): route.app
        for route in routes
        if not route.param_convertors
        for method in route.methods or ()
    }
    app.state.service = service
    app.router.redirect_slashes = False  # a redirect is no envelope, and behind TLS it would point at http
    return app


def check_collector(settings: Settings) -> None:
    """Refuse to start with traces that would leave the site. Raises SettingsError.

    A collector that is away, or whose name does not resolve now, is no reason to be down: each export looks again.
    """
    if settings.tracing.otlp_endpoint is None:
        return
    url = urlsplit(settings.tracing.otlp_endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        local_ip(url.hostname or "", port, parse_networks(settings.site.networks))
    except Unresolved:
        pass
    except OutsideSite as e:
        raise SettingsError(f"tracing.otlp_endpoint: the collector {e}") from None


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
    created, secret = ensure_admin_key(settings.ledger_where, settings.admin_key_path)
    if created:
        print(f"admin key written to {settings.admin_key_path} (mode 0600)", flush=True)
        if sys.stdout.isatty():
            print(f"admin key (shown once): {secret}", flush=True)


class _DrainingServer(uvicorn.Server):
    """Asked to stop, it goes on listening and refuses new requests with 503 until those under way are done.

    uvicorn itself closes its sockets first: a client would see a refused connection instead of ``Retry-After``.
    """

    def __init__(self, config: uvicorn.Config, service: Service, monotonic: Callable[[], float]) -> None:
        super().__init__(config)
        self._service = service
        self._monotonic = monotonic
        self._until_s = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins to drain, the second cuts it short."""
        if self._service.draining:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        self._until_s = self._monotonic() + self._service.settings.server.drain_s
        self._captured_signals.append(sig)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop listening now."""
        stop = await super().on_tick(counter)
        drained = self._service.draining and (not self._service.running or self._monotonic() >= self._until_s)
        return stop or drained


def serve_gateway(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; in-flight requests get ``server.drain_s`` seconds. Returns the exit code."""
    server, logs = settings.server, settings.logs
    set_up("gateway", logs.format, settings.logs_dir / "gateway.log", logs.max_bytes, logs.keep)
    _allow_many_sockets()
    # a request makes some hundred objects that die with it; Python's own 700 would look for cycles eight times in ten
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        check_attached(settings)
        check_collector(settings)
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
        app = create_app(settings, Notifier.take(os.environ))
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
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_LAST_MOMENTS_S,  # requests have had drain_s by then
    )
    instance = _DrainingServer(config, app.state.service, time.monotonic)
    # uvicorn raises the signal again when it has drained, and before it listens to signals itself:
    # either way being asked to stop is no failure
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    instance.run(sockets=[listener])
    return 0 if instance.started else 1
