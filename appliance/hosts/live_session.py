"""One live session: OpenAI's Realtime transcription protocol over a socket, turns through the gateway.

What it is: commands in, events out. A turn ends by server VAD or by ``input_audio_buffer.commit``; its audio goes to
the gateway's ``/v1/audio/transcriptions`` with the caller's own key, so that routing, limits and the ledger are those
of every request. Turns are answered in order, one at a time; ``live_partial`` tells of one that still goes on, and
``live_ahead`` begins with the last pass before the silence that ends the turn is over.
What it refuses to be: unbounded. Audio without a turn is forgotten but for the padding; a turn is cut at
``most_turn_s``; with ``most_waiting`` turns unanswered nothing more is read from the socket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance.hosts.live_ahead import Ahead, Pass
from appliance.hosts.live_audio import ForDetector, Turns, VadSettings
from appliance.hosts.live_pace import Pace
from appliance.hosts.live_partial import Partial
from appliance.hosts.live_settings import Chosen, Refused, object_of, updated

Send = Callable[[dict[str, Any]], Awaitable[None]]
_DELTAS = "conversation.item.input_audio_transcription"
_LEAST_MS = 100
_SILENCE_KEPT_MS = 2000


class Listening(Protocol):
    """A voice detector with the memory of one session."""

    def frame(self, samples: NDArray[np.int16]) -> float:
        """Speech probability of the next 512 samples at 16 kHz."""
        ...


class Transcribe(Protocol):
    """A turn's way to its text: pieces, then the whole as the last. Raises Refused."""

    def __call__(self, audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
        """``("delta", piece)`` any number of times, ``("language", code)`` where it was detected, ``("done", text)``
        once. ``final``: the turn is over.
        """
        ...


class Limits(Struct, frozen=True):
    """``most_turn_s`` of audio in a turn, ``most_waiting`` turns unanswered, ``partial_s`` between passes (0: none),
    ``ahead_ms`` of quiet before the last pass begins (0: once the turn is over).
    """

    most_turn_s: float = 60.0
    most_waiting: int = 4
    partial_s: float = 1.0
    ahead_ms: float = 100.0


class _Turn(Struct):
    id: str
    audio: bytes
    fields: dict[str, str]
    said: str
    ahead: Pass | None


class Session:
    """The state of one. ``send`` writes an event; ``listening`` makes a fresh detector; ``pace`` is all sessions'.

    ``check`` raises Refused where nobody hears the language of a turn's fields.
    """

    def __init__(
        self,
        send: Send,
        transcribe: Transcribe,
        listening: Callable[[], Listening],
        limits: Limits,
        new_id: Callable[[str], str] = lambda prefix: f"{prefix}_{secrets.token_hex(12)}",
        pace: Pace | None = None,
        check: Callable[[dict[str, str]], Awaitable[None]] | None = None,
    ) -> None:
        self._write = send
        pace = pace or Pace()
        self._transcribe: Transcribe = pace.paced(transcribe)
        self._check = check
        self._listening = listening
        self._limits = limits
        self._new_id = new_id
        self.id = new_id("sess")
        self._chosen = Chosen()
        self._partial = Partial(self._transcribe, self._say, limits.partial_s, pace.free)
        self._ahead = Ahead(self._transcribe, limits.ahead_ms)
        self._kept = bytearray()
        self._kept_from = 0  # bytes of the session that came before the kept ones
        self._before_ms = 0.0  # audio that came before the buffer was last cleared
        self._spoken_from: int | None = None  # where somebody began to speak, where turns end by commits
        self._item = ""
        self._previous: str | None = None
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue(limits.most_waiting)
        self._renew()

    @property
    def received_ms(self) -> int:
        """How much audio has arrived, for a client that resumes."""
        return round(self._before_ms + self._chosen.format.ms(self._kept_from + len(self._kept)))

    @property
    def shown(self) -> dict[str, Any]:
        """The session object of the protocol."""
        return self._chosen.shown(self.id)

    async def send(self, kind: str, **fields: Any) -> None:
        """One event."""
        await self._write({"type": kind, "event_id": self._new_id("event"), **fields})

    async def begin(self) -> None:
        """What the protocol begins with."""
        await self.send("session.created", session=self.shown)

    async def work(self) -> None:
        """Transcribe turns as they are committed, until cancelled. Raises Refused once the key is no longer known."""
        try:
            while True:
                turn = await self._turns.get()
                await self._answer(turn)
                self._turns.task_done()
        finally:
            await self._partial.end()
            left = [await self._ahead.end(None)]
            while not self._turns.empty():
                left.append(self._turns.get_nowait().ahead)
            for one in filter(None, left):
                await one.drop()

    async def finish(self) -> None:
        """No more audio comes: what was being said is a turn. Returns when all turns are answered."""
        if self._chosen.vad is None or self._turn_state.speaking:
            try:
                await self._commit(None)
            except Refused:
                pass  # too little to be a turn
        await self._turns.join()

    async def receive(self, raw: str | bytes) -> None:
        """One command. What cannot be obeyed is answered with an error event."""
        event_id = None
        try:
            command = msgspec.json.decode(raw)
            if not isinstance(command, dict):
                raise Refused("a command is a JSON object with a type")
            event_id = command.get("event_id")
            await self.obey(str(command.get("type")), command)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await self.refuse(Refused("the command is not valid JSON"), None)
        except Refused as e:
            await self.refuse(e, event_id)

    async def obey(self, kind: str, command: dict[str, Any]) -> None:
        """One command, decoded. Raises Refused."""
        match kind:
            case "input_audio_buffer.append":
                await self._append(command.get("audio"))
            case "input_audio_buffer.commit":
                await self._commit(None)
                self._turn_state.speaking = False  # what goes on being said is another turn
            case "input_audio_buffer.clear":
                await self._start_over()
                await self.send("input_audio_buffer.cleared")
            case "session.update" | "transcription_session.update":
                await self._update(object_of(command.get("session"), "session"))
                await self.send(kind.replace("update", "updated"), session=self.shown)
            case _:
                raise Refused(f"{kind[:64]!r} is no command of a transcription session", "type", "unknown_command")

    async def refuse(self, e: Refused, event_id: Any) -> None:
        """An error event."""
        error = {"type": "invalid_request_error", "code": e.code, "message": str(e), "param": e.param or None}
        await self.send("error", error={**error, "event_id": event_id if isinstance(event_id, str) else None})

    async def _update(self, session: dict[str, Any]) -> None:
        old, new = self._chosen, updated(self._chosen, session)
        if self._check is not None and new.fields != old.fields and {"language", "languages"} & set(new.fields):
            await self._check(new.fields)
        if (old.format, old.vad) != (new.format, new.vad):
            await self._start_over()
        self._chosen = new
        self._renew()

    async def _start_over(self) -> None:
        """The buffer is empty and nobody speaks."""
        await self._partial.end()
        await self._ahead.end(None)
        self._before_ms += self._chosen.format.ms(self._kept_from + len(self._kept))
        self._kept.clear()
        self._kept_from = 0
        self._spoken_from = None
        self._item = ""
        self._renew()

    def _renew(self) -> None:
        """A fresh detector where the buffer is new."""
        if self._kept_from or self._kept:
            return
        self._detector = self._listening()
        self._frames = ForDetector(self._chosen.format.rate)
        self._turn_state = Turns(self._chosen.vad or VadSettings())

    # audio

    async def _append(self, audio: Any) -> None:
        try:
            data = base64.b64decode(audio, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise Refused("'audio' is not base64", "audio") from None
        form = self._chosen.format
        if len(data) % form.width:
            raise Refused("'audio' ends inside a sample; send whole samples", "audio")
        self._kept += data
        if self._chosen.vad is None:
            await self._heard_without_turns(data)
            return
        for frame in self._frames.frames(form.samples(data)):
            turned = self._turn_state.frame(self._detector.frame(frame))
            if turned is not None:
                await self._turned(*turned)
        await self._bound()
        if self._turn_state.speaking:
            heard_s = form.ms(len(self._kept)) / 1000
            quiet_ms, spoken_ms = self._turn_state.quiet_ms, self._turn_state.spoken_ms
            if await self._ahead.heard(quiet_ms, spoken_ms, heard_s, self._so_far):
                await self._partial.pause()
            elif self._partial.due(heard_s):
                self._partial.start(self._item, bytes(self._kept), heard_s, self._chosen.described())

    async def _heard_without_turns(self, data: bytes) -> None:
        """Turns end by commits: silence that nobody ends is forgotten, speech that nobody ends is refused."""
        form, most_ms = self._chosen.format, self._limits.most_turn_s * 1000
        for frame in self._frames.frames(form.samples(data)):
            turned = self._turn_state.frame(self._detector.frame(frame))
            if turned is not None and turned[0] == "started" and self._spoken_from is None:
                self._spoken_from = form.size(turned[1])
        if form.ms(len(self._kept)) <= most_ms:
            return
        newest = self._kept_from + len(self._kept) - form.size(_SILENCE_KEPT_MS)
        self._forget(newest if self._spoken_from is None else min(newest, self._spoken_from))
        if form.ms(len(self._kept)) > most_ms:
            await self._start_over()
            raise Refused(
                f"more than {self._limits.most_turn_s:g} s came without a commit and were dropped; commit earlier",
                "audio",
                "input_audio_buffer_full",
            )

    def _so_far(self) -> tuple[bytes, dict[str, str]]:
        """The turn's audio until now, and the fields of its form."""
        return bytes(self._kept), self._chosen.described()

    async def _turned(self, what: str, at_ms: float) -> None:
        size = self._chosen.format.size(at_ms)
        if what == "started":
            self._item = self._new_id("item")
            self._forget(size)
            at = {"audio_start_ms": round(self._before_ms + at_ms), "item_id": self._item}
            await self.send("input_audio_buffer.speech_started", **at)
        else:
            at = {"audio_end_ms": round(self._before_ms + at_ms), "item_id": self._item}
            await self.send("input_audio_buffer.speech_stopped", **at)
            await self._commit(size)

    async def _bound(self) -> None:
        """Outside a turn the padding is enough; a turn that goes on too long is cut, and goes on as the next."""
        form = self._chosen.format
        vad = self._chosen.vad or VadSettings()
        if not self._turn_state.speaking:
            keep = form.size(vad.prefix_padding_ms + 1000)
            self._forget(self._kept_from + len(self._kept) - keep)
        elif form.ms(len(self._kept)) > self._limits.most_turn_s * 1000:
            await self._commit(self._kept_from + len(self._kept))
            self._item = self._new_id("item")

    def _forget(self, before: int) -> None:
        """Drop what came before byte ``before`` of the buffer."""
        gone = min(max(0, before - self._kept_from), len(self._kept))
        del self._kept[:gone]
        self._kept_from += gone

    async def _commit(self, until: int | None) -> None:
        """The kept audio (up to byte ``until`` of the buffer) is a turn. Waits while too many are unanswered."""
        size = len(self._kept) if until is None else min(max(0, until - self._kept_from), len(self._kept))
        if self._chosen.format.ms(size) < _LEAST_MS:
            raise Refused("there is less than 100 ms of audio to commit", "", "input_audio_buffer_commit_empty")
        audio = bytes(self._kept[:size])
        self._forget(self._kept_from + size)
        said = await self._partial.end()
        ahead = await self._ahead.end(self._turn_state.spoken_ms)
        turn = _Turn(self._item or self._new_id("item"), audio, self._chosen.described(), said, ahead)
        self._item, self._spoken_from = "", None
        await self.send("input_audio_buffer.committed", previous_item_id=self._previous, item_id=turn.id)
        self._previous = turn.id
        await self._turns.put(turn)

    # answers

    async def _say(self, item: str, piece: str) -> None:
        await self.send(f"{_DELTAS}.delta", item_id=item, content_index=0, delta=piece)

    async def _whole(self, turn: _Turn) -> AsyncIterator[tuple[str, str]]:
        """The turn's last pass: the one that began ahead, or one that begins now. Raises Refused."""
        if turn.ahead is not None:
            begun = False
            try:
                async for event in turn.ahead.events():
                    begun = True
                    yield event
                return
            except Refused as e:
                if begun:
                    raise
                self._ahead.refused(e)  # it may have stood in the way of the turn before
        async for event in self._transcribe(turn.audio, turn.fields, True):
            yield event

    async def _answer(self, turn: _Turn) -> None:
        at: dict[str, Any] = {"item_id": turn.id, "content_index": 0}
        seconds = int(turn.fields["sample_rate"]) * (2 if turn.fields["input_audio_codec"] == "pcm_s16le" else 1)
        text, said = "", turn.said
        languages: list[dict[str, str]] = []
        try:
            async for what, piece in self._whole(turn):
                if what == "delta":
                    text += piece
                    if text.startswith(said) and len(text) > len(said):
                        await self._say(turn.id, text[len(said) :])
                        said = text
                elif what == "language":
                    languages.append({"code": piece})
                else:
                    found = {"languages": languages} if languages or "language" not in turn.fields else {}
                    usage = {"type": "duration", "seconds": round(len(turn.audio) / seconds, 3)}
                    await self.send(f"{_DELTAS}.completed", **at, transcript=piece, usage=usage, **found)
        except Refused as e:
            error = {"type": "invalid_request_error", "code": e.code, "message": str(e), "param": e.param or None}
            await self.send(f"{_DELTAS}.failed", **at, error=error)
            if e.status == 401:
                raise


__all__ = ["Limits", "Listening", "Refused", "Send", "Session", "Transcribe"]
