"""Sessions over real sockets that are cut, resumed, listened to and heard while they go on; and Exotel's streams."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import openai
import pytest
from hosts.test_live import DONE, KEY, LOUD, QUIET, Gateway, encoded, running, until
from openai.types.websocket_reconnection import ReconnectingEvent, ReconnectingOverrides
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from appliance.api import vouched
from appliance.hosts import live_gateway
from appliance.hosts.live_partial import agreed

DELTA = "conversation.item.input_audio_transcription.delta"
WORDS = ["the", "parcel", "that", "you", "sent", "has", "not", "arrived", "at", "all"]


def address(client: openai.AsyncOpenAI, path: str = "/realtime?intent=transcription") -> str:
    return str(client.base_url).rstrip("/").replace("http", "ws") + path


def joined(client: openai.AsyncOpenAI, path: str = "/realtime?intent=transcription", **headers: str) -> connect:
    return connect(address(client, path), additional_headers=headers or {"authorization": f"Bearer {KEY}"})


async def event(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while (found := json.loads(await socket.recv()))["type"] != kind:
        pass
    return dict(found)


def spoken(size: int) -> str:
    """A word for each quarter of a second (24 kHz), as a recogniser hears more of a turn that grows."""
    return " ".join(WORDS[: size // 12000])


async def test_what_two_passes_agree_on_is_said_while_the_turn_goes_on() -> None:
    gateway = Gateway()
    gateway.says = spoken
    async with running(gateway, partial_s=0.5) as client, joined(client) as socket:
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": encoded(LOUD)}))
        await gateway.asked.wait()
        assert gateway.turns[0]["bytes"] < 48000 * 1.4
        said: list[dict[str, Any]] = []
        while not said:
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": encoded(LOUD[:12000])}))
            try:
                async with asyncio.timeout(0.2):
                    said.append(await event(socket, DELTA))
            except TimeoutError:
                continue
        started = said[0]["item_id"]
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": encoded(QUIET)}))
        while True:
            got = json.loads(await socket.recv())
            if got["type"] == DELTA:
                said.append(got)
            if got["type"] == DONE:
                break
    assert {got["item_id"]} == {one["item_id"] for one in said} == {started}
    assert len(said) >= 2
    assert "".join(one["delta"] for one in said) == got["transcript"] == spoken(gateway.turns[-1]["bytes"])
    # only the turn itself goes before what others wait for
    assert gateway.headers[-1] == "vouched"
    assert set(gateway.headers[:-1]) == {""}


async def test_a_refused_pass_ends_the_passes_and_not_the_turn() -> None:
    gateway = Gateway()
    gateway.refuse, gateway.status = True, 429
    async with running(gateway, partial_s=0.2) as client, joined(client) as socket:
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": encoded(LOUD)}))
        await gateway.asked.wait()
        gateway.refuse = False
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": encoded(QUIET)}))
        assert (await event(socket, DONE))["transcript"]
        before = len(gateway.turns)
        await socket.send(
            json.dumps({"type": "input_audio_buffer.append", "audio": encoded(np.concatenate([LOUD, LOUD, QUIET]))})
        )
        assert (await event(socket, DONE))["transcript"] == f"turn {before + 1}"


@pytest.mark.parametrize(
    ("one", "other", "sure"),
    [
        ("", "my order is late", ""),
        ("my order", "my order is", "my"),
        ("my order is late", "my order is late today", "my order is"),
        ("my border is late", "my order is late today", "my"),
        ("मेरा ऑर्डर कहाँ है", "मेरा ऑर्डर कहाँ है भाई", "मेरा ऑर्डर कहाँ"),
    ],
)
def test_agreed_is_what_both_begin_with_but_for_the_last_word(one: str, other: str, sure: str) -> None:
    assert agreed(one.split(), other.split()) == sure


async def test_openais_client_reconnects_and_loses_nothing() -> None:
    gateway = Gateway()
    async with running(gateway) as client:
        seen: list[Any] = []

        def again(cut: ReconnectingEvent) -> ReconnectingOverrides:
            return {"extra_query": {"resume": seen[0].session.id, "after": seen[-1].event_id}}

        intent = {"intent": "transcription"}
        async with client.realtime.connect(extra_query=intent, on_reconnecting=again, initial_delay=0.01) as live:
            events = aiter(live)
            seen.append(await anext(events))
            gateway.go.clear()  # the turn is still being transcribed when the line breaks
            await live.input_audio_buffer.append(audio=encoded(np.concatenate([LOUD, QUIET])))
            await gateway.asked.wait()
            while seen[-1].type != "input_audio_buffer.committed":
                seen.append(await anext(events))
            live._connection.transport.abort()
            resumed = await anext(events)
            gateway.go.set()
            rest = [await anext(events), await anext(events)]
    assert resumed.type == "session.created"
    assert (resumed.session.id, resumed.resumed, resumed.received_ms) == (seen[0].session.id, True, 2000)
    assert [e.type for e in rest] == [DELTA, DONE]
    assert rest[-1].item_id == seen[-1].item_id


async def test_what_was_said_while_nobody_was_there_is_told_afterwards() -> None:
    gateway = Gateway()
    async with running(gateway) as client:
        async with joined(client) as first:
            created = await event(first, "session.created")
            gateway.go.clear()
            await first.send(
                json.dumps({"type": "input_audio_buffer.append", "audio": encoded(np.concatenate([LOUD, QUIET]))})
            )
            last = await event(first, "input_audio_buffer.committed")
            first.transport.abort()
        gateway.go.set()
        path = f"/realtime?resume={created['session']['id']}"
        async with joined(client, f"{path}&after={last['event_id']}") as second:
            assert json.loads(await second.recv())["resumed"] is True
            assert json.loads(await second.recv())["type"] == DELTA
            # the same session on a third socket: the second one is hung up
            async with joined(client, path) as third:
                kinds = [json.loads(await third.recv())["type"] for _ in range(3)]
                assert kinds[1].endswith("speech_started")  # all that is kept, where the caller names no event
                with pytest.raises(ConnectionClosed, match="taken up on another socket"):
                    while True:
                        await second.recv()
        with pytest.raises(InvalidStatus, match="404"):  # the third was closed cleanly, which ends a session
            async with joined(client, path):
                pass


async def test_nobody_elses_session_can_be_taken_up() -> None:
    gateway = Gateway()
    other = "sk-other"
    gateway.known = {KEY, other}
    async with running(gateway) as client, joined(client) as socket:
        session = (await event(socket, "session.created"))["session"]["id"]
        with pytest.raises(InvalidStatus, match="404"):
            async with joined(client, f"/realtime?resume={session}", authorization=f"Bearer {other}"):
                pass


async def test_a_session_that_waits_makes_room_for_a_new_one_of_its_key() -> None:
    async with running(Gateway(), sessions_a_key=1) as client:
        async with joined(client) as first:
            created = await event(first, "session.created")
            first.transport.abort()
            await first.wait_closed()
        for _ in range(100):  # until the server has noticed
            try:
                async with joined(client) as second:
                    await event(second, "session.created")
                    break
            except InvalidStatus:
                continue
        else:
            raise AssertionError("the cut session kept its place")
        with pytest.raises(InvalidStatus, match="404"):
            async with joined(client, f"/realtime?resume={created['session']['id']}"):
                pass


async def test_a_revoked_key_ends_its_session() -> None:
    gateway = Gateway()
    gateway.refuse, gateway.status = True, 401
    async with running(gateway) as client, joined(client) as socket:
        await socket.send(
            json.dumps({"type": "input_audio_buffer.append", "audio": encoded(np.concatenate([LOUD, QUIET]))})
        )
        with pytest.raises(ConnectionClosed, match="revoked"):
            while True:
                await socket.recv()


# Exotel

BASIC = {"authorization": "Basic " + base64.b64encode(f"exotel:{KEY}".encode()).decode()}
START = {
    "event": "start",
    "sequence_number": 1,
    "stream_sid": "s1",
    "start": {
        "stream_sid": "s1",
        "call_sid": "call-7",
        "account_sid": "a",
        "from": "+91999",
        "to": "+9180",
        "custom_parameters": {"language": "ta"},
        "media_format": {"encoding": "raw/slin", "sample_rate": "8000", "bit_rate": "128kbps"},
    },
}


def media(samples: np.ndarray, **more: Any) -> str:
    payload = base64.b64encode(samples.astype("<i2").tobytes()).decode()
    return json.dumps({"event": "media", "stream_sid": "s1", "media": {"payload": payload, "chunk": "1", **more}})


async def test_an_exotel_call_is_heard_by_openais_client() -> None:
    gateway = Gateway()
    async with running(gateway) as client, joined(client, "/realtime/exotel?model=m&sample-rate=8000", **BASIC) as call:
        await call.send(json.dumps({"event": "connected"}))
        await call.send(json.dumps(START))
        # sound of a second at 8 kHz, in Exotel's chunks of 100 ms; what the caller hears is not what he says
        for at in range(0, 8000, 800):
            await call.send(media(LOUD[at : at + 800]))
            await call.send(media(LOUD[:800], track="outbound"))
        await call.send(json.dumps({"event": "mark", "mark": {"name": "m"}}))
        await call.send(json.dumps({"event": "dtmf", "dtmf": {"digit": "5", "duration": "100"}}))
        await call.send(json.dumps({"event": "something new"}))
        async with asyncio.timeout(10):
            while True:
                try:
                    async with client.realtime.connect(call_id="call-7") as live:
                        assert (await live.recv()).type == "session.created"
                        heard = await until(live, "input_audio_buffer.dtmf_event_received")
                        await call.send(json.dumps({"event": "stop", "stop": {"reason": "callended"}}))
                        heard += await until(live, DONE)
                        break
                except InvalidStatus:  # the call is not there yet
                    continue
        (digit,) = [e for e in heard if e.type == "input_audio_buffer.dtmf_event_received"]
        assert digit.event == "5"
        assert heard[-1].transcript == "turn 1"
        with pytest.raises(ConnectionClosed):
            await call.recv()
        # who comes late still reads what was said
        async with client.realtime.connect(call_id="call-7") as late:
            (*_, done) = await until(late, DONE)
            assert done.transcript == "turn 1"
    turn = gateway.turns[0]
    assert (turn["language"], turn["model"], turn["sample_rate"]) == ("ta", "m", "8000")
    assert abs(turn["bytes"] - 16000) <= 3200


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (["{"], "not valid JSON"),
        (["[]"], "JSON object"),
        ([json.dumps({"event": "start", "start": {}})], "no call_sid"),
        (
            [json.dumps({"event": "start", "start": {"call_sid": "c", "media_format": {"sample_rate": "44100"}}})],
            "44100",
        ),
        ([json.dumps(START), json.dumps({"event": "media", "media": {"payload": 7}})], "base64"),
    ],
)
async def test_a_stream_that_makes_no_sense_is_closed_with_the_reason(events: list[str], why: str) -> None:
    async with running(Gateway()) as client, joined(client, "/realtime/exotel", **BASIC) as call:
        for one in events:
            await call.send(one)
        with pytest.raises(ConnectionClosed, match=why):
            await call.recv()


async def test_a_call_without_a_known_key_gets_no_socket() -> None:
    wrong = {"authorization": "Basic " + base64.b64encode(b"exotel:nobody").decode()}
    async with running(Gateway()) as client:
        for headers in (wrong, {"authorization": "Basic ***"}, {"x": "y"}):
            with pytest.raises(InvalidStatus, match="401"):
                async with joined(client, "/realtime/exotel", **headers):
                    pass
        with pytest.raises(InvalidStatus, match="404"):
            async with joined(client, "/realtime?call_id=none"):
                pass


async def test_a_gateway_that_is_away_is_not_a_key_that_is_wrong() -> None:
    gateway = Gateway()
    gateway.away = True
    async with running(gateway) as client:
        with pytest.raises(InvalidStatus, match="503"):
            async with joined(client):
                pass


def test_the_tokens_names_are_the_gateways() -> None:
    assert (vouched.HEADER.decode(), vouched.FILE) == (live_gateway.HEADER, live_gateway.FILE)


def test_only_who_reads_the_run_directory_is_vouched_for(tmp_path: Any) -> None:
    gateway = vouched.Vouched(tmp_path)
    assert not gateway.by("anything")
    token = live_gateway.fresh_token(tmp_path)
    assert (tmp_path / live_gateway.FILE).stat().st_mode & 0o777 == 0o600
    assert gateway.by(token)
    assert not gateway.by("")
    assert not gateway.by(token[:-1])
    fresh = live_gateway.fresh_token(tmp_path)
    assert gateway.by(fresh)
    assert not gateway.by(token)
