"""Exotel's media streams: a telephone call's socket as the feeder of a live session.

What it is: their events (``connected``, ``start``, ``media``, ``dtmf``, ``mark``, ``clear``, ``stop``) as commands of
the session. Nothing is spoken back: their socket carries sound only, so what was said is for listeners, who join the
call with ``/v1/realtime?call_id=…`` on the same key.
What it refuses to be: a voice bot, or strict about what Exotel may add: events and fields not known here are ignored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from appliance.hosts.live_held import Held
from appliance.hosts.live_settings import Refused

_RATES = (8000, 16000, 24000)
_MOST_MEDIA_BYTES = 100 * 1024
_SETTINGS = ("model", "language", "prompt")


def key_of(authorization: str) -> str:
    """The key of ``wss://name:KEY@host``, which arrives as Basic; of either half where the other is empty."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        name, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password or name


class Stream:
    """One call's socket. ``open_session(call_id)`` gives its session; ``query`` is the URL's, ``now`` Unix seconds."""

    def __init__(self, open_session: Callable[[str], Held], query: Mapping[str, str], now: Callable[[], float]) -> None:
        self._open = open_session
        self._query = query
        self._now = now
        self.held: Held | None = None
        self.stopped = False

    async def receive(self, raw: str | bytes) -> None:
        """One event. Raises Refused where the stream cannot go on, Full from ``open_session``."""
        event = _object(raw)
        name = event.get("event")
        if name == "start" and self.held is None:
            await self._start(event)
        elif self.held is None:
            return  # "connected", or sound before anybody said whose it is
        elif name == "media":
            await self._media(self.held, _inner(event, "media"))
        elif name == "dtmf":
            digit = _inner(event, "dtmf").get("digit")
            await self.held.session.send(
                "input_audio_buffer.dtmf_event_received", event=str(digit)[:8], received_at=int(self._now())
            )
        elif name == "clear":
            await self.held.receive(b'{"type":"input_audio_buffer.clear"}')
        elif name == "stop":
            self.stopped = True

    async def _start(self, event: dict[str, Any]) -> None:
        start = _inner(event, "start")
        call_id = str(start.get("call_sid") or start.get("stream_sid") or event.get("stream_sid") or "")
        if not call_id or len(call_id) > 128:
            raise Refused("the start event names no call_sid")
        session = self._settings(start)
        self.held = held = self._open(call_id)
        await held.session.obey("session.update", {"session": session})

    def _settings(self, start: dict[str, Any]) -> dict[str, Any]:
        given = _inner(start, "media_format")
        encoding = str(given.get("encoding", "")).lower()
        kind = "audio/pcm"
        if "alaw" in encoding or "pcma" in encoding:
            kind = "audio/pcma"
        elif "ulaw" in encoding or "pcmu" in encoding:
            kind = "audio/pcmu"
        asked = str(given.get("sample_rate") or self._query.get("sample-rate") or 8000)
        if not asked.isdigit() or int(asked) not in _RATES:
            raise Refused(f"the sample rate is {asked[:16]!r}; Exotel's are 8000, 16000 and 24000")
        custom = {**self._query, **_inner(start, "custom_parameters")}
        chosen = {name: str(custom[name]) for name in _SETTINGS if custom.get(name)}
        input_ = {"format": {"type": kind, "rate": int(asked)}, "transcription": chosen}
        return {"type": "transcription", "audio": {"input": input_}}

    async def _media(self, held: Held, media: dict[str, Any]) -> None:
        if media.get("track") == "outbound":
            return  # what the caller hears
        payload = media.get("payload")
        if not isinstance(payload, str) or len(payload) > _MOST_MEDIA_BYTES * 4 // 3 + 4:
            raise Refused(f"a media event holds base64 of at most {_MOST_MEDIA_BYTES} bytes")
        await held.receive(msgspec.json.encode({"type": "input_audio_buffer.append", "audio": payload}))


def _object(raw: str | bytes) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("an event is not valid JSON") from None
    if not isinstance(event, dict):
        raise Refused("an event is a JSON object")
    return event


def _inner(event: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name)
    return found if isinstance(found, dict) else {}
