"""Hosted models: the one host process that may leave the box, behind the same Protocol as every engine.

What it is: the chat adapter with a permit. The host speaks OpenAI's shapes on its Unix socket, so events are read as
any chat engine's are; the permit travels in a header beside the very bytes it is for.
What it refuses to be: a way out without a permit (nothing is even connected), or a translator of what Google says: the
host does that, and its errors come with a sentence and a code that pass.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from appliance.engines import Call
from appliance.engines.chat import check_content_type, error_fields, events_of, raise_for_status, whole_answer
from appliance.engines.wire import Pool, Response
from appliance.errors import DeadlineExceeded, EngineFailed, EngineUnavailable
from appliance.types import Event

PERMIT_HEADER = "x-appliance-permit"
NO_PERMIT = "a hosted model answers only with a permit, and the policy gave none for this request"


class HostedEngine:
    """The hosted process behind one connection pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Events of ``call``. Closing early closes the connection, and the host stops the hosted generation."""
        if not call.permit:
            raise EngineUnavailable(NO_PERMIT, code="permit_missing")
        headers = f"{PERMIT_HEADER}: {call.permit}\r\n"
        if call.request_id:
            headers += f"x-request-id: {call.request_id}\r\n"
        async with await self._pool.request(
            "POST", call.path, call.body, headers=headers, silence_s=None if call.stream else 0.0
        ) as response:
            await _raise_for_status(response)
            if not call.stream:
                yield whole_answer(await response.read(), call.choices)
                return
            check_content_type(response, b"text/event-stream")
            async with aclosing(events_of(response, call)) as events:
                async for event in events:
                    yield event


async def _raise_for_status(response: Response) -> None:
    """Where the hosted side is at fault its code passes, and another attempt may be made; Retry-After is kept."""
    status = response.status
    if status in (200, 400, 413, 422, 501) or 300 <= status < 400:
        await raise_for_status(response)
        return
    message, code, _ = error_fields(await response.read())
    retry = response.headers.get(b"retry-after")
    headers = {} if retry is None else {"retry-after": retry.decode("latin-1")[:20]}
    text = message or f"the hosted engine answered with status {status}"
    if status == 504:
        raise DeadlineExceeded(text, code=code)
    # its quota is no fault of the caller's, who would be told to slow down by a 429
    if status in (403, 404, 429, 503):
        raise EngineUnavailable(text, code=code, headers=headers)
    raise EngineFailed(text, code=code, headers=headers)
