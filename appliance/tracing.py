"""OpenTelemetry: how spans leave this process, and the span around each HTTP request.

What it is: imported only where ``[tracing] otlp_endpoint`` is set. ``Tracing`` exports with OpenTelemetry's own SDK and
OTLP/HTTP exporter; ``Traced`` wraps a route. The spans inside a request are ``traced.py``'s.
What it refuses to be: a way out of the box. Each export resolves the collector's name, and connects to an address that
is loopback or inside ``[site] networks`` or not at all; proxies and redirects are not followed. No span holds a prompt,
an answer, a key or an exception's message.
What it costs: nothing when off. On: docs/observability.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests.adapters import HTTPAdapter

import appliance
from appliance.networks import Network, OutsideSite, local_ip, parse_networks
from appliance.settings import Settings, TracingSettings

_EXPORT_WITHIN_S = 5.0
_CLOSE_WITHIN_S = 3.0
_COMPLAIN_EVERY_S = 60.0
_W3C = TraceContextTextMapPropagator()
_PATH = "/v1/traces"

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Tracing:
    """The exporter of one gateway process. ``close`` sends what is left, within a few seconds."""

    def __init__(self, settings: TracingSettings, networks: tuple[Network, ...]) -> None:
        assert settings.otlp_endpoint is not None
        endpoint = settings.otlp_endpoint + _PATH
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_WITHIN_S, session=OnSite(endpoint, networks))
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample)),
            resource=Resource.create({"service.name": "appliance", "service.version": appliance.__version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        _complain_seldom()
        self.tracer: Tracer = self._provider.get_tracer("appliance")

    @classmethod
    def of(cls, settings: Settings) -> Tracing:
        """As the settings say, which name an endpoint."""
        return cls(settings.tracing, parse_networks(settings.site.networks))

    def close(self) -> None:
        """Send what is left and stop."""
        # the SDK waits half a minute for a collector that is away, and a gateway that stops is waited for less
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        stopping.join(_CLOSE_WITHIN_S)


class OnSite(requests.Session):
    """A session that reaches one host, on this site, whatever its name resolves to by then."""

    def __init__(self, endpoint: str, networks: tuple[Network, ...]) -> None:
        super().__init__()
        self.trust_env = False  # a proxy in the environment would carry the traces elsewhere
        url = urlsplit(endpoint)
        self._networks = networks
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._scheme, self._path, self._netloc = url.scheme, url.path, url.netloc
        self.mount("https://", _NamedAdapter(self._host))

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """To the checked address itself, so that nothing can move between the check and the connection."""
        try:
            ip = local_ip(self._host, self._port, self._networks)
        except OutsideSite as e:
            raise requests.RequestException(f"the collector {e}") from None
        where = f"[{ip}]" if ":" in ip else ip
        kwargs["headers"] = {**(kwargs.get("headers") or {}), "Host": self._netloc}
        return super().request(method, f"{self._scheme}://{where}:{self._port}{self._path}", *args, **kwargs)


class _NamedAdapter(HTTPAdapter):
    """TLS to an address, with the certificate of a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, assert_hostname=self._name, server_hostname=self._name, **kwargs)


class _Seldom(logging.Filter):
    """One line a minute: a collector that is away fails every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _COMPLAIN_EVERY_S
        return True


def _complain_seldom() -> None:
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    if not any(isinstance(each, _Seldom) for each in logger.filters):
        logger.addFilter(_Seldom())


class Traced:
    """A route with a span around it: the root of the request's trace, or a child of its caller's."""

    def __init__(self, app: AsgiApp, tracer: Tracer, route: str) -> None:
        self._app = app
        self._tracer = tracer
        self._route = route

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        attributes = {"http.request.method": scope["method"], "http.route": self._route}
        with self._tracer.start_as_current_span(
            f"{scope['method']} {self._route}",
            context=_W3C.extract(_trace_headers(scope["headers"])),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def noting(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    note_response(span, message)
                await send(message)

            await self._app(scope, receive, noting)


def note_response(span: trace.Span, message: Mapping[str, Any]) -> None:
    """Status and request id of an answer that begins."""
    span.set_attribute("http.response.status_code", message["status"])
    if message["status"] >= 500:
        span.set_status(StatusCode.ERROR)
    for name, value in message["headers"]:
        if name == b"x-request-id":
            span.set_attribute("appliance.request_id", value.decode("latin-1"))


def _trace_headers(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }


def traceparent(span: trace.Span) -> str:
    """W3C's header for a call made within ``span``."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")
