"""Traces of engines that speak OpenTelemetry (vLLM does): where they send them, and which requests they trace.

What it is: an address that was checked to be on this site when the engine starts, and the environment beside it.
What it refuses to be: a second decision about sampling. An engine traces what the gateway traces, and nothing else.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from appliance.networks import OutsideSite, Unresolved, local_ip, parse_networks
from appliance.settings import Settings
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit


def engine_endpoint(settings: Settings) -> str:
    """The OTLP/HTTP URL for an engine; empty where traces are off. Raises CannotStart for one that is not on this site.

    The engine resolves no name of its own: over http it is given the address. Over https it has to be given the name,
    for the certificate's sake. An engine whose collector's name does not resolve starts without traces.
    """
    endpoint = settings.tracing.otlp_endpoint
    if endpoint is None:
        return ""
    url = urlsplit(endpoint)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    try:
        ip = local_ip(host, port, parse_networks(settings.site.networks))
    except Unresolved:
        return ""
    except OutsideSite as e:
        raise CannotStart(f"tracing.otlp_endpoint: the collector {e}", Exit.BAD_ARGUMENTS) from None
    if url.scheme == "https":
        return f"{endpoint}/v1/traces"
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{url.path}/v1/traces"


def trace_environment(settings: Settings, name: str) -> dict[str, str]:
    """OTLP over HTTP instead of vLLM's gRPC, no proxy, and no trace that the gateway did not begin."""
    if settings.tracing.otlp_endpoint is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_SERVICE_NAME": name,
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
