"""What the fake engine sends for one request: timed pieces of bytes, and how it ends.

What it is: pure functions from a body (or the events of a stream) and the request's directives to a
``Script``. A fault is nothing but another script: fewer pieces, other pieces, another ending; the
protocol that plays them knows none of them.
What it refuses to be: a way to share scripts. Each is played once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from http import HTTPStatus
from itertools import chain

from msgspec import Struct

from appliance.hosts import fake_shapes as shapes
from appliance.hosts.fake_faults import Directives

Step = tuple[float, bytes]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
LINES = b"application/x-ndjson"

GARBAGE = b"\x16\x03\x01 this is no HTTP at all\r\n\r\n\x00\xff" * 4
_LAST_CHUNK = b"0\r\n\r\n"
_HTML = b"<html><body><h1>It works!</h1></body></html>"
_DRIP_PIECES = 8


class End(Enum):
    """What happens to the connection after the last piece."""

    KEEP = "keep"
    DROP = "drop"
    SILENCE = "silence"
    EXIT = "exit"


class Script(Struct):
    """``first`` at once, then ``steps`` of (seconds after the one before, bytes), then ``end``."""

    first: bytes = b""
    steps: Iterator[Step] = iter(())
    end: End = End.KEEP


class Pace(Struct, frozen=True):
    """Seconds to the first event, seconds between events, events per write."""

    ttft_s: float = 0.0
    gap_s: float = 0.0
    burst: int = 1


def head(status: int, content_type: bytes, framing: bytes, extra: bytes = b"") -> bytes:
    """Status line and headers; ``framing`` is the length or transfer-encoding header."""
    if status == 200:
        line = b"HTTP/1.1 200 OK\r\n"
    else:
        line = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    return b"%sserver: uvicorn\r\ncontent-type: %s\r\n%s\r\n%s\r\n" % (line, content_type, framing, extra)


def respond(status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> bytes:
    """A whole response with an honest length."""
    return head(status, content_type, b"content-length: %d" % len(body), extra) + body


def plain(response: bytes, delay_s: float = 0.0) -> Script:
    """One response in one piece."""
    if delay_s <= 0:
        return Script(response)
    return Script(steps=iter(((delay_s, response),)))


def misconduct(d: Directives) -> Script | None:
    """The faults that ignore what was asked; None when ``d`` holds none of them."""
    match d.fault:
        case "hang" | "connect_hang":
            return Script(end=End.SILENCE)
        case "drop":
            return Script(end=End.DROP)
        case "garbage":
            return Script(GARBAGE, end=End.DROP)
        case "status":
            return plain(_refusal(d))
        case "redirect":
            return plain(respond(307, b"", extra=b"location: %s\r\n" % d.value.encode()))
        case "oom_exit" if d.number(0) == 0:
            return Script(end=End.EXIT)
    return None


def _refusal(d: Directives) -> bytes:
    status = d.number(500)
    after = d.settings.get("retry_after")
    extra = b"retry-after: %s\r\n" % after.encode() if after else b""
    return respond(status, shapes.error(status, f"fake engine: status {status} was asked for"), extra=extra)


def whole(body: bytes, d: Directives, delay_s: float) -> Script:
    """An answer that is not streamed, ``delay_s`` after the request, spoilt as ``d`` says."""
    if d.fault is None:
        return plain(respond(200, body), delay_s)
    spoilt = _spoilt_body(body, d)
    if spoilt is not None:
        return plain(respond(200, spoilt), delay_s)
    size = b"content-length: %d"
    honest = head(200, JSON, size % len(body))
    match d.fault:
        case "headers_then_silence":
            return Script(honest, end=End.SILENCE)
        case "cut_before_first":
            return Script(honest, end=End.DROP)
        case "oom_exit":
            return Script(honest, end=End.EXIT)
        case "cut_after" | "ends_early":
            return Script(honest + body[: len(body) // 2], end=End.DROP)
        case "slow_drip":
            return Script(honest, _drip(body, d.number(50) / 1000))
        case "wrong_content_type":
            return plain(_mistyped(body, d), delay_s)
        case "body_larger_than_promised":
            return plain(head(200, JSON, size % (len(body) // 2)) + body, delay_s)
        case "body_smaller_than_promised":
            return Script(head(200, JSON, size % (len(body) * 2)) + body, end=End.DROP)
    return plain(respond(200, body), delay_s)


def _mistyped(body: bytes, d: Directives) -> bytes:
    if d.value:
        return respond(200, body, d.value.encode())
    return respond(200, _HTML, b"text/html; charset=utf-8")


def _spoilt_body(body: bytes, d: Directives) -> bytes | None:
    match d.fault:
        case "malformed_json":
            return b'{"id":"chatcmpl-0","choices":[}'
        case "truncated_json":
            return body[: len(body) // 2]
        case "no_finish_reason":
            return _without_finish(body)
        case "error_in_stream":
            return shapes.error(500, "fake engine: an error was asked for")
        case "huge_line":
            return body.replace(b'"t0 ', b'"' + b"x" * d.number(8 << 20), 1)
        case "empty_choices":
            start = body.index(b'"choices":[') + len(b'"choices":[')
            return body[:start] + b'],"usage"' + body.split(b'"usage"', 1)[1]
    return None


def _without_finish(data: bytes) -> bytes:
    for reason in (b"stop", b"length"):
        data = data.replace(b'"finish_reason":"%s"' % reason, b'"finish_reason":null')
    return data


def stream(events: Iterable[bytes], closing: bytes, failure: bytes, kind: bytes, d: Directives, pace: Pace) -> Script:
    """A streamed answer in chunked encoding, spoilt as ``d`` says.

    ``closing`` is what a healthy stream ends with ([DONE]; may be empty), ``failure`` the error event.
    """
    opening = head(200, kind, b"transfer-encoding: chunked")
    if d.fault is None:
        return Script(opening, _paced(events, closing, pace))
    pieces = list(events)
    if d.fault in _CUTS:
        return _cut(opening, pieces, closing, failure, d, pace)
    match d.fault:
        case "headers_then_silence":
            return Script(opening, end=End.SILENCE)
        case "slow_drip":
            gap = d.number(50) / 1000
            framed = (step for piece in [*pieces, closing] if piece for step in _drip(_chunk(piece), gap))
            return Script(opening, chain(framed, ((0.0, _LAST_CHUNK),)))
        case "wrong_content_type":
            return _mistyped_stream(pieces, closing, d, pace)
        case "body_larger_than_promised" | "body_smaller_than_promised":
            return _misjudged_stream(pieces, closing, kind, d)
    return Script(opening, _paced(_spoilt_events(pieces, d), closing, pace))


_CUTS = frozenset(
    {"cut_before_first", "cut_after", "ends_early", "no_done", "error_in_stream", "oom_exit", "truncated_json"}
)


def _cut(opening: bytes, pieces: list[bytes], closing: bytes, failure: bytes, d: Directives, pace: Pace) -> Script:
    kept = pieces[: d.number(3)]
    match d.fault:
        case "cut_before_first":
            return Script(opening, end=End.DROP)
        case "truncated_json":
            return Script(opening, _paced([*pieces[:2], pieces[2][: len(pieces[2]) // 2]], b"", pace))
        case "cut_after":
            return Script(opening, _paced(kept, None, pace), End.DROP)
        case "oom_exit":
            return Script(opening, _paced(kept, None, pace), End.EXIT)
        case "ends_early":
            return Script(opening, _paced(kept, b"", pace))
        case "no_done":
            return Script(opening, _paced(pieces, b"", pace))
    return Script(opening, _paced([*kept, failure], closing, pace))


def _spoilt_events(pieces: list[bytes], d: Directives) -> list[bytes]:
    match d.fault:
        case "malformed_json":
            return [*pieces[:2], b'data: {"id":"chatcmpl-0","choices":[}\n\n', *pieces[2:]]
        case "no_finish_reason":
            return [_without_finish(p) for p in pieces]
        case "duplicate_chunks":
            return [p for piece in pieces for p in (piece, piece)]
        case "huge_line":
            big = pieces[1].replace(b'"t0 "', b'"' + b"x" * d.number(8 << 20) + b'"', 1)
            return [pieces[0], big, *pieces[2:]]
        case "empty_choices":
            return [p[: p.index(b'"choices":[')] + b'"choices":[]}\n\n' if b'"choices":[' in p else p for p in pieces]
    return pieces


def _mistyped_stream(pieces: list[bytes], closing: bytes, d: Directives, pace: Pace) -> Script:
    if not d.value:
        return plain(respond(200, _HTML, b"text/html; charset=utf-8"))
    opening = head(200, d.value.encode(), b"transfer-encoding: chunked")
    return Script(opening, _paced(pieces, closing, pace))


_APART_S = 0.1


def _misjudged_stream(pieces: list[bytes], closing: bytes, kind: bytes, d: Directives) -> Script:
    body = b"".join(pieces) + closing
    if d.fault == "body_larger_than_promised":
        # in two writes, so that the stream has begun when the rest comes
        begun = len(b"".join(pieces[:3]))
        opening = head(200, kind, b"content-length: %d" % (len(body) // 2)) + body[:begun]
        return Script(opening, iter([(_APART_S, body[begun:])]))
    return Script(head(200, kind, b"content-length: %d" % (len(body) * 2)) + body, end=End.DROP)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _drip(data: bytes, gap_s: float) -> Iterator[Step]:
    size = len(data) // _DRIP_PIECES + 1
    for start in range(0, len(data), size):
        yield gap_s, data[start : start + size]


def _paced(events: Iterable[bytes], closing: bytes | None, pace: Pace) -> Iterator[Step]:
    """Events in time, then the closing event with the last chunk (None: neither)."""
    delay, batch = pace.ttft_s, b""
    held = 0
    for event in events:
        if not event:
            continue
        batch, held = batch + _chunk(event), held + 1
        if held >= pace.burst:
            yield delay, batch
            delay, batch, held = pace.gap_s, b"", 0
    if batch:
        yield delay, batch
    if closing is not None:
        yield 0.0, (_chunk(closing) if closing else b"") + _LAST_CHUNK
