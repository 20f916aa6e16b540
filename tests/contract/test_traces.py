"""One trace a request, through gateway, policy and engine, at a collector that decodes it; nothing secret in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from collector import Collector, SpanSeen, collecting
from contract.stack import Stack, _environment
from support import wait_until

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
PROMPT = "the colour of my first car was ochre"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[Stack]:
    """A stack with traces on and logs in JSON."""
    more = f'[tracing]\notlp_endpoint = "{collector.endpoint}"\nsample = 0.0\n[logs]\nformat = "json"\n'
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # the exporter's 5 s between batches
        running = Stack(more)
    yield running
    running.stop()


def trace_of(collector: Collector, trace: str) -> dict[str, SpanSeen]:
    """The spans of a trace by name, once its root has come (children end first)."""
    wait_until(
        lambda: any(span.name.startswith("POST") for span in collector.of(trace)), 15, f"trace {trace} is exported"
    )
    return {span.name: span for span in collector.of(trace)}


def caller(number: int, flags: str = "01") -> tuple[str, dict[str, str]]:
    """The trace id and the header of a caller that traces its request."""
    trace = f"{number:02x}{CALLER[2:]}"
    return trace, {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_trace_below_its_callers(traced: Stack, collector: Collector, stream: bool) -> None:
    trace, headers = caller(1 + stream)
    body = {"model": "fake", "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    answer = traced.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    spans = trace_of(collector, trace)
    assert set(spans) == {"POST /v1/chat/completions", "admit", "plan", "attempt", "call chat", "record"}
    root = spans["POST /v1/chat/completions"]
    assert root.parent == PARENT and root.service == "appliance"
    assert {spans[name].parent for name in ("admit", "plan", "attempt", "record")} == {root.id}
    assert spans["call chat"].parent == spans["attempt"].id
    assert traced.fake.last()["headers"]["traceparent"] == f"00-{trace}-{spans['call chat'].id}-01"

    assert root.attributes["appliance.request_id"] == answer.headers["x-request-id"]
    assert root.attributes["appliance.conversation"] == answer.headers["x-conversation-id"]
    assert root.attributes["appliance.tenant"]
    assert root.attributes["http.response.status_code"] == 200
    attempt = spans["attempt"].attributes
    assert (attempt["appliance.engine"], attempt["appliance.reason"]) == ("chat", "routine")
    assert spans["plan"].attributes["appliance.attempts"] == ["chat local routine"]
    assert spans["record"].attributes["appliance.status"] == "ok"
    call = spans["call chat"]
    assert call.attributes["gen_ai.usage.completion_tokens"] > 0 and call.events == ("first bytes",)
    assert not any(span.failed or "appliance.cancelled" in span.attributes for span in spans.values())


def test_what_goes_wrong_shows_where(traced: Stack, collector: Collector) -> None:
    trace, headers = caller(3)
    body = {"model": "fake", "messages": [{"role": "user", "content": f"[[fault:status=500]] {PROMPT}"}]}
    answer = traced.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 502
    spans = trace_of(collector, trace)
    for name in ("call chat", "attempt", "POST /v1/chat/completions"):
        assert spans[name].failed and spans[name].attributes["error.type"] == answer.json()["error"]["code"]
    assert spans["record"].attributes["appliance.status"] == "failed"


def test_a_caller_that_leaves_is_seen(traced: Stack, collector: Collector) -> None:
    trace, headers = caller(4)
    body = {"model": "fake", "messages": [{"role": "user", "content": "[[set:chunk_ms=300]] hello"}], "stream": True}
    with traced.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_raw())
    spans = trace_of(collector, trace)
    assert spans["call chat"].attributes["appliance.cancelled"] is True
    assert spans["record"].attributes["appliance.code"] == "client_left"


def test_a_request_that_is_not_sampled_leaves_no_span_and_says_so_to_the_engine(
    traced: Stack, collector: Collector
) -> None:
    before = len(collector.spans)
    assert traced.ask("hello").status_code == 200  # sample = 0, and the caller traces nothing
    trace, headers = caller(5, flags="00")
    traced.client.post(
        "/v1/chat/completions", json={"model": "fake", "messages": [{"role": "user", "content": "x"}]}, headers=headers
    )
    assert traced.fake.last()["headers"]["traceparent"].endswith("-00")
    last, headers = caller(6)
    traced.client.post("/v1/chat/completions", json={"model": "no-such"}, headers=headers)
    trace_of(collector, last)  # exported later, so everything before it is there
    assert collector.of(trace) == []
    assert {span.trace for span in collector.spans[before:]} <= {last} | {f"{n:02x}{CALLER[2:]}" for n in range(1, 5)}


@pytest.mark.parametrize("header", ["garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff" * 400])
def test_a_broken_traceparent_harms_nothing(traced: Stack, header: str) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "x"}]}
    assert traced.client.post("/v1/chat/completions", json=body, headers={"traceparent": header}).status_code == 200


def test_no_prompt_answer_or_key_is_in_any_span_or_log(traced: Stack, collector: Collector) -> None:
    sent = b"".join(collector.bodies)
    logged = (traced.home / "logs/gateway.log").read_text() + (traced.home / "gateway.log").read_text()
    assert sent
    for secret in (PROMPT, "ochre", traced.key, "hello"):
        assert secret.encode() not in sent
        assert secret not in logged
    for line in (traced.home / "logs/gateway.log").read_text().splitlines():
        assert json.loads(line)["process"] == "gateway"


def test_a_collector_off_the_site_is_refused_at_start(traced: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("a", numbered=False)
    (home / "appliance.toml").write_text('[tracing]\notlp_endpoint = "http://192.0.2.7:4318"\n')
    done = subprocess.run(
        (sys.executable, "-m", "appliance", "gateway"),
        env=_environment(home, APPLIANCE_RUN=str(traced.home / "other"), APPLIANCE_PORT="0"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr == (
        "error: tracing.otlp_endpoint: the collector 192.0.2.7 is 192.0.2.7, which is outside this site;"
        " add its network to [site] networks if it is yours\n"
    )
