"""The fault catalogue that gateways in this field are tested on, and what a caller gets for each.

``CATALOGUE`` is the table: 16 faults, each for a local engine and for a hosted model, whole and streamed. ``observed``
runs all of it through a gateway in this process; ``python tests/faults/catalogue.py`` writes docs/faults.md from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from contextlib import closing
from typing import Any, NamedTuple

from gateway import GEMINI, HOSTED, Gateway, events_of, gateway, text_of

from appliance.engines.breaker import Breaker
from appliance.hosts.fake_answers import FakeOptions

DEADLINE_S, SILENCE_S = 8.0, 3.0
# Events that came in one read are judged as one, so an error in the first read is still a status. Paced apart, the
# stream has begun by then.
PACE = "[[set:chunk_ms=40]]"
TEXT = "".join(f"t{n} " for n in range(6))
SIDES = ("local", "local, streamed", "hosted", "hosted, streamed")


class Want(NamedTuple):
    """``status`` 200 with a ``code`` is an error event in a stream that had begun; without one a whole answer."""

    status: int
    code: str | None = None
    text: str = TEXT

    def __str__(self) -> str:
        if self.code is None:
            return "the answer" if self.text == TEXT else "the answer, as it was sent"
        if self.status == 200:
            return f"the stream ends in an error, `{self.code}`"
        return f"{self.status} `{self.code}`"


class Fault(NamedTuple):
    """``number`` in the catalogue; ``marker`` is what makes the fakes misbehave so; wants in the order of ``SIDES``."""

    number: int
    name: str
    marker: str
    wants: tuple[Want, Want, Want, Want]


class Seen(NamedTuple):
    """What a caller got, and what the ledger has of it."""

    got: Want
    request: tuple[Any, ...]
    attempts: list[tuple[Any, ...]]
    calls: list[tuple[Any, ...]]
    retry_after: str | None


OK = Want(200)
TWICE = Want(200, None, "".join(f"t{n} t{n} " for n in range(6)))
FAILED, BROKE_OFF = Want(502, "engine_failed"), Want(200, "engine_failed")
CUT, STREAM_CUT = Want(502, "stream_cut"), Want(200, "stream_cut")
# a whole answer is silent until it is complete, so only the deadline tells a hang from hard work
LATE, SILENT = Want(504, "deadline_exceeded"), Want(504, "engine_silent")
DOWN, LIMITED = Want(503, "engine_unavailable"), Want(429, "rate_limited")
# a quota of the appliance's at Google is no fault of the caller's
QUOTA, OVERLOADED = Want(503, "hosted_rate_limited"), Want(503, "hosted_overloaded")
UNREACHABLE, WRONG = Want(503, "hosted_unreachable"), Want(400, "invalid_request")
_ALWAYS_FAILED = (FAILED, FAILED, FAILED, FAILED)
CATALOGUE: tuple[Fault, ...] = (
    Fault(1, "connect refused", "", (DOWN, DOWN, UNREACHABLE, UNREACHABLE)),
    Fault(2, "connect hang", "[[fault:connect_hang]]", (LATE, SILENT, LATE, SILENT)),
    Fault(3, "headers, then silence", "[[fault:headers_then_silence]]", (LATE, SILENT, LATE, SILENT)),
    Fault(4, "429 with Retry-After", "[[fault:status=429]][[set:retry_after=7]]", (LIMITED, LIMITED, QUOTA, QUOTA)),
    Fault(4, "429 without Retry-After", "[[fault:status=429]]", (LIMITED, LIMITED, QUOTA, QUOTA)),
    Fault(5, "500", "[[fault:status=500]]", _ALWAYS_FAILED),
    Fault(5, "502", "[[fault:status=502]]", _ALWAYS_FAILED),
    Fault(5, "503", "[[fault:status=503]]", (DOWN, DOWN, OVERLOADED, OVERLOADED)),
    Fault(6, "400 that must not be retried", "[[fault:status=400]]", (WRONG, WRONG, WRONG, WRONG)),
    Fault(7, "malformed JSON", "[[fault:malformed_json]]", (FAILED, BROKE_OFF, FAILED, BROKE_OFF)),
    Fault(8, "truncated JSON", "[[fault:truncated_json]]", (FAILED, STREAM_CUT, FAILED, BROKE_OFF)),
    Fault(9, "cut before the first token", "[[fault:cut_before_first]]", (FAILED, FAILED, CUT, CUT)),
    Fault(10, "cut after some tokens", "[[fault:cut_after=3]]", (FAILED, BROKE_OFF, CUT, STREAM_CUT)),
    Fault(11, "no finish_reason", "[[fault:no_finish_reason]]", (CUT, STREAM_CUT, CUT, STREAM_CUT)),
    Fault(
        12,
        "error object inside the stream",
        "[[fault:error_in_stream=3]]",
        (FAILED, BROKE_OFF, CUT, Want(200, "hosted_overloaded")),
    ),
    Fault(13, "slow drip below the idle time-out", "[[fault:slow_drip=2]]", (OK, OK, OK, OK)),
    Fault(14, "duplicate chunks", "[[fault:duplicate_chunks]]", (OK, TWICE, OK, TWICE)),
    Fault(15, "wrong content type", "[[fault:wrong_content_type]]", _ALWAYS_FAILED),
    Fault(
        16, "body larger than promised", "[[fault:body_larger_than_promised]]", (FAILED, BROKE_OFF, FAILED, BROKE_OFF)
    ),
)


# at once, beside those that hang: all together, a busy machine makes engines look silent that are not
_AT_ONCE = 6


async def observed(faults: tuple[Fault, ...] = CATALOGUE) -> tuple[dict[tuple[str, str], Seen], int]:
    """Every fault on every side, and how many requests of a ``local_only`` tenant have left the box."""
    server = {"request_deadline_s": DEADLINE_S, "engine_silence_s": SILENCE_S}
    engines = {"a": FakeOptions(chunks=6), "gone": None}
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    more: dict[str, Any] = {"hosted": True, "policy": HOSTED, "server": server}
    found: dict[tuple[str, str], Seen] = {}
    async with (
        gateway(engines=engines, **more) as here,
        gateway(engines={}, residency="hosted_allowed", **more) as away,
        gateway(engines={}, residency="hosted_allowed", gemini_url=closed, **more) as nowhere,
    ):
        # streams first: what a body that was larger than promised leaves on a kept connection is the next request's
        cells = [(fault, side) for fault in faults for side in reversed(SIDES)]
        for one in (here, away, nowhere):
            for entry in one.service.registry.entries.values():
                entry.breaker = _Never()
        few = asyncio.Semaphore(_AT_ONCE)

        async def one_of(fault: Fault, side: str) -> Seen:
            hangs = fault.wants[SIDES.index(side)] in (LATE, SILENT)
            async with contextlib.nullcontext() if hangs else few:
                return await _one(_behind(fault, side, here, away, nowhere), fault, side)

        asked = (one_of(fault, side) for fault, side in cells)
        for (fault, side), what in zip(cells, await asyncio.gather(*asked), strict=True):
            found[fault.name, side] = what
        assert here.gemini is not None
        left = here.gemini.counters
        return found, left.steps + left.cancelled + left.running + (left.last is not None)


def _behind(fault: Fault, side: str, here: Gateway, away: Gateway, nowhere: Gateway) -> Gateway:
    if side.startswith("local"):
        return here
    return away if fault.marker else nowhere


class _Never(Breaker):
    """Every cell of the table finds its engine as if it were the first."""

    def allows(self, now_s: float) -> bool:
        return True


async def _one(g: Gateway, fault: Fault, side: str) -> Seen:
    more: dict[str, Any] = {"stream": side.endswith("streamed")}
    if side.startswith("hosted"):
        more["model"] = GEMINI
    elif not fault.marker:
        more["model"] = "gone"
    pace = PACE if more["stream"] else ""
    response = await g.ask(f"hello {pace}{fault.marker}", **more)
    request, attempts, calls = g.entry(response.headers["x-request-id"])
    return Seen(
        _got(response),
        (request["status"], request["http_status"], request["error_code"]),
        [(a["engine"], a["route"], a["status"], a["error_code"]) for a in attempts],
        [(c["engine"], c["status"]) for c in calls],
        response.headers.get("retry-after"),
    )


def _got(response: Any) -> Want:
    streamed = response.headers["content-type"].startswith("text/event-stream")
    if not streamed:
        body = response.json()
        if "error" in body:
            assert set(body["error"]) == {"message", "type", "param", "code"}
            return Want(response.status_code, body["error"]["code"])
        return Want(response.status_code, None, text_of(response))
    *chunks, last = events_of(response)
    if last == "[DONE]":
        return Want(200, None, text_of(response))
    assert "[DONE]" not in chunks
    return Want(200, last["error"]["code"])


def document() -> str:
    """docs/faults.md."""
    lines = [
        _HEAD,
        "| # | fault | " + " | ".join(SIDES) + " |",
        "|---|---|" + "---|" * len(SIDES),
    ]
    for fault in CATALOGUE:
        lines.append(f"| {fault.number} | {fault.name} | " + " | ".join(str(want) for want in fault.wants) + " |")
    return "\n".join([*lines, ""])


_HEAD = """# Faults

What a caller gets when an engine misbehaves: a correct answer, or an error in OpenAI's shape within the deadline, and
rows of the ledger that say the same. `tests/faults` holds this table against the gateway, and `make faults-doc` writes
this page from it. Each cell asks one engine; what a caller gets where there are more is better:

- What fails before its first byte is answered by the plan's next attempt. A 400 is not tried on another local engine,
  which would not understand it either; what is too long for it, or what Gemini cannot take, goes the other way.
  Where hosted fails as well, or may not be asked, the caller hears what failed on the box.
- A plain text that breaks off goes on on another local engine that can take it up (`continue_final_message`), in the
  same stream under the same id; the ledger has the reason `engine_failed_midstream`. Where none can, the stream ends
  in an error event, never in `[DONE]`.
- Content is never compared: chunks that come twice are passed on twice, because "ha ha" is text. Only a second role,
  finish reason or usage of an answer that was taken up is left out.
- An engine that asks for a pause (Retry-After) or fails three times in a row is spared by plans of a policy.toml; after
  the pause one attempt is let through. The last local engine is asked all the same: not to ask would only make a
  failure certain that may be over.
- What a hosted answer that broke off has cost is booked: what Google had counted, else an estimate (4 bytes a token).
- Under none of these faults does a request of a `local_only` tenant open a connection to a hosted model.

A stream "ends in an error" where part of the answer had left: status 200, then an event with the error, no `[DONE]`.
"""


if __name__ == "__main__":
    sys.stdout.write(document())
