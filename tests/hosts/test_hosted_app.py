"""The hosted process between the gateway's adapter and a fake Gemini, through the real google-genai client."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hosted import MODEL, HostedHost, body_of, hosted_host, hosted_settings

from appliance.engines import Call
from appliance.errors import ApplianceError
from appliance.hosts.fake_gemini import Running, fake_gemini
from appliance.hosts.gemini_request import GeminiRequest, gemini_request
from appliance.hosts.hosted_client import CannotConnect, Endpoint, GoogleGemini, base_url, connected, read_secret
from appliance.hosts.hosted_errors import mapped
from appliance.hosts.hosted_serve import build

_TRUST = ssl.create_default_context()
TEXT = "t0 t1 t2 t3 t4 t5 "


@pytest.fixture(autouse=True)
def one_trust_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the system's certificates takes 50 ms, three times a client, and nothing here is encrypted."""
    monkeypatch.setattr(ssl, "create_default_context", lambda *args, **kwargs: _TRUST)


@pytest.fixture
def short() -> Any:
    """A directory whose sockets have short names."""
    directory = Path(tempfile.mkdtemp(prefix="ap-"))
    yield directory
    shutil.rmtree(directory)


class Both(NamedTuple):
    fake: Running
    host: HostedHost


@asynccontextmanager
async def both(directory: Path, **hosted: Any) -> AsyncIterator[Both]:
    async with fake_gemini() as fake, hosted_host(fake.url, directory, **hosted) as host:
        yield Both(fake, host)


async def settled(condition: Any) -> None:
    """Until ``condition()``; the loop runs meanwhile."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is in other tasks' hands
            await asyncio.sleep(0.005)


def chunks(data: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in data.decode().split("\n\n") if line]


def sent(fake: Running) -> dict[str, Any]:
    assert fake.counters.last is not None
    body: dict[str, Any] = json.loads(fake.counters.last.body)
    return body


# --- the fault catalogue


class Want(NamedTuple):
    """``status`` 200 is a whole answer; ``code`` the error's, in a stream that had begun as well."""

    status: int = 200
    code: str | None = None
    text: str = TEXT
    retry_after: str | None = None


OK = Want()
BROKEN = Want(502, "engine_failed")
CUT = Want(502, "stream_cut")
SILENT = Want(504, "engine_silent")
LIMITED = Want(503, "hosted_rate_limited", retry_after=None)
PACE = "[[set:chunk_ms=5]]"
# fault, whole answer, stream
CATALOGUE = [
    ("headers_then_silence", SILENT, SILENT),
    ("hang", SILENT, SILENT),
    ("status=429", LIMITED, LIMITED),
    ("status=429]][[set:retry_after=7", LIMITED._replace(retry_after="7"), LIMITED._replace(retry_after="7")),
    ("status=429]][[set:retry_delay=16.2", LIMITED._replace(retry_after="17"), LIMITED._replace(retry_after="17")),
    ("status=500", BROKEN, BROKEN),
    ("status=502", BROKEN, BROKEN),
    ("status=503", Want(503, "hosted_overloaded"), Want(503, "hosted_overloaded")),
    ("status=504", Want(504, "deadline_exceeded"), Want(504, "deadline_exceeded")),
    ("status=400", Want(400, "invalid_request"), Want(400, "invalid_request")),
    ("status=403", Want(503, "hosted_key_refused"), Want(503, "hosted_key_refused")),
    ("status=413", Want(413, "request_too_large"), Want(413, "request_too_large")),
    ("malformed_json", BROKEN, BROKEN),
    ("truncated_json", BROKEN, BROKEN),
    ("drop", CUT, CUT),
    ("cut_before_first", CUT, CUT),
    ("cut_after=3", CUT, CUT),
    ("ends_early=3", CUT, CUT),
    ("no_finish_reason", CUT, CUT),
    ("error_in_stream=3", CUT, Want(503, "hosted_overloaded")),
    ("slow_drip=2", OK, OK),
    ("duplicate_chunks", OK, Want(text="t0 t0 t1 t1 t2 t2 t3 t3 t4 t4 t5 t5 ")),
    ("wrong_content_type", BROKEN, BROKEN),
    ("body_larger_than_promised", BROKEN, BROKEN),
    ("body_smaller_than_promised", CUT, CUT),
    ("garbage", CUT, CUT),
    ("redirect=http://127.0.0.1:9/", BROKEN, BROKEN),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "whole", "stream"), CATALOGUE, ids=[name for name, _, _ in CATALOGUE])
async def test_the_fault_catalogue(short: Path, fault: str, whole: Want, stream: Want, streamed: bool) -> None:
    want = stream if streamed else whole
    async with both(short, server={"engine_silence_s": 0.3, "request_deadline_s": 0.6}) as (fake, host):
        body = body_of(f"{PACE}[[fault:{fault}]]", stream=streamed)
        if want.code is None:
            data, end = await host.ask(body)
            said = end.answer.content if end.answer is not None else ""
            assert (said, end.finish_reason, end.usage.completion_tokens) == (want.text, "stop", 6)
            assert bool(data) is streamed
        else:
            with pytest.raises(ApplianceError) as caught:
                await host.ask(body)
            error = caught.value
            # an error inside a stream that has begun is 502 to whoever reads it, with the same code
            assert (error.status if error.code not in ("hosted_overloaded",) else want.status) in (want.status, 502)
            assert error.code == want.code
            assert error.headers.get("retry-after") == want.retry_after
            assert "AIza" not in error.message
        assert host.host.metrics.running == 0
        assert fake.counters.last is not None, "it was asked once"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_nobody_listens(short: Path, streamed: bool) -> None:
    async with fake_gemini() as gone:
        url = gone.url
    async with hosted_host(url, short, check=False) as host:
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body_of("hi", stream=streamed))
    assert (caught.value.status, caught.value.code) == (503, "hosted_unreachable")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_connection_that_is_taken_and_never_served(short: Path, streamed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        server = {"engine_silence_s": 0.2, "request_deadline_s": 0.3}
        async with hosted_host(url, short, check=False, server=server) as host:
            with pytest.raises(ApplianceError) as caught:
                await host.ask(body_of("hi", stream=streamed))
    assert (caught.value.status, caught.value.code) == (504, "engine_silent")


async def test_a_comment_in_the_stream_is_an_error_that_quotes_nothing(short: Path) -> None:
    async with both(short) as (_, host):
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body_of("my secret [[set:ping=2]]", stream=True))
    assert "secret" not in caught.value.message and "ping" not in caught.value.message


async def test_a_drip_below_the_silence_is_bounded_by_the_whole(short: Path) -> None:
    async with both(short, server={"engine_silence_s": 0.5, "request_deadline_s": 0.3}) as (_, host):
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body_of("[[fault:slow_drip=20]]", stream=True))
    assert caught.value.code == "engine_silent"


# --- leaving


async def test_a_client_that_leaves_stops_the_generation_within_a_chunk(short: Path) -> None:
    async with both(short) as (fake, host):
        events = host.engine.stream(host.call(body_of("[[set:chunks=400]][[set:chunk_ms=1000]]", stream=True)))
        async for _ in events:
            break
        before = fake.counters.steps
        await events.aclose()
        await settled(lambda: fake.counters.cancelled)
        assert fake.counters.steps - before <= 1
        assert fake.counters.running == 0
        await settled(lambda: host.host.metrics.running == 0)


async def test_a_client_that_leaves_before_a_whole_answer_stops_it_too(short: Path) -> None:
    async with both(short, server={"engine_silence_s": 60, "request_deadline_s": 60}) as (fake, host):
        asking = asyncio.create_task(host.ask(body_of("[[set:ttft_ms=30000]]")))
        await settled(lambda: fake.counters.running)
        asking.cancel()
        await settled(lambda: fake.counters.cancelled)
        await settled(lambda: host.host.metrics.running == 0)


async def test_a_slow_reader_holds_the_sender_back() -> None:
    """Not the whole answer piles up in the process: the queue is bounded, and the connection does the rest."""
    given = 0

    class Piece:
        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {}

    async def endless(**_: Any) -> AsyncIterator[Piece]:
        async def pieces() -> AsyncIterator[Piece]:
            nonlocal given
            while True:
                given += 1
                yield Piece()

        return pieces()

    client = SimpleNamespace(aio=SimpleNamespace(models=SimpleNamespace(generate_content_stream=endless)))
    pieces = GoogleGemini(client, 1.0).stream(MODEL, GeminiRequest([], {}))
    await anext(pieces)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert given <= 10
    await pieces.aclose()
    stopped_at = given
    for _ in range(10):
        await asyncio.sleep(0)
    assert given == stopped_at


# --- what is asked and answered


async def test_a_tool_loop_keeps_the_thought_signature_for_clients_that_drop_it(short: Path) -> None:
    tool = {"type": "function", "function": {"name": "ring", "parameters": {"type": "object", "$defs": {}}}}
    async with both(short) as (fake, host):
        _, end = await host.ask(body_of('[[set:call=ring,look]][[set:args={"a": 1}]]', tools=[tool]))
        assert end.finish_reason == "tool_calls" and end.answer is not None
        calls = [
            {"id": t.id, "type": "function", "function": {"name": t.name, "arguments": t.arguments}}
            for t in end.answer.tools
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls]
        history = [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": calls}, *results]
        _, end = await host.ask(body_of("", messages=history, tools=[tool]))
        assert end.finish_reason == "stop"
        parts = sent(fake)["contents"][1]["parts"]
        assert base64.b64decode(parts[0]["thoughtSignature"]) == b"signature of ring"
        assert parts[0]["functionCall"]["args"] == {"a": 1} and "thoughtSignature" not in parts[1]


async def test_a_history_of_another_model_needs_no_signature(short: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "ring", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    async with both(short) as (_, host):
        assert (await host.ask(body_of("", messages=history)))[1].finish_reason == "stop"


async def test_what_reaches_google(short: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "$defs": {"b": {}}}
    async with both(short) as (fake, host):
        await host.ask(
            body_of(
                "hi",
                messages=[{"role": "system", "content": "brief"}, {"role": "user", "content": "hi"}],
                tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
                tool_choice="required",
                reasoning_effort="low",
                temperature=0.5,
                max_tokens=50,
                min_p=0.2,
            )
        )
        body, call = sent(fake), fake.counters.last
        assert call is not None
        assert call.path == f"/v1/models/{MODEL}:generateContent"
        assert call.header(b"x-goog-api-key") == "AIza-test-key"
        assert body["systemInstruction"]["parts"] == [{"text": "brief"}]
        declaration = body["tools"][0]["functionDeclarations"][0]
        assert declaration.get("parametersJsonSchema", declaration.get("parameters_json_schema")) == schema
        assert body["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
        assert body["generationConfig"]["maxOutputTokens"] == 50
        assert "min_p" not in json.dumps(body) and "tn_1" not in json.dumps(body)


async def test_usage_and_cost_are_counted(short: Path) -> None:
    async with both(short) as (_, host):
        _, end = await host.ask(body_of("[[set:thoughts=40]][[set:cached=3]]", stream=True))
        assert (end.usage.thinking_tokens, end.usage.cached_tokens, end.usage.completion_tokens) == (40, 3, 47)
        spent = host.host._checks.spent_nusd
        assert spent == end.usage.prompt_tokens * 250 + 47 * 1500
        text = host.host.metrics.text().decode()
        assert 'appliance_hosted_requests_total{outcome="ok"} 1.0' in text


async def test_what_gemini_has_nothing_for_is_named_in_the_answer(short: Path) -> None:
    async with both(short) as (_, host):
        body = body_of("hi", min_p=0.5, logit_bias={})
        headers = f"x-appliance-permit: {host.permit(body)}\r\n"
        async with await host.pool.request("POST", "/v1/chat/completions", body, headers=headers) as response:
            await response.read()
            assert response.headers[b"x-appliance-dropped"] == b"logit_bias, min_p"


# --- refusals


async def test_the_adapter_connects_nowhere_without_a_permit(short: Path) -> None:
    async with both(short) as (fake, host):
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body_of("hi"), permit="")
        assert caught.value.code == "permit_missing"
        assert fake.counters.last is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"region": "asia-south1"}, "permit_region"),
        ({"body_sha256": "0" * 64}, "permit_body"),
        ({"expires_ms": 1}, "permit_expired"),
        ({"cap_nusd": 1}, "permit_cap"),
        ({"model": "gemini-3.8-flash"}, "permit_model"),
    ],
)
async def test_a_bad_permit_reaches_nobody(short: Path, changes: dict[str, Any], code: str) -> None:
    async with both(short) as (fake, host):
        body = body_of("hi")
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body, permit=host.permit(body, **changes))
        assert (caught.value.status, caught.value.code) in ((503, code), (502, code))
        assert fake.counters.last is None
        assert f'refused_total{{code="{code}"}} 1.0' in host.host.metrics.text().decode()


async def test_a_permit_works_once(short: Path) -> None:
    async with both(short) as (_, host):
        body = body_of("hi")
        token = host.permit(body)
        await host.ask(body, permit=token)
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body, permit=token)
        assert caught.value.code == "permit_replayed"


async def test_it_takes_so_many_at_once(short: Path) -> None:
    async with both(short, max_at_once=1) as (_, host):
        first = host.engine.stream(host.call(body_of("[[set:chunk_ms=50]]", stream=True)))
        await anext(first)
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body_of("hi"))
        assert (caught.value.code, caught.value.headers["retry-after"]) == ("overloaded", "1")
        await first.aclose()
        await settled(lambda: host.host.metrics.running == 0)
        await host.ask(body_of("hi"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 3, "messages": 4}', b'{"messages": [{"role": 1}]}'])
async def test_what_is_no_request_is_refused_and_holds_nothing(short: Path, body: bytes) -> None:
    async with both(short) as (_, host):
        call = Call("/v1/chat/completions", MODEL, body, False, permit="x.y")
        with pytest.raises(ApplianceError):
            _ = [event async for event in host.engine.stream(call)]
        assert host.host.metrics.running == 0 and host.host._checks._held_nusd == 0


async def test_a_shape_the_gateway_would_never_send_settles_what_it_held(short: Path) -> None:
    async with both(short) as (_, host):
        body = body_of("", messages=[{"role": "assistant", "tool_calls": [{"id": "x"}]}])
        with pytest.raises(ApplianceError) as caught:
            await host.ask(body)
        assert caught.value.status == 400
        assert host.host.metrics.running == 0 and host.host._checks._held_nusd == 0


# --- ready


async def test_ready_means_that_google_took_the_key_and_costs_nothing(short: Path) -> None:
    async with both(short) as (fake, host):
        await settled(lambda: host.host.ready)
        assert fake.counters.last is None, "no generation"
        async with await host.pool.request("GET", "/health") as response:
            assert (response.status, json.loads(await response.read())["region"]) == (200, "global")
        async with await host.pool.request("GET", "/v1/models") as response:
            card = json.loads(await response.read())["data"][0]
        assert (card["id"], card["max_model_len"], card["owned_by"]) == (MODEL, 1_048_576, "google")


async def test_a_refused_key_is_not_ready_and_says_why_without_the_key(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_gemini() as fake:
        settings = hosted_settings(fake.url, short)
        (short / "gemini.key").write_text("bad-key-of-somebody\n")
        host = build(settings, settings.engines["gemini"], {})
        async with host.running():
            await settled(lambda: "key" in host.why and "tried" not in host.why)
            assert not host.ready
    assert "api_key_file" in host.why
    assert "bad-key-of-somebody" not in caplog.text + host.why


async def test_neither_key_nor_prompt_is_logged(short: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="appliance")
    async with both(short) as (_, host):
        for fault in ("", "[[fault:malformed_json]]", "[[fault:status=500]]"):
            try:
                await host.ask(body_of(f"मेरा राज़ {fault}", stream=True))
            except ApplianceError:
                pass
    assert "राज़" not in caplog.text and "AIza" not in caplog.text


# --- the client


@pytest.mark.parametrize(
    ("region", "project", "url"),
    [
        ("global", None, "https://generativelanguage.googleapis.com"),
        ("global", "p", "https://aiplatform.googleapis.com"),
        ("asia-south1", "p", "https://asia-south1-aiplatform.googleapis.com"),
        ("eu", "p", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_address_follows_from_the_region(region: str, project: str | None, url: str) -> None:
    assert base_url(region, project, None) == url


async def test_the_environment_moves_nothing(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_API_KEY": "AIza-of-the-environment",
        "GEMINI_API_KEY": "AIza-of-the-environment",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
        "GOOGLE_GENAI_API_VERSION": "beta",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    async with both(short) as (fake, host):
        await host.ask(body_of("hi"))
        assert fake.counters.last is not None
        assert fake.counters.last.header(b"x-goog-api-key") == "AIza-test-key"
        assert fake.counters.last.path.startswith("/v1/")


async def test_vertex_has_region_and_project_in_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth.credentials import AnonymousCredentials

    from appliance.hosts import hosted_client

    class Token(AnonymousCredentials):  # type: ignore[misc]
        quota_project_id = None

        def refresh(self, request: Any) -> None:
            self.token = "t"

    monkeypatch.setattr(hosted_client, "_service_account", lambda secret: Token())
    async with fake_gemini() as fake:
        endpoint = Endpoint(fake.url, "asia-south1", "my-project")
        async with connected(endpoint, "{}") as gemini:
            asked = gemini_request({"messages": [{"role": "user", "content": "hi"}]}, 9)
            pieces = [piece async for piece in gemini.stream(MODEL, asked)]
        assert pieces[-1]["candidates"][0]["finish_reason"] == "STOP"
        assert fake.counters.last is not None
        assert fake.counters.last.path.startswith(
            f"/v1/projects/my-project/locations/asia-south1/publishers/google/models/{MODEL}:"
        )


def test_a_service_account_that_is_none_is_not_quoted() -> None:
    from appliance.hosts.hosted_client import _service_account

    with pytest.raises(CannotConnect) as caught:
        _service_account('{"private_key": "very secret"')
    assert "secret" not in str(caught.value)


def test_a_key_is_found_by_path_or_as_a_credential(tmp_path: Path) -> None:
    (tmp_path / "gemini-key").write_text("  k  \n")
    assert read_secret(str(tmp_path / "gemini-key"), {}) == "k"
    assert read_secret("gemini-key", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "k"
    assert read_secret("gemini-key", {"APPLIANCE_HOME": str(tmp_path)}) == "k"
    for held in ({}, {"APPLIANCE_HOME": str(tmp_path / "x")}):
        with pytest.raises(CannotConnect, match="cannot be read"):
            read_secret("nothing", held)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(CannotConnect, match="empty"):
        read_secret(str(tmp_path / "empty"), {})


def test_what_nobody_foresaw_is_named_by_its_class_alone() -> None:
    error = mapped(RuntimeError("the prompt was: very secret"))
    assert (error.status, "RuntimeError" in error.message, "secret" in error.message) == (502, True, False)
