"""Translation: the host on its socket.

What it is: gives ``Data`` whose body is one of the host's delta lines while it streams, and ``End`` whose body is the
host's result object as JSON. What the caller sees of it is for ``api`` to render.
What it refuses to be: a place that knows languages. Tags pass through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from appliance.engines import Call
from appliance.engines.chat import raise_for_status
from appliance.engines.wire import Pool, Response
from appliance.errors import ApplianceError, EngineFailed
from appliance.types import Data, End, Event, Usage


class _Usage(Struct):
    characters: int
    prompt_tokens: int
    completion_tokens: int


class _Result(Struct):
    usage: _Usage


class _Line(Struct):
    type: str
    result: msgspec.Raw = msgspec.Raw(b"")
    status: int = 502
    code: str = "engine_failed"
    message: str = ""


_result_decoder = msgspec.json.Decoder(_Result)
_line_decoder = msgspec.json.Decoder(_Line)


class TranslateEngine:
    """The translation host: an ask in, a result object out (see ``hosts/translate_wire``)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Events of ``call``, whose body is the ask."""
        silence_s = None if call.stream else 0.0
        async with await self._pool.request(
            "POST", call.path, call.body, "application/json", "", silence_s
        ) as response:
            await raise_for_status(response)
            if not call.stream:
                yield _end(await response.read())
                return
            async with aclosing(_lines(response)) as events:
                async for event in events:
                    yield event


def _end(result: bytes) -> End:
    try:
        usage = _result_decoder.decode(result).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EngineFailed("the translation engine's answer is not a result object") from None
    used = Usage(usage.prompt_tokens, 0, usage.completion_tokens, characters=usage.characters)
    return End(used, "stop", result)


async def _lines(response: Response) -> AsyncGenerator[Event]:
    tail = b""
    async for piece in response.pieces():
        *lines, tail = (tail + piece).split(b"\n")
        for raw in lines:
            if not raw.strip():
                continue
            try:
                line = _line_decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise EngineFailed("the translation engine sent a line that is not valid JSON") from None
            if line.type == "delta":
                yield Data(raw)
            elif line.type == "done":
                yield _end(bytes(line.result))
                return
            elif line.type == "error":
                raise ApplianceError(line.message, code=line.code, status=line.status)
    raise EngineFailed("the translation engine's stream ended before its result", code="stream_cut")
