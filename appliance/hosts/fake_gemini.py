"""A fake Gemini: the REST wire of Google's API for the real google-genai client, healthy or in any way broken.

What it is: ``python -m appliance.hosts.fake_gemini --port N``: ``generateContent``, ``streamGenerateContent?alt=sse``
and the model card, on Gemini API's paths and Vertex AI's. What it answers is in the last user text: the markers of
``fake_faults`` (``[[fault:cut_after=3]]``), and ``[[set:…]]`` with text, chunks, chunk_ms, ttft_ms, finish, block,
call, args, thoughts, cached, ping. ``GET /debug/last`` shows the last call, ``/debug/counters`` what became of all.
Tests in one process: ``async with fake_gemini() as fake`` gives its address and its counters.
What it refuses to be: lenient where Google is not: a replayed tool call without its thought signature, contents that
end with the model, a key called ``bad-key`` and a model it does not serve are errors as Google words them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from appliance.hosts.fake_faults import Directives, UnknownFault, directives
from appliance.hosts.fake_script import Pace, Script, head, misconduct, plain, respond, stream, whole
from appliance.hosts.fake_server import Call, Counters, FakeProtocol

JSON = b"application/json; charset=UTF-8"
EVENTS = b"text/event-stream"
_PATH = re.compile(
    r"/(?P<version>v[0-9a-z]+)/(?:projects/[^/]+/locations/(?P<region>[^/]+)/publishers/google/)?"
    r"models/(?P<model>[^:/?]+)(?::(?P<method>[A-Za-z]+))?"
)
_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_SNAKE = re.compile(r"_([a-z])")
encode = msgspec.json.encode


class Options(Struct, frozen=True):
    """Models served and the default length and pace of answers; times in milliseconds."""

    models: tuple[str, ...] = ("gemini-3.1-flash-lite", "gemini-3.5-flash-lite", "gemini-3.8-flash")
    chunks: int = 6
    chunk_ms: float = 0.0
    ttft_ms: float = 0.0
    text: str = ""
    context_tokens: int = 1_048_576


class FakeGemini:
    """Callable as the protocol's answerer: a call in, its script and whether it counts as a generation out."""

    def __init__(self, options: Options, counters: Counters) -> None:
        self._options = options
        self._counters = counters

    def __call__(self, call: Call) -> tuple[Script, bool]:
        if call.path.startswith("/debug/"):
            return plain(respond(200, self._debug(call.path))), False
        if (call.header(b"x-goog-api-key") or "").startswith("bad-key"):
            reason = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            return plain(_error(400, "API key not valid. Please pass a valid API key.", reason)), False
        found = _PATH.fullmatch(call.path)
        if found is None:
            return plain(_error(404, f"nothing is served at {call.path}")), False
        if found["model"] not in self._options.models:
            return plain(_error(404, f"models/{found['model']} is not found for API version {found['version']}")), False
        if found["method"] is None:
            return plain(respond(200, self._card(found["model"]), JSON)), False
        self._counters.last = call
        try:
            return self._generate(call, found["model"], found["method"] == "streamGenerateContent"), True
        except UnknownFault as e:
            return plain(_error(400, str(e))), False
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as e:
            return plain(_error(400, f"Invalid JSON payload received. {e}")), False

    def _card(self, model: str) -> bytes:
        tokens = {"inputTokenLimit": self._options.context_tokens, "outputTokenLimit": 65_536}
        methods = ["generateContent", "streamGenerateContent"]
        return encode({"name": f"models/{model}", "version": "001", **tokens, "supportedGenerationMethods": methods})

    def _generate(self, call: Call, model: str, streamed: bool) -> Script:
        body = camel(msgspec.json.decode(call.body))
        refused = _refused(body)
        if refused:
            return plain(_error(400, refused))
        d = self._directives(_last_text(body))
        if d.fault == "status":
            return plain(_status(d))
        if (failed := misconduct(d)) is not None:
            return failed
        o = self._options
        pace = Pace(d.setting("ttft_ms", o.ttft_ms) / 1000, d.setting("chunk_ms", o.chunk_ms) / 1000)
        answer = list(self._answer(body, model, d))
        if streamed:
            return _streamed(answer, d, pace)
        return _whole(answer, d, pace.ttft_s + pace.gap_s * (len(answer) - 1))

    def _directives(self, text: str) -> Directives:
        """A fault limited by ``first`` and ``id`` lapses after that many, as in the fake engine."""
        found = directives(text)
        name = found.settings.get("id")
        if name is None:
            return found
        seen = self._counters.seen[name] = self._counters.seen.get(name, 0) + 1
        return msgspec.structs.replace(found, fault=None) if seen > found.setting("first", seen) else found

    def _answer(self, body: dict[str, Any], model: str, d: Directives) -> Iterator[dict[str, Any]]:
        """The responses of a stream; a whole answer is made of them."""
        prompt = len(call_text(body)) // 4 + 1
        common = {"modelVersion": model, "responseId": "fake"}
        if block := d.settings.get("block"):
            usage = {"promptTokenCount": prompt, "totalTokenCount": prompt}
            yield {"promptFeedback": {"blockReason": block}, "usageMetadata": usage, **common}
            return
        said = list(self._said(body, d))
        finish = d.settings.get("finish", "STOP")
        limit = (body.get("generationConfig") or {}).get("maxOutputTokens")
        if limit is not None and limit < len(said):
            said, finish = said[:limit], "MAX_TOKENS"
        thoughts, cached = int(d.setting("thoughts", 0)), int(d.setting("cached", 0))
        for place, part in enumerate(said):
            candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
            if place == len(said) - 1 and d.fault != "no_finish_reason":
                candidate["finishReason"] = finish
            usage = {"promptTokenCount": prompt, "candidatesTokenCount": place + 1}
            usage["totalTokenCount"] = prompt + place + 1 + thoughts
            usage |= {"thoughtsTokenCount": thoughts} if thoughts else {}
            usage |= {"cachedContentTokenCount": cached} if cached else {}
            yield {"candidates": [candidate], "usageMetadata": usage, **common}

    def _said(self, body: dict[str, Any], d: Directives) -> Iterator[dict[str, Any]]:
        text = d.settings.get("text", self._options.text)
        for place, name in enumerate(filter(None, d.settings.get("call", "").split(","))):
            args = msgspec.json.decode(d.settings.get("args") or "{}")
            call: dict[str, Any] = {"functionCall": {"name": name, "args": args}}
            if place == 0:  # of calls made at once only the first carries one
                call["thoughtSignature"] = base64.b64encode(b"signature of %s" % name.encode()).decode()
            yield call
        if d.settings.get("call") and not text:
            return
        if d.setting("thoughts", 0):
            yield {"text": "I wonder.", "thought": True}
        chunks = int(d.setting("chunks", self._options.chunks))
        for piece in re.findall(r"\S+\s*", text) or [f"t{i} " for i in range(chunks)]:
            yield {"text": piece}

    def _debug(self, path: str) -> bytes:
        c, last = self._counters, self._counters.last
        if path == "/debug/counters":
            return encode({"steps": c.steps, "running": c.running, "finished": c.finished, "cancelled": c.cancelled})
        if last is None:
            return b"null"
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in last.headers}
        return encode({"path": last.path, "headers": headers, "body": msgspec.Raw(last.body)})


def camel(value: Any) -> Any:
    """Names in Google's spelling: the client sends some in snake_case, and Google takes both. Schemas stay."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {_SNAKE.sub(lambda match: match[1].upper(), name): item for name, item in value.items()}
    kept = ("parametersJsonSchema", "responseJsonSchema", "args", "response")
    return {name: item if name in kept else camel(item) for name, item in named.items()}


def call_text(body: dict[str, Any]) -> str:
    """Everything that is sent, as the fake counts it."""
    return encode([body.get("systemInstruction"), body.get("contents")]).decode()


def _last_text(body: dict[str, Any]) -> str:
    for content in reversed(body["contents"]):
        texts = [part["text"] for part in content.get("parts", ()) if "text" in part]
        if content.get("role") == "user" and texts:
            return "\n".join(texts)
    return ""


def _refused(body: dict[str, Any]) -> str:
    """What Google answers 400 to, of the things that a translation from OpenAI's shapes can get wrong."""
    contents = body.get("contents") or []
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    if contents[-1].get("role") != "user":
        return "Please ensure that the request ends with a user turn or a function response."
    for place, content in enumerate(contents):
        called = [part for part in content["parts"] if "functionCall" in part]
        if called and not called[0].get("thoughtSignature"):
            name = called[0]["functionCall"]["name"]
            return f"Function call is missing a thought_signature in functionCall parts. Function call `{name}`."
        answered = [part for part in content["parts"] if "functionResponse" in part]
        before = contents[place - 1]["parts"] if place else []
        if answered and len(answered) != sum("functionCall" in part for part in before):
            return "The number of function response parts must equal the number of function call parts."
    return ""


def _error(status: int, message: str, details: Sequence[Any] = (), extra: bytes = b"") -> bytes:
    return respond(status, _error_body(status, message, details), JSON, extra)


def _error_body(status: int, message: str, details: Sequence[Any] = ()) -> bytes:
    error: dict[str, Any] = {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}
    if details:
        error["details"] = details
    return encode({"error": error})


def _status(d: Directives) -> bytes:
    """An error status; ``[[set:retry_after=S]]`` gives the header, ``[[set:retry_delay=S]]`` Google's RetryInfo."""
    status = d.number(500)
    after, delay = d.settings.get("retry_after"), d.settings.get("retry_delay")
    extra = b"retry-after: %s\r\n" % after.encode() if after else b""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay}s"}] if delay else []
    return _error(status, f"fake Gemini: status {status} was asked for", details, extra)


def _streamed(answer: list[dict[str, Any]], d: Directives, pace: Pace) -> Script:
    events = [b"data: %s\r\n\r\n" % encode(response) for response in answer]
    if "ping" in d.settings:
        events.insert(int(d.setting("ping", 0)), b": ping\r\n\r\n")
    failure = b"data: %s\r\n\r\n" % _error_body(503, "The model is overloaded. Please try again later.")
    return stream(events, b"", failure, EVENTS, d, pace)


def _whole(answer: list[dict[str, Any]], d: Directives, delay_s: float) -> Script:
    if d.fault == "error_in_stream":
        body = _error_body(503, "The model is overloaded. Please try again later.")
        return plain(head(200, JSON, b"content-length: %d" % len(body)) + body, delay_s)
    last = answer[-1]
    if "candidates" in last:
        parts = [part for response in answer for part in response["candidates"][0]["content"]["parts"]]
        last["candidates"][0]["content"]["parts"] = _joined(parts)
    return whole(encode(last), d, delay_s)


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring texts as one, as Google gives them."""
    joined: list[dict[str, Any]] = []
    for part in parts:
        if joined and set(part) == {"text"} == set(joined[-1]):
            joined[-1] = {"text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


class Running(Struct, frozen=True):
    """A fake that listens: its base URL and its counters."""

    url: str
    counters: Counters


@asynccontextmanager
async def fake_gemini(options: Options | None = None, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Running]:
    """Listen in this event loop."""
    loop, counters = asyncio.get_running_loop(), Counters()
    engine = FakeGemini(options or Options(), counters)
    server = await loop.create_server(lambda: FakeProtocol(engine, counters, 1_000_000, loop), host, port)
    try:
        yield Running(f"http://{host}:{server.sockets[0].getsockname()[1]}", counters)
    finally:
        server.close()


async def _serve(options: Options, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with fake_gemini(options, port) as fake:
        print(f"listening on {fake.url}", flush=True)
        await stopped.wait()


def main(argv: Sequence[str]) -> int:
    """Entry point; the exit status."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.fake_gemini", description=__doc__.partition("\n")[0])
    p.add_argument("--port", type=int, default=0, help="loopback port (0: any; printed on stdout)")
    p.add_argument("--model", action="append", help="name to serve; may be given several times")
    p.add_argument("--chunks", type=int, default=6, help="pieces of an answer")
    p.add_argument("--chunk-ms", type=float, default=0.0, help="milliseconds between pieces")
    p.add_argument("--text", default="", help="answer this instead of t0 t1 …")
    args = p.parse_args(argv)
    models = tuple(args.model) if args.model else Options().models
    asyncio.run(_serve(Options(models, args.chunks, args.chunk_ms, text=args.text), args.port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
