"""The route ``pivot``: the customer's turns translated, the model's answer translated back as it comes.

What it is: ``Pivoted``, a source whose events are the model's in the customer's language and script, a sentence at a
time. What it costs the ledger is three calls of one attempt: translating in, the model, translating back.
What it refuses to be: the translation of texts (``translation.pivot``), or a verdict on it. What fails here is an
engine that failed: the plan's next attempt answers without translating.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.engines import Call
from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineUnavailable
from appliance.languages import ENGLISH
from appliance.pipeline.asking import Planning, ask
from appliance.pipeline.bodies import body_of
from appliance.pipeline.sources import Several
from appliance.pipeline.vocabulary import Kept, Vocabulary
from appliance.pipeline.work import Run, Work
from appliance.translation.crossing import Crossing
from appliance.translation.pivot import Pivot, Voice, heard
from appliance.translation.recent import Recent
from appliance.types import Answer, Attempt, CallRecord, Data, End, Event, Status, ToolUse, Usage

TRANSLATE = "/v1/translate"
_encoder = msgspec.json.Encoder()


class Pivoted(Several):
    """``fields`` are the request's, ``tag`` the customer's language, ``translator`` the model that translates.

    ``recent`` holds translations of turns, ``vocabulary`` the tenants' own words; ``crossing`` is told what was lost.
    """

    def __init__(
        self,
        rooms: Planning,
        run: Run,
        attempt: Attempt,
        work: Work,
        fields: dict[str, Any],
        tag: str,
        translator: str,
        recent: Recent,
        vocabulary: Vocabulary | None,
        crossing: Crossing,
    ) -> None:
        super().__init__(rooms, run)
        self._rooms = rooms
        self._attempt, self._work, self._fields, self._translator = attempt, work, fields, translator
        self._ways: dict[bool, CallRecord] = {}
        voice = heard(fields["messages"]) or Voice(tag)
        if voice.tag == ENGLISH:
            voice = Voice(tag)
        self._voice, self._recent, self._vocabulary, self._crossing = voice, recent, vocabulary, crossing
        self._memory: Kept | None = None

    def over(self, status: Status) -> tuple[CallRecord, ...]:
        """What was asked before, in, the model, and back."""
        back = self._ways.get(False)
        self.calls = [*self.calls, *([back] if back is not None else [])]
        return super().over(status)

    async def events(self) -> AsyncGenerator[Event]:
        """The model's answer as the customer reads it."""
        pivot = await self._crossed()
        inward = await pivot.inward(self._fields["messages"])
        if (into := self._ways.pop(True, None)) is not None:
            self.calls.append(into)
        entry = self.rooms.registry.entries[self._attempt.engine]
        request, work, model = self.run.admission.request, self._work, self._attempt.model
        salt = request.key.tenant.cache_salt if entry.salted else None
        body = body_of({**self._fields, "messages": inward.messages}, model, salt)
        call = Call(work.path, model, body, work.stream, 1, work.keep_usage, work.header, request.id)
        try:
            async with aclosing(self.streamed(entry, call)) as events:
                if not work.stream:
                    async for event in events:
                        if isinstance(event, End):
                            event = await self._remembered(await self._whole(pivot, event))
                        yield event
                    return
                async with aclosing(self._back(pivot, events)) as translated:
                    async for event in translated:
                        yield await self._remembered(event) if isinstance(event, End) else event
        except ApplianceError as e:
            e.partial = None  # the model's words are not what the customer has read
            raise

    async def _crossed(self) -> Pivot:
        """The way both ways, with the tenant's own words where it has some."""
        assert self.run.admitted is not None
        tenant, voice = self.run.admission.request.key.tenant, self._voice
        more: dict[str, Any] = {}
        scope = ""
        if self._vocabulary is not None:
            words = await self._vocabulary.words(tenant.id, voice.tag)
            self._memory = self._vocabulary.memory(tenant, words, self.run.admitted.conversation_id)
            more = {"terms_in": words.inward, "terms_out": words.outward, "memory": self._memory}
            scope = words.version
        cache, crossing = self._recent.of(tenant.id, scope), self._crossing
        return Pivot(self._translate, voice, cache, to_native=self._to_native, crossing=crossing, **more)

    async def _remembered(self, end: End) -> End:
        """The answer is whole: what was made for it is kept."""
        if self._memory is not None:
            await self._memory.flush()
        return end

    async def _whole(self, pivot: Pivot, end: End) -> End:
        try:
            body = msgspec.json.decode(end.body)
            message = body["choices"][0]["message"]
            content, calls = message.get("content") or "", message.get("tool_calls") or []
        except (msgspec.DecodeError, KeyError, IndexError, TypeError):
            raise EngineFailed("the engine's answer is not the JSON of a completion") from None
        text = (await pivot.structured(content)).text if content else ""
        if content:
            message["content"] = text
        for one in calls:
            one["function"]["arguments"] = await pivot.called(one["function"]["arguments"])
        tools = tuple(ToolUse(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in calls)
        return replace(end, body=_encoder.encode(body), answer=Answer(text, tools))

    async def _back(self, pivot: Pivot, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        stream = _Back(pivot, structured="response_format" in self._fields)
        async for event in events:
            if isinstance(event, End):
                yield replace(event, answer=await stream.answer())
            elif out := await stream.feed(event.body):
                yield Data(out)

    async def _translate(self, sentences: Sequence[str], source: str, target: str) -> list[str]:
        return await self._asked([{"text": text, "source": source} for text in sentences], target, target == ENGLISH)

    async def _to_native(self, texts: Sequence[str], tag: str) -> list[str]:
        items = [{"text": text, "source": f"{tag[:3]}_Latn"} for text in texts]
        return await self._asked(items, tag, True, digits="source")

    async def _asked(self, items: list[dict[str, str]], target: str, inward: bool, **more: str) -> list[str]:
        deadline_s = self.run.remaining_s(self._work.deadline_s)
        body = _encoder.encode({"items": items, "target": target, "deadline_s": deadline_s, **more})
        keep = partial(self._keep, inward)
        try:
            raw = await ask(self._rooms, self.run, self._work.deadline_s, self._translator, TRANSLATE, "", body, keep)
            made = [str(one["text"]) for one in msgspec.json.decode(raw)["translations"]]
        except DeadlineExceeded:
            raise
        except ApplianceError as e:  # a language it does not know, a full queue: others can answer without it
            raise EngineUnavailable(f"the translation engine cannot take this: {e.message}", code=e.code) from None
        except (msgspec.DecodeError, KeyError, TypeError):
            raise EngineFailed("the translation engine's answer is not a result object") from None
        if len(made) != len(items):
            raise EngineFailed("the translation engine answered with another number of texts than it was asked for")
        return made

    def _keep(self, inward: bool, call: CallRecord) -> None:
        """All calls of one way are one: a stream makes one a sentence."""
        old = self._ways.get(inward)
        self._ways[inward] = call if old is None else _together(old, call)


class _Back:
    """One streamed answer on its way back."""

    def __init__(self, pivot: Pivot, structured: bool) -> None:
        self._pivot = pivot
        self._answer = None if structured else pivot.answer()
        self._held: list[str] = []
        self._text = ""
        self._tools: dict[int, dict[str, Any]] = {}

    async def feed(self, body: bytes) -> bytes:
        """Whole events in, whole events out."""
        out = []
        for event in body.split(b"\n\n"):
            if event.startswith(b"data:"):
                out += [_event(chunk) for chunk in await self._chunks(msgspec.json.decode(event[5:]))]
        return b"".join(out)

    async def answer(self) -> Answer:
        """What the customer read; it is remembered with what the model wrote."""
        if self._answer is not None:
            self._text = (await self._answer.whole()).text
        tools = tuple(
            ToolUse(call.get("id") or "", call["function"].get("name") or "", call["function"]["arguments"])
            for _, call in sorted(self._tools.items())
        )
        return Answer(self._text, tools)

    async def _chunks(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        if not chunk.get("choices"):
            return [chunk]
        choice = chunk["choices"][0]
        delta = choice.get("delta") or {}
        said = await self._said(delta.pop("content", None) or "")
        for call in delta.pop("tool_calls", None) or ():
            self._collect(call)
        if (finish := choice.get("finish_reason")) is None:
            opens = "role" in delta
            if opens:
                delta["content"] = said
            return [chunk] if opens or delta else _content(chunk, said)
        said += await self._rest()
        tools = await self._called()
        choice["finish_reason"] = None
        if said:
            delta["content"] = said
        if tools:
            delta["tool_calls"] = tools
        choice["delta"] = delta
        last = {**chunk, "choices": [{**choice, "delta": {}, "finish_reason": finish}]}
        return [chunk, last] if delta else [last]

    async def _said(self, delta: str) -> str:
        if self._answer is None:
            self._held.append(delta)
            return ""
        return await self._answer.push(delta) if delta else ""

    async def _rest(self) -> str:
        if self._answer is not None:
            return await self._answer.end()
        original = "".join(self._held)
        self._text = (await self._pivot.structured(original)).text if original else ""
        return self._text

    def _collect(self, call: dict[str, Any]) -> None:
        """Id and name come with the first piece, arguments in many."""
        index, function = call.get("index", 0), call.get("function") or {}
        known = self._tools.get(index)
        if known is None:
            known = self._tools[index] = {**call, "function": {**function, "arguments": ""}}
        known["function"]["arguments"] += function.get("arguments") or ""

    async def _called(self) -> list[dict[str, Any]]:
        for call in self._tools.values():
            call["function"]["arguments"] = await self._pivot.called(call["function"]["arguments"])
        return [call for _, call in sorted(self._tools.items())]


def _content(chunk: dict[str, Any], said: str) -> list[dict[str, Any]]:
    if not said:
        return []
    return [{**chunk, "choices": [{**chunk["choices"][0], "delta": {"content": said}}]}]


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encoder.encode(chunk) + b"\n\n"


def _together(one: CallRecord, other: CallRecord) -> CallRecord:
    u, v = one.usage, other.usage
    usage = Usage(
        u.prompt_tokens + v.prompt_tokens,
        u.cached_tokens + v.cached_tokens,
        u.completion_tokens + v.completion_tokens,
        u.audio_s + v.audio_s,
        u.thinking_tokens + v.thinking_tokens,
        u.characters + v.characters,
    )
    status = one.status if one.status is not Status.OK else other.status
    total_ms, work_ns = one.total_ms + other.total_ms, one.work_ns + other.work_ns
    return replace(one, status=status, usage=usage, total_ms=total_ms, work_ns=work_ns)
