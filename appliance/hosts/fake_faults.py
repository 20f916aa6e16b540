"""The fault catalogue of the fake engine, and the markers that choose from it.

What it is: pure functions. A caller writes ``[[fault:cut_after=3]]`` into the last user message (or
the prompt) and the fake misbehaves so for this one request; ``[[set:chunks=64]]`` changes length
and pace the same way, ``[[set:first=1]] [[set:id=abc]]`` limits the fault to the first request that
carries that id. The catalogue follows what gateways in this field are tested on.
What it refuses to be: lenient. A fault nobody knows is an error, so that no test passes by a typo.
"""

from __future__ import annotations

import re

from msgspec import Struct

FAULTS: dict[str, str] = {
    "connect_hang": "the connection is accepted and nothing ever answers",
    "hang": "the request is read and nothing ever answers",
    "drop": "the request is read and the connection drops without a byte of an answer",
    "headers_then_silence": "status line and headers, then nothing",
    "status": "VALUE is the status; add [[set:retry_after=S]] for Retry-After",
    "malformed_json": "an answer, or one event of a stream, that is not JSON",
    "truncated_json": "an answer, or the third event of a stream, that stops half way and ends cleanly there",
    "cut_before_first": "the connection drops after the headers and before the first event",
    "cut_after": "the connection drops after VALUE events (default 3)",
    "no_finish_reason": "a stream that ends in [DONE] without any finish_reason",
    "no_done": "a stream that ends cleanly after finish_reason, without [DONE]",
    "ends_early": "a stream that ends cleanly after VALUE events (default 3), no finish_reason, no [DONE]",
    "error_in_stream": "an error object after VALUE events (default 3), then [DONE], as vLLM does",
    "slow_drip": "every event in eight pieces, VALUE ms apart (default 50)",
    "duplicate_chunks": "every event twice",
    "wrong_content_type": "an HTML page with status 200; with VALUE the right body under that type",
    "body_larger_than_promised": "Content-Length is half of what is sent",
    "body_smaller_than_promised": "Content-Length is twice what is sent, then the connection drops",
    "garbage": "bytes that are not HTTP",
    "redirect": "307 to VALUE",
    "oom_exit": "an out-of-memory message on stderr and the process exits with 1, after VALUE events (default 0)",
    "huge_line": "one event (or body) of VALUE bytes (default 8388608)",
    "empty_choices": "an answer whose choices are an empty list",
}

PROCESS_FAULTS: dict[str, str] = {
    "slow_start": "listens only after VALUE seconds (default 5)",
    "never_ready": "listens, and answers every request with 503",
    "crash_loop": "exits with 1 and a traceback right after the start",
    "refuse": "lives and never listens",
    "connect_hang": "accepts connections and reads nothing from them",
    "hang": "answers /health and /metrics and nothing else, as vLLM with a dead EngineCore does",
    "hang_after": "answers VALUE requests (default 1), then takes requests and does nothing; /health stays 200",
    "garbage": "answers everything on its socket with bytes that are not HTTP",
    "orphan": "starts a child that leaves the process group and ignores SIGTERM; its pid is printed",
    "oom_start": "exits with 1 and an out-of-memory message while it starts",
}

OOM_TEXT = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
    " 79.10 GiB of which 1.13 GiB is free."
)

_MARKER = re.compile(r"\[\[(fault|set):([a-z_]+)(?:=([^\]]*))?\]\]")


class UnknownFault(ValueError):
    """The text names a fault the catalogue lacks; the message lists the known ones."""


class Directives(Struct, frozen=True):
    """What the markers of one request ask for. ``fault`` is None for an ordinary answer."""

    fault: str | None = None
    value: str = ""
    settings: dict[str, str] = {}

    def number(self, default: int) -> int:
        """The fault's VALUE as an integer, ``default`` without one."""
        return int(self.value) if self.value else default

    def setting(self, name: str, default: float) -> float:
        """``[[set:name=…]]`` as a number."""
        return float(self.settings.get(name, default))


NONE = Directives()


def directives(text: str) -> Directives:
    """Read the markers of ``text``; the last fault wins. Raises UnknownFault."""
    if "[[" not in text:
        return NONE
    fault, value, settings = None, "", {}
    for kind, name, argument in _MARKER.findall(text):
        if kind == "set":
            settings[name] = argument
        elif name in FAULTS:
            fault, value = name, argument
        else:
            raise UnknownFault(f"the fake engine has no fault {name!r}; known: {', '.join(sorted(FAULTS))}")
    return Directives(fault, value, settings)


def process_fault(text: str | None) -> tuple[str, str]:
    """``slow_start=5`` as ("slow_start", "5"); ("", "") for None. Raises UnknownFault."""
    if not text:
        return "", ""
    name, _, value = text.partition("=")
    if name not in PROCESS_FAULTS:
        known = ", ".join(sorted(PROCESS_FAULTS))
        raise UnknownFault(f"the fake engine has no process fault {name!r}; known: {known}")
    return name, value
