"""Reads an OpenAI event stream without rewriting it.

What it is: a scanner that lets the engine's bytes through untouched, in the pieces they came in. Every event is
decoded (0.4 µs), so that broken JSON, an error object or a cut never reaches a caller as part of a good answer;
only the usage chunk that the gateway asked for itself, and ``[DONE]``, are taken out.
What it refuses to be: an encoder. What is passed on is what was read.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from appliance.errors import EngineFailed
from appliance.types import Answer, Partial, ToolUse, Usage

_EVENT_END = b"\n\n"
_MAX_EVENT_BYTES = 4 * 1024 * 1024


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    """A whole message, or a piece of one."""

    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    index: int = 0
    finish_reason: str | None = None
    delta: _Said | None = None
    message: _Said | None = None


class _Details(Struct):
    cached_tokens: int | None = 0
    audio_tokens: int | None = 0


class _Completion(Struct):
    reasoning_tokens: int | None = 0


class WireUsage(Struct):
    """The ``usage`` object of OpenAI-shaped answers, as far as it is metered."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Completion | None = None

    def usage(self) -> Usage:
        """The same figures in the appliance's own type."""
        details, written = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=(details.cached_tokens or 0) if details is not None else 0,
            completion_tokens=self.completion_tokens or 0,
            thinking_tokens=(written.reasoning_tokens or 0) if written is not None else 0,
            audio_tokens=(details.audio_tokens or 0) if details is not None else 0,
        )


class _Opening(Struct):
    id: str = ""
    created: int = 0
    model: str = ""


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: WireUsage | None = None
    error: Any = None


class WholeAnswer(Struct):
    """A complete JSON answer, as far as it has to be understood."""

    choices: list[_Choice]
    usage: WireUsage | None = None

    def answer(self) -> Answer | None:
        """What the first choice said; None for a legacy completion."""
        said = self.choices[0].message if self.choices else None
        if said is None:
            return None
        tools = tuple(_tool(call) for call in said.tool_calls or ())
        return Answer(said.content or "", tools)


def _tool(call: _ToolCall) -> ToolUse:
    function = call.function or _Function()
    return ToolUse(call.id or "", function.name or "", function.arguments or "")


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_opening_decoder = msgspec.json.Decoder(_Opening)
whole_decoder = msgspec.json.Decoder(WholeAnswer)


class Scanner:
    """State of one stream. Feed pieces; what comes back may be passed on."""

    def __init__(self, choices: int, keep_usage: bool) -> None:
        self._wanted = choices
        self._keep_usage = keep_usage
        self._tail = b""
        self._finished: dict[int, str] = {}
        self._usage: WireUsage | None = None
        self._content: list[str] = []
        self._tools: dict[int, ToolUse] = {}
        self._chat = False
        self._opening = b""
        self._passed = 0  # pieces of content that have been given on
        self.done = False

    def feed(self, piece: bytes) -> bytes:
        """Whole events of ``piece``, without the usage chunk that only the gateway wanted, without [DONE].

        Raises EngineFailed for an error object, an event that is not JSON, or one without end.
        """
        if self._tail:
            piece = self._tail + piece
            self._tail = b""
        if not piece.endswith(_EVENT_END):
            piece, self._tail = self._split(piece)
        events = piece.split(_EVENT_END)
        events.pop()  # what follows the last end is empty
        kept = [event for event in events if self._keep(event)]
        self._passed = len(self._content)
        if len(kept) == len(events):
            return piece
        return b"".join(event + _EVENT_END for event in kept)

    def _split(self, piece: bytes) -> tuple[bytes, bytes]:
        if b"\r\n" in piece:  # allowed by the specification, written by some proxies; ends are ours to choose
            piece = piece.replace(b"\r\n", b"\n")
        cut = piece.rfind(_EVENT_END) + len(_EVENT_END) if _EVENT_END in piece else 0
        if len(piece) - cut > _MAX_EVENT_BYTES:
            raise EngineFailed("the engine sent a stream event larger than 4 MiB")
        return piece[:cut], piece[cut:]

    def _keep(self, event: bytes) -> bool:
        data = event[5:].strip() if event.startswith(b"data:") and b"\n" not in event else _data_of(event)
        if not data:  # a comment, a keep-alive
            return True
        if data == b"[DONE]":
            self.done = True
            return False
        try:
            chunk = _chunk_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise EngineFailed("the engine sent a stream event that is not valid JSON") from None
        if chunk.error is not None:
            self._usage = chunk.usage or self._usage
            raise EngineFailed(
                f"the engine stopped with an error: {_error_text(chunk.error)}", code=_error_code(chunk.error)
            )
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._finished[choice.index] = choice.finish_reason
            if choice.delta is not None and choice.index == 0:
                self._hear(choice.delta, data)
        if chunk.usage is not None:
            self._usage = chunk.usage
            return bool(chunk.choices) or self._keep_usage
        return True

    def _hear(self, said: _Said, data: bytes) -> None:
        if not self._chat:
            self._chat, self._opening = True, data
        if said.content:
            self._content.append(said.content)
        for call in said.tool_calls or ():
            new, old = _tool(call), self._tools.get(call.index)
            if old is not None:  # id and name come with the first piece, arguments in many
                new = ToolUse(old.id or new.id, old.name or new.name, old.arguments + new.arguments)
            self._tools[call.index] = new

    def answer(self) -> Answer | None:
        """What the first choice said so far; None for a legacy completion."""
        if not self._chat:
            return None
        return Answer("".join(self._content), tuple(self._tools[index] for index in sorted(self._tools)))

    def partial(self) -> Partial | None:
        """What was passed on, where it is the beginning of one plain text that has not ended; else None."""
        if not self._chat or self._tools or self._finished or self._wanted > 1 or not self._passed:
            return None
        opening = _opening_decoder.decode(self._opening)
        said = "".join(self._content[: self._passed])
        return Partial(opening.id, opening.created, opening.model, said, self._passed)

    def used(self) -> Usage | None:
        """What a stream that broke off had computed: what it said itself, else a token for each piece of its text."""
        if self._usage is not None:
            return self._usage.usage()
        return Usage(completion_tokens=len(self._content)) if self._content else None

    def finish(self) -> tuple[Usage, str]:
        """Usage and finish reason of a stream that ended. Raises EngineFailed when it was cut."""
        if len(self._finished) < self._wanted:
            raise EngineFailed("the engine's stream ended before the answer was finished", code="stream_cut")
        if not self.done:
            raise EngineFailed("the engine's stream ended without its closing event", code="stream_cut")
        usage = self._usage.usage() if self._usage is not None else Usage()
        return usage, self._finished[min(self._finished)]


def _data_of(event: bytes) -> bytes:
    """The data of an event with several lines, as the specification joins them."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def _error_code(error: Any) -> str | None:
    """A word of our own hosts; vLLM's codes are numbers."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and code.isidentifier() else None


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        return str(error.get("message", "no message"))[:500]
    return str(error)[:500]
