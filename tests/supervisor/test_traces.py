"""Where engines send their traces."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import EngineSettings, Settings, SiteSettings, TracingSettings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.supervisor.traces import engine_endpoint, trace_environment
from appliance.supervisor.vllm import vllm_command


def settings(tmp_path: Path, endpoint: str | None, *networks: str) -> Settings:
    return Settings(
        home=tmp_path,
        run=tmp_path / "run",
        site=SiteSettings(networks=networks),
        tracing=TracingSettings(otlp_endpoint=endpoint),
        engines={"chat": EngineSettings(kind="vllm", model="m")},
    )


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names resolve to."""
    names: dict[str, str] = {}

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host not in names:
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def test_off_by_default(tmp_path: Path) -> None:
    off = settings(tmp_path, None)
    assert engine_endpoint(off) == "" and trace_environment(off, "chat") == {}
    found = vllm_command(off, "chat", tmp_path / "m", {}, True)
    assert "--otlp-traces-endpoint" not in found.argv and "OTEL_TRACES_SAMPLER" not in found.env


def test_vllm_is_given_the_address_and_follows_the_gateways_decision(tmp_path: Path, resolving: dict[str, str]) -> None:
    resolving["collector.site"] = "10.1.2.3"
    on = settings(tmp_path, "http://collector.site:4318/otel", "10.0.0.0/8")
    found = vllm_command(on, "chat", tmp_path / "m", {"HTTP_PROXY": "http://proxy"}, True)
    assert found.argv[found.argv.index("--otlp-traces-endpoint") + 1] == "http://10.1.2.3:4318/otel/v1/traces"
    assert found.env["OTEL_TRACES_SAMPLER"] == "parentbased_always_off"
    assert found.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert found.env["NO_PROXY"] == found.env["no_proxy"] == "*"


def test_a_collector_off_the_site_stops_the_start(tmp_path: Path, resolving: dict[str, str]) -> None:
    resolving["collector.site"] = "192.0.2.7"
    with pytest.raises(CannotStart, match="outside this site") as caught:
        engine_endpoint(settings(tmp_path, "http://collector.site:4318"))
    assert caught.value.code == Exit.BAD_ARGUMENTS


def test_a_collector_that_is_not_there_does_not(tmp_path: Path, resolving: dict[str, str]) -> None:
    assert engine_endpoint(settings(tmp_path, "http://collector.site:4318")) == ""


def test_over_tls_the_name_is_kept_for_the_certificate(tmp_path: Path, resolving: dict[str, str]) -> None:
    resolving["collector.site"] = "127.0.0.1"
    assert engine_endpoint(settings(tmp_path, "https://collector.site")) == "https://collector.site/v1/traces"
