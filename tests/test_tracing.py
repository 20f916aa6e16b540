"""How spans leave: to this site, or not at all; and never in a request's way."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import pytest
import requests
from collector import collecting

from appliance.networks import parse_networks
from appliance.settings import TracingSettings
from appliance.tracing import OnSite, Traced, Tracing, _Seldom


def tracing(endpoint: str, sample: float = 1.0) -> Tracing:
    return Tracing(TracingSettings(otlp_endpoint=endpoint, sample=sample), ())


def test_spans_arrive_when_it_closes() -> None:
    with collecting() as collector:
        made = tracing(collector.endpoint)
        with made.tracer.start_as_current_span("x", attributes={"a": 1}):
            pass
        made.close()
    (span,) = collector.spans
    assert (span.name, span.service, span.attributes) == ("x", "appliance", {"a": 1})


def test_the_share_that_is_sampled() -> None:
    with collecting() as collector:
        made = tracing(collector.endpoint, sample=0.5)
        for _ in range(200):
            with made.tracer.start_as_current_span("x"):
                pass
        made.close()
    assert 50 < len(collector.spans) < 150


def test_a_name_that_moves_off_the_site_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = {"ip": "127.0.0.1"}

    def moving(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (resolved["ip"], port))]

    with collecting() as collector:
        session = OnSite(f"http://collector.site:{collector.port}/v1/traces", ())
        monkeypatch.setattr("appliance.networks.socket.getaddrinfo", moving)
        assert session.post("http://ignored/", data=b"").status_code == 200
        assert collector.hosts == [f"collector.site:{collector.port}"]
        resolved["ip"] = "192.0.2.7"
        with pytest.raises(requests.RequestException, match="outside this site"):
            session.post("http://ignored/", data=b"")
    assert len(collector.bodies) == 1


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with collecting() as collector:
        made = tracing(collector.endpoint)
        with made.tracer.start_as_current_span("x"):
            pass
        made.close()
    assert len(collector.spans) == 1


def test_a_redirect_is_not_followed() -> None:
    with collecting() as collector:
        collector.answer = 307
        made = tracing(collector.endpoint)
        with made.tracer.start_as_current_span("x"):
            pass
        made.close()
        assert len(collector.hosts) == 1


def test_a_collector_that_is_away_delays_nothing() -> None:
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        made = tracing(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started_s = time.monotonic()
        for _ in range(5000):  # more than the exporter's queue holds
            with made.tracer.start_as_current_span("x"):
                pass
        assert time.monotonic() - started_s < 3
        started_s = time.monotonic()
        made.close()
        assert time.monotonic() - started_s < 4


def test_it_complains_once_a_minute() -> None:
    seldom = _Seldom()
    record = logging.LogRecord("x", logging.ERROR, "", 1, "away", (), None)
    assert [seldom.filter(record) for _ in range(3)] == [True, False, False]


def test_networks_of_the_site_count_as_local(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 4318))]
    monkeypatch.setattr("appliance.networks.socket.getaddrinfo", lambda *_, **__: found)
    asked: list[str] = []
    monkeypatch.setattr(requests.Session, "request", lambda self, method, url, **_: asked.append(url))
    OnSite("https://collector.site/v1/traces", parse_networks(["10.0.0.0/8"])).post("x")
    assert asked == ["https://10.1.2.3:443/v1/traces"]


async def test_an_error_of_the_route_is_raised_and_not_quoted() -> None:
    async def route(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": [(b"x-request-id", b"req_1")]})
        raise ValueError("the prompt")

    async def send(message: Any) -> None:
        pass

    with collecting() as collector:
        made = tracing(collector.endpoint)
        with pytest.raises(ValueError, match="the prompt"):
            await Traced(route, made.tracer, "/x")({"method": "POST", "headers": []}, None, send)
        made.close()
    (span,) = collector.spans
    assert span.failed and span.events == ()
    assert span.attributes["http.response.status_code"] == 500
    assert b"the prompt" not in collector.bodies[0]
