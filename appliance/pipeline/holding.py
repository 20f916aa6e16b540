"""An answer held back until it is judged: short ones whole, long ones by their start.

What it is: ``Holding``, the ``Hold`` of a chat attempt behind which something better is permitted. It collects what is
said, asks ``policy.answers`` what it looks like and ``policy.combine`` whether that is good enough, and lets an answer
out as it came, or with its JSON mended. What the judge alone asked the engine for (log-probabilities) is taken out.
What it refuses to be: there where nothing better is permitted. Such a stream is passed on from its first byte.
What it costs: each chunk is decoded once more while it is held, and written again where log-probabilities are taken
out; a judgement is some 0.5 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from appliance.pipeline.guarding import Guarding
from appliance.pipeline.reading import Topic
from appliance.pipeline.trial import Verdict
from appliance.policy import answers, combine
from appliance.policy.answers import Answered, Wanted
from appliance.policy.combine import Context
from appliance.policy.followup import FollowUp
from appliance.policy.logprobs import Token, tokens_of
from appliance.policy.parameters import Parameters
from appliance.policy.values import Judging
from appliance.translation.crossing import Crossing
from appliance.types import Answer, Decision, End, Reason, ToolUse, Usage

TOP_LOGPROBS = 2  # the best two are what a margin needs; vLLM's price grows with their number
_encoder = msgspec.json.Encoder()


class Judge(Struct, frozen=True):
    """What is judged with: parameters, the context of this request, the policy's version.

    ``crossing``: what a pivot's translations have lost so far, which is a fault of the answer like any other.
    """

    parameters: Parameters
    context: Context
    policy: str
    wanted: Wanted
    follow: Callable[[], FollowUp]
    cost: Callable[[Usage | None], int]
    guarding: Guarding
    strips: bool = False
    crossing: Crossing | None = None


class Holding:
    """One attempt's. ``record`` is given the decision."""

    def __init__(self, by: Judge, record: Callable[[Decision], None]) -> None:
        self._by = by
        self._record = record
        self._chunks: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._characters = 0
        self._tokens: list[Token] = []
        self._tools: dict[int, ToolUse] = {}
        self._looked = False

    def heard(self, body: bytes) -> Verdict | None:
        """A piece of a stream. A start that is bad enough is told at once, one that is good when all was held."""
        for chunk in _chunks(body):
            self._chunks.append(chunk)
            self._hear(chunk)
        judging: Judging = self._by.context.judging
        if self._tools or self._by.guarding.guards:
            return None  # a call is judged whole, and so is an answer whose figures are looked up
        if self._characters >= judging.hold_back and not self._looked:
            self._looked = True
            verdict = self._judged(self._start(), None, keep=self._characters >= judging.whole)
            if verdict.reason is not None or self._characters >= judging.whole:
                return verdict
        if self._characters >= max(judging.hold_back, judging.whole):
            return self._judged(self._start(), None)
        return None

    def ended(self, end: End) -> Verdict:
        """The whole answer, streamed or not."""
        if not self._chunks:
            return self._whole(end)
        tools = tuple(self._tools[index] for index in sorted(self._tools))
        answered = Answered("".join(self._text), end.finish_reason, tools, tuple(self._tokens))
        verdict = self._judged(answered, end)
        if verdict.end is not None and verdict.end.answer != end.answer and verdict.end.answer is not None:
            return replace(verdict, pieces=(self._rewritten(verdict.end.answer),))
        return verdict

    def shown(self, body: bytes) -> bytes:
        """A piece as its caller may see it."""
        if not self._by.strips:
            return body
        return b"".join(_event(_without_logprobs(chunk)) for chunk in _chunks(body))

    def _start(self) -> Answered:
        return Answered("".join(self._text), None, (), tuple(self._tokens), whole=False)

    def _hear(self, chunk: Mapping[str, Any]) -> None:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                self._text.append(text)
                self._characters += len(text)
            self._tokens += tokens_of(choice.get("logprobs"))
            for call in delta.get("tool_calls") or ():
                self._called(call)

    def _called(self, call: Mapping[str, Any]) -> None:
        index, function = call.get("index", 0), call.get("function") or {}
        old = self._tools.get(index, ToolUse("", "", ""))
        name, more = function.get("name") or "", function.get("arguments") or ""
        self._tools[index] = ToolUse(old.id or call.get("id") or "", old.name or name, old.arguments + more)

    def _judged(self, answered: Answered, end: End | None, keep: bool = True) -> Verdict:
        """``keep`` False: a commit is no decision yet, the rest is heard first."""
        by = self._by
        measured = answers.measure(answered, by.wanted)
        signals = measured.signals
        if by.crossing is not None and (share := by.crossing.share) > signals.entities_lost:
            signals = replace(signals, entities_lost=share)
        seen = combine.features(signals, by.follow())
        context = replace(by.context, cost_nusd=by.cost(None if end is None else end.usage))
        verdict = combine.judge(by.parameters, seen, context)
        if end is not None and verdict.reason is None and (why := by.guarding.finds(answered.text)):
            if context.alternative is not None:
                verdict = replace(verdict, verdict="escalate", reason=Reason.LOW_CONFIDENCE)
            elif by.guarding.strict:
                raise by.guarding.withheld(why)
        if keep or verdict.reason is not None:
            self._record(combine.decision(verdict, seen, context, by.policy, by.parameters))
        if end is not None and measured.answered is not answered:
            mended = measured.answered
            end = replace(end, answer=Answer(mended.text, mended.tools))
        return Verdict(end, verdict.reason)

    def _whole(self, end: End) -> Verdict:
        body = msgspec.json.decode(end.body)
        choice = body["choices"][0]
        said = end.answer or Answer("")
        tokens = tuple(tokens_of(choice.get("logprobs")))
        verdict = self._judged(Answered(said.content, end.finish_reason, said.tools, tokens), end)
        after = verdict.end or end
        changed = after.answer is not None and after.answer != end.answer
        if changed and after.answer is not None:
            _mend(choice["message"], after.answer)
        if self._by.strips:
            choice["logprobs"] = None
        if changed or self._by.strips:
            after = replace(after, body=_encoder.encode(body))
        return replace(verdict, end=after)

    def _rewritten(self, answer: Answer) -> bytes:
        """The held stream with its mended answer in one piece."""
        chunks = [_without_logprobs(chunk) if self._by.strips else chunk for chunk in self._chunks]
        opening = next(chunk for chunk in chunks if chunk.get("choices"))
        calls = [
            {"index": n, "id": t.id, "type": "function", "function": {"name": t.name, "arguments": t.arguments}}
            for n, t in enumerate(answer.tools)
        ]
        delta: dict[str, Any] = {"role": "assistant", "content": answer.content}
        if calls:
            delta["tool_calls"] = calls
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        out = [{**opening, "choices": [choice]}]
        for chunk in chunks:
            if not chunk.get("choices"):
                out.append(chunk)
            elif (finish := chunk["choices"][0].get("finish_reason")) is not None:
                out.append({**chunk, "choices": [{**chunk["choices"][0], "delta": {}, "finish_reason": finish}]})
        return b"".join(map(_event, out))


def wanted_of(topic: Topic, language: str | None, romanised: bool) -> Wanted:
    """What an answer to ``topic`` should be."""
    fields = topic.fields
    form = fields.get("response_format") or {}
    schema: Any = None
    if form.get("type") == "json_schema":
        schema = form["json_schema"].get("schema", True)
    elif form.get("type") == "json_object":
        schema = True
    tools = {t["function"]["name"]: t["function"].get("parameters") or {} for t in fields.get("tools") or ()}
    return Wanted(
        language=language,
        romanised=romanised,
        asked=topic.newest,
        schema=schema,
        tools=tools,
        own_limit=fields.get("max_tokens") is not None,
    )


def asking_logprobs(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` with the log-probabilities that a judge wants."""
    return {**fields, "logprobs": True, "top_logprobs": TOP_LOGPROBS}


def _mend(message: dict[str, Any], answer: Answer) -> None:
    if message.get("content") is not None:
        message["content"] = answer.content
    for call, tool in zip(message.get("tool_calls") or (), answer.tools, strict=True):
        call["function"]["arguments"] = tool.arguments


def _chunks(body: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event[5:]) for event in body.split(b"\n\n") if event.startswith(b"data:")]


def _without_logprobs(chunk: dict[str, Any]) -> dict[str, Any]:
    choices = [{**c, "logprobs": None} if c.get("logprobs") is not None else c for c in chunk.get("choices") or ()]
    return {**chunk, "choices": choices}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encoder.encode(chunk) + b"\n\n"
