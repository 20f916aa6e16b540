"""A live session by openai-python's realtime client, over a real socket; gateway and voice detector are stand-ins."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.exceptions import InvalidStatus

from appliance.hosts.live import LiveLimits, create_app
from appliance.hosts.live_gateway import Gateway as ToGateway
from appliance.hosts.live_session import Limits, Refused, Session
from appliance.notify import Notifier

KEY = "sk-live"
LOUD = (np.sin(np.arange(24000)) * 9000).astype("<i2")  # a second
QUIET = np.zeros(24000, "<i2")


class Gateway:
    """What the gateway would answer, and what it was asked."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []
        self.known = {KEY}
        self.away = False
        self.refuse = False
        self.status = 402
        self.says: Callable[[int], str] | None = None  # by the bytes of a turn
        self.headers: list[str] = []
        self.keywords: list[Any] = []
        self.languages_asked: list[dict[str, str]] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def languages(self, request: Request) -> Response:
        self.languages_asked.append(dict(request.query_params))
        if request.query_params["language"] in ("hi", "ta", "en"):
            return JSONResponse({"data": []})
        error = {"message": "no language known here; accepted here: hi, en, or auto", "code": "unknown_language"}
        return JSONResponse({"error": {**error, "param": "language"}}, 400)

    async def models(self, request: Request) -> Response:
        if self.away:
            return JSONResponse({}, 503)
        good = request.headers.get("authorization", "").removeprefix("Bearer ") in self.known
        return JSONResponse({"data": []}, 200 if good else 401)

    async def transcribe(self, request: Request) -> Response:
        form = await request.form()
        audio = await form["file"].read()  # type: ignore[union-attr]
        self.headers.append(request.headers.get("x-appliance-live", ""))
        self.asked.set()
        self.keywords = form.getlist("keywords")
        self.turns.append({**{k: v for k, v in form.items() if k != "file"}, "bytes": len(audio)})
        await self.go.wait()
        if self.refuse:
            return JSONResponse({"error": {"message": "no", "code": "budget_exceeded", "param": None}}, self.status)
        text = f"turn {len(self.turns)}" if self.says is None else self.says(len(audio))
        done = {"type": "transcript.text.done", "text": text}
        if "language" not in form:
            done["languages"] = [{"code": "hi"}]
        events = [{"type": "transcript.text.delta", "delta": text}, done]
        return Response("".join(f"data: {json.dumps(e)}\n\n" for e in events), media_type="text/event-stream")

    def client(self) -> httpx2.AsyncClient:
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/audio/languages", self.languages),
            Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
        ]
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(Starlette(routes=routes)), base_url="http://gateway")


class Loud:
    def frame(self, samples: np.ndarray) -> float:
        return float(np.abs(samples).max() > 1000)


@asynccontextmanager
async def running(
    gateway: Gateway, partial_s: float = 0.0, notifier: Notifier | None = None, **limits: Any
) -> AsyncIterator[openai.AsyncOpenAI]:
    bounds = LiveLimits(session=Limits(partial_s=partial_s), **limits)
    app = create_app(ToGateway(gateway.client(), "vouched"), Loud, bounds, notifier)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.ensure_future(server._serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield openai.AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")
        server.should_exit = True
        await serving


async def test_systemd_hears_that_it_is_there_and_that_it_lives(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        async with running(Gateway(), notifier=Notifier(str(tmp_path / "notify"), 0.03)):
            said = [await asyncio.to_thread(manager.recv, 4096) for _ in range(3)]
    assert [word.split(b"\n")[0] for word in said] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def encoded(samples: np.ndarray) -> str:
    return base64.b64encode(samples.astype("<i2").tobytes()).decode()


async def until(connection: Any, kind: str) -> list[Any]:
    events = []
    while not events or events[-1].type != kind:
        events.append(await connection.recv())
    return events


DONE = "conversation.item.input_audio_transcription.completed"


async def test_openais_client_speaks_and_reads_its_turns_by_server_vad() -> None:
    gateway = Gateway()
    async with running(gateway) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as live:
        assert (await live.recv()).type == "session.created"
        input_ = {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": {"model": "m", "language": "hi"}}
        await live.session.update(session={"type": "transcription", "audio": {"input": input_}})  # type: ignore[typeddict-item]
        assert (await live.recv()).type == "session.updated"
        for piece in (QUIET, LOUD, QUIET, LOUD, QUIET):
            await live.input_audio_buffer.append(audio=encoded(piece))
        first, second = await until(live, DONE), await until(live, DONE)
    order = [e.type.rpartition(".")[2] for e in first]
    assert order[:3] == ["speech_started", "speech_stopped", "committed"]
    assert order[-2:] == ["delta", "completed"]
    assert (first[-1].transcript, second[-1].transcript) == ("turn 1", "turn 2")
    assert len({e.item_id for e in first if getattr(e, "item_id", None) and "turn 1" in str(e)}) == 1
    committed = [e for e in [*first, *second] if e.type == "input_audio_buffer.committed"]
    assert [c.previous_item_id for c in committed] == [None, committed[0].item_id]
    assert 600 < first[0].audio_start_ms < 720  # a second of silence, less the padding
    assert gateway.turns[0] == {
        "model": "m",
        "language": "hi",
        "input_audio_codec": "pcm_s16le",
        "sample_rate": "24000",
        "stream": "true",
        "bytes": gateway.turns[0]["bytes"],
    }
    # 300 ms of padding, a second of sound, 500 ms of silence
    assert abs(gateway.turns[0]["bytes"] / 48 - 1800) < 80


@pytest.mark.parametrize(("kind", "codec"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
async def test_telephone_audio_with_manual_commits(kind: str, codec: str) -> None:
    gateway = Gateway()
    async with running(gateway) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as live:
        await live.recv()
        session = {"type": "transcription", "audio": {"input": {"format": {"type": kind}, "turn_detection": None}}}
        await live.session.update(session=session)  # type: ignore[arg-type]
        await live.input_audio_buffer.append(audio=base64.b64encode(bytes(4000)).decode())
        await live.input_audio_buffer.commit()
        (*_, done) = await until(live, DONE)
        await live.input_audio_buffer.commit()
        (*_, error) = await until(live, "error")
    assert (done.transcript, done.usage.seconds) == ("turn 1", 0.5)
    assert [one.code for one in done.languages] == ["hi"]  # what was detected, as none was given
    assert (gateway.turns[0]["input_audio_codec"], gateway.turns[0]["bytes"]) == (codec, 4000)
    assert error.error.code == "input_audio_buffer_commit_empty"


async def test_a_turn_that_is_refused_fails_and_the_session_goes_on() -> None:
    gateway = Gateway()
    gateway.refuse = True
    async with running(gateway) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as live:
        await live.input_audio_buffer.append(audio=encoded(np.concatenate([LOUD, QUIET])))
        (*_, failed) = await until(live, "conversation.item.input_audio_transcription.failed")
        assert failed.error.code == "budget_exceeded"
        gateway.refuse = False
        await live.input_audio_buffer.append(audio=encoded(np.concatenate([LOUD, QUIET])))
        (*_, done) = await until(live, DONE)
        assert done.transcript == "turn 2"


async def test_a_language_that_is_not_heard_here_is_refused_when_it_is_set() -> None:
    gateway = Gateway()

    def update(**transcription: str) -> dict[str, Any]:
        return {"type": "transcription", "audio": {"input": {"transcription": transcription}}}

    async with running(gateway) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as live:
        assert (await live.recv()).type == "session.created"
        await live.session.update(session=update(model="whisper-1", language="hi"))  # type: ignore[arg-type]
        assert (await live.recv()).type == "session.updated"
        await live.session.update(session=update(model="whisper-1", language="tlh"))  # type: ignore[arg-type]
        event = await live.recv()
        assert event.type == "error" and event.error.code == "unknown_language" and event.error.param == "language"
        assert "accepted here: hi, en, or auto" in event.error.message
        await live.session.update(session=update(model="whisper-1", language="hi", prompt="x"))  # type: ignore[arg-type]
        updated = await live.recv()  # the session goes on, with the language it had
        assert updated.type == "session.updated"
    assert [asked["language"] for asked in gateway.languages_asked] == ["hi", "tlh", "hi"]


async def test_keywords_and_hints_of_the_protocol_reach_the_form() -> None:
    gateway = Gateway()
    given = {"model": "whisper-1", "languages": ["hi", "en"], "keywords": ["UPI", "Aadhaar, e-KYC"]}
    audio = {"input": {"transcription": given, "turn_detection": None}}
    session = {"type": "transcription", "audio": audio}
    async with running(gateway) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as live:
        await live.recv()
        await live.session.update(session=session)  # type: ignore[arg-type]
        shown = (await live.recv()).session.audio.input.transcription
        assert (shown.languages, shown.keywords) == (given["languages"], given["keywords"])
        await live.input_audio_buffer.append(audio=base64.b64encode(LOUD.tobytes()).decode())
        await live.input_audio_buffer.commit()
        while (await live.recv()).type != "conversation.item.input_audio_transcription.completed":
            pass
        await live.session.update(session={**session, "audio": {"input": {"transcription": {"keywords": "UPI"}}}})  # type: ignore[arg-type]
        event = await live.recv()
        assert event.type == "error" and event.error.param == "keywords"
    assert gateway.turns[0]["languages"] == "hi,en"
    assert gateway.keywords == ["UPI", "Aadhaar, e-KYC"]
    assert [asked["language"] for asked in gateway.languages_asked] == ["hi", "en"]


async def test_a_gateway_that_is_away_does_not_stop_a_session_from_being_set_up() -> None:
    async def broken(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("away")

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(broken), base_url="http://gateway")
    await ToGateway(client).check(KEY, {"model": "whisper-1", "language": "tlh"})


async def test_an_unknown_key_gets_no_socket_and_a_known_one_no_more_than_its_share() -> None:
    async with running(Gateway(), sessions_a_key=1) as client:
        with pytest.raises(InvalidStatus, match="401"):
            async with client.with_options(api_key="sk-other").realtime.connect(extra_query={"intent": "x"}):
                pass
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as live:
            await live.recv()
            with pytest.raises(InvalidStatus, match="429"):
                async with client.realtime.connect(extra_query={"intent": "transcription"}):
                    pass


async def test_a_silent_client_is_closed() -> None:
    async with running(Gateway(), idle_s=0.1) as client, client.realtime.connect(extra_query={"intent": "x"}) as live:
        await live.recv()
        with pytest.raises(Exception, match=r"nothing came for 0\.1 s"):
            await live.recv()


# the session without a socket


class Events:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def send(self, event: dict[str, Any]) -> None:
        self.seen.append(event)

    def kinds(self) -> list[str]:
        return [e["type"] for e in self.seen]


async def never(audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
    raise Refused("not asked for")
    yield "", ""


@pytest.fixture
def events() -> Iterator[Events]:
    yield Events()


def session(events: Events, **limits: Any) -> Session:
    return Session(events.send, never, Loud, Limits(**limits))


@pytest.mark.parametrize(
    ("command", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"type": "response.create"}', "type"),
        (b'{"type": "input_audio_buffer.append", "audio": "***"}', "audio"),
        (b'{"type": "input_audio_buffer.append", "audio": "AAAA"}', "audio"),
        (b'{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/mp3"}}}}}', "format"),
        (b'{"type": "session.update", "session": {"audio": 1}}', "session.audio"),
        (b'{"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad"}}}', "turn_detection"),
        *(
            (b'{"type": "session.update", "session": {"turn_detection": {"type": "server_vad", %s}}}' % wrong, vad)
            for vad in ("turn_detection",)
            for wrong in (b'"threshold": 9', b'"threshold": 0', b'"silence_duration_ms": "Infinity"')
        ),
    ],
)
async def test_what_cannot_be_obeyed_is_answered_with_an_error(events: Events, command: bytes, param: str) -> None:
    await session(events).receive(command)
    (error,) = events.seen
    assert (error["type"], error["error"]["param"]) == ("error", param)


async def test_the_betas_form_of_settings_is_understood(events: Events) -> None:
    given = {
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "ta"},
        "turn_detection": None,
    }
    await session(events).receive(json.dumps({"type": "transcription_session.update", "session": given}))
    (updated,) = events.seen
    assert updated["type"] == "transcription_session.updated"
    shown = updated["session"]["audio"]["input"]
    assert shown["format"] == {"type": "audio/pcmu", "rate": 8000}
    assert (shown["transcription"]["language"], shown["turn_detection"]) == ("ta", None)


async def test_no_padding_is_a_wish_and_not_an_absence(events: Events) -> None:
    vad = '{"type": "server_vad", "prefix_padding_ms": 0, "silence_duration_ms": null}'
    await session(events).receive(f'{{"type": "session.update", "session": {{"turn_detection": {vad}}}}}')
    shown = events.seen[0]["session"]["audio"]["input"]["turn_detection"]
    assert (shown["prefix_padding_ms"], shown["silence_duration_ms"]) == (0, 500)


def append(samples: np.ndarray) -> bytes:
    return json.dumps({"type": "input_audio_buffer.append", "audio": encoded(samples)}).encode()


async def test_hours_of_silence_are_not_kept(events: Events) -> None:
    one = session(events)
    for _ in range(60):
        await one.receive(append(QUIET))
    assert len(one._kept) <= 48 * 1400
    assert events.seen == []


async def test_a_turn_without_end_is_cut_and_goes_on(events: Events) -> None:
    one = session(events, most_turn_s=2.0)
    for _ in range(7):
        await one.receive(append(LOUD))
    assert events.kinds().count("input_audio_buffer.committed") >= 2
    assert events.kinds().count("input_audio_buffer.speech_started") == 1


async def test_with_too_many_turns_unanswered_nothing_more_is_read(events: Events) -> None:
    one = session(events, most_waiting=1)
    sound = append(np.concatenate([LOUD, QUIET]))
    await one.receive(sound)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await one.receive(sound)


async def test_audio_without_a_commit_is_bounded(events: Events) -> None:
    one = session(events, most_turn_s=2.0)
    await one.receive(b'{"type": "session.update", "session": {"turn_detection": null}}')
    for _ in range(3):
        await one.receive(append(LOUD))
    assert events.seen[-1]["error"]["code"] == "input_audio_buffer_full"


async def test_silence_without_a_commit_is_forgotten_and_what_is_said_after_it_is_a_turn(events: Events) -> None:
    """Pipecat sends everything it hears and commits when its own detector says so: silence is no error there."""
    asked: list[int] = []

    async def count(audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
        asked.append(len(audio))
        yield "done", "text"

    one = Session(events.send, count, Loud, Limits(most_turn_s=5.0))
    working = asyncio.create_task(one.work())
    await one.receive(b'{"type": "session.update", "session": {"turn_detection": null}}')
    for piece in [QUIET] * 9 + [LOUD] + [QUIET] * 3:
        await one.receive(append(piece))
    await one.receive(b'{"type": "input_audio_buffer.commit"}')
    await one.finish()
    for _ in range(20):
        await one.receive(append(QUIET))
    working.cancel()
    assert [e for e in events.seen if e["type"] == "error"] == []
    assert 4.2 * 48000 <= asked[0] <= 5.0 * 48000  # a second of sound, the padding before it and the silence after it
    assert one.received_ms == 33000
