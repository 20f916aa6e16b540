"""Chat and text completion on an OpenAI-compatible engine (vLLM, the fake, another box).

What it is: sends the prepared body, passes bytes on, and turns everything that is not a complete answer
into one of our errors: error statuses, cut streams, broken JSON, silence, a wrong content type, redirects.
What it refuses to be: a retrier. Which engine comes next is the plan's business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from appliance.engines import Call
from appliance.engines.sse import Scanner, whole_decoder
from appliance.engines.wire import Pool, Response
from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    NotBuilt,
    RateLimited,
    TooLarge,
)
from appliance.types import Data, End, Event, Usage

_DONE = b"data: [DONE]\n\n"


class ChatEngine:
    """One engine process behind one connection pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Events of ``call``. Closing early closes the connection, and vLLM aborts the request."""
        # a whole answer is silent until it is complete; only the deadline can tell it from a hang
        silence_s = None if call.stream else 0.0
        headers = f"x-request-id: {call.request_id}\r\n" if call.request_id else ""
        if call.traceparent:
            headers += f"traceparent: {call.traceparent}\r\n"
        async with await self._pool.request(
            "POST", call.path, call.body, headers=headers, silence_s=silence_s
        ) as response:
            await raise_for_status(response)
            if not call.stream:
                yield whole_answer(await response.read(), call.choices)
                return
            check_content_type(response, b"text/event-stream")
            async with aclosing(events_of(response, call)) as events:
                async for event in events:
                    yield event


async def events_of(response: Response, call: Call) -> AsyncGenerator[Event]:
    """A streamed answer's events, checked as they pass. Raises EngineFailed for one that is cut or broken."""
    scanner = Scanner(call.choices, call.keep_usage)
    try:
        async for piece in response.pieces():
            if out := scanner.feed(piece):
                yield Data(out)
            if scanner.done:
                await response.settle()
                break
        usage, finish_reason = scanner.finish()
    except ApplianceError as e:
        e.partial, e.usage = scanner.partial(), scanner.used()
        raise
    yield End(usage, finish_reason, _DONE, scanner.answer())


def check_content_type(response: Response, wanted: bytes) -> None:
    """Raise EngineFailed unless the body is of type ``wanted``."""
    got = response.headers.get(b"content-type", b"")
    if not got.startswith(wanted):
        raise EngineFailed(f"the engine answered with content type {got.decode('latin-1')[:100]!r}")


def whole_answer(body: bytes, choices: int) -> End:
    """The end that a whole answer is. Raises EngineFailed for one that is unfinished or no completion."""
    try:
        answer = whole_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineFailed("the engine's answer is not the JSON of a completion") from None
    reasons = [choice.finish_reason for choice in answer.choices]
    if len(reasons) < choices or None in reasons:
        raise EngineFailed("the engine's answer is unfinished", code="stream_cut")
    usage = answer.usage.usage() if answer.usage is not None else Usage()
    return End(usage, str(reasons[0]), body, answer.answer())


async def raise_for_status(response: Response) -> None:
    """Turn an engine's error status into ours. Only what the caller can mend passes with its text."""
    if response.status == 200:
        return
    if 300 <= response.status < 400:
        raise EngineFailed("the engine answered with a redirect, which is refused")
    message, code, param = error_fields(await response.read())
    raise _mapped(response, message, code, param)


def _mapped(response: Response, message: str, code: str | None, param: str | None) -> ApplianceError:
    status = response.status
    if status == 413:
        return TooLarge(message or "the engine takes no request this large", code=code, param=param)
    if status == 504:
        return DeadlineExceeded(message or "the engine gave up on the request", code=code)
    if status in (400, 422):
        if "context length" in message or "max_model_len" in message:
            code = "context_length_exceeded"
        if "--enable-auto-tool-choice" in message:  # vllm's advice to whoever starts it, not to a caller
            message = "this model cannot call tools; leave tools out, or use a model whose chat template knows them"
            code, param = "tools_not_supported", "tools"
        return BadRequest(message or "the engine refused the request", code=code, param=param)
    if status == 501:
        return NotBuilt(message or "the engine has no such ability", code=code, param=param)
    if status == 429:
        retry = response.headers.get(b"retry-after", b"1").decode("latin-1")[:20]
        return RateLimited("the engine takes no more requests now; try again later", headers={"retry-after": retry})
    if status in (404, 503):
        return EngineUnavailable(f"the engine answered {status}; try again later")
    return EngineFailed(f"the engine answered with status {status}")


def error_fields(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, code and parameter of an OpenAI-shaped error; empty and None where there is none."""
    try:
        error = msgspec.json.decode(body)["error"]
        code = error.get("code")
        param = error.get("param")
        return (
            str(error["message"])[:2000],
            code if isinstance(code, str) else None,
            param if isinstance(param, str) else None,
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return "", None, None
