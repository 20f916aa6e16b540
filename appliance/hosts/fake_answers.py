"""What the fake engine answers: its routes, as a function from a call to a script.

What it is: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions`` as vLLM, ``/v1/transcribe``
as the Whisper host, ``/health``, ``/metrics``, and ``GET /debug/last`` with the last call received,
so that a test sees exactly what the gateway sent.
What it refuses to be: a validator. It answers what it can read and leaves strictness to the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.hosts import fake_shapes as shapes
from appliance.hosts.fake_faults import Directives, UnknownFault, directives
from appliance.hosts.fake_script import EVENTS, LINES, Pace, Script, misconduct, plain, respond, stream, whole
from appliance.hosts.fake_server import Call, Counters

_body = msgspec.json.Decoder(shapes.Body)


class FakeOptions(msgspec.Struct, frozen=True):
    """Names served and the default length and pace of answers; times in milliseconds."""

    models: tuple[str, ...] = ("fake",)
    chunks: int = 16
    chunk_ms: float = 0.0
    ttft_ms: float = 0.0
    burst: int = 1
    max_model_len: int = 8192
    max_running: int = 1_000_000
    text: str = ""
    fault: str = ""
    hang_after: int = -1


class FakeEngine:
    """Callable as the protocol's answerer: a call in, its script and whether it counts as work out."""

    def __init__(self, options: FakeOptions, counters: Counters) -> None:
        self._options = options
        self._counters = counters

    def __call__(self, call: Call) -> tuple[Script, bool]:
        path = call.path
        if call.method == b"POST" and path.startswith("/v1/"):
            return self._work(call)
        return plain(self._page(path)), False

    def _page(self, path: str) -> bytes:
        if self._options.fault == "never_ready":
            return respond(503, shapes.error(503, "fake engine: never ready"))
        match path:
            case "/health":
                return respond(200, b"")
            case "/metrics":
                return respond(200, self._metrics(), b"text/plain; version=0.0.4; charset=utf-8")
            case "/v1/models":
                return respond(200, shapes.models(self._options.models, self._options.max_model_len))
            case "/debug/last":
                return respond(200, self._last())
        return respond(404, shapes.error(404, f"fake engine: nothing is served at {path}"))

    def _work(self, call: Call) -> tuple[Script, bool]:
        self._counters.last = call
        if self._options.fault == "never_ready":
            return plain(respond(503, shapes.error(503, "fake engine: never ready"))), False
        if self._options.fault == "hang":
            return misconduct(Directives("hang")) or Script(), True
        if 0 <= self._options.hang_after <= self._counters.finished:
            # the gauges are vLLM's scheduler's: one that hangs never counts what arrives
            return misconduct(Directives("hang")) or Script(), False
        try:
            match call.path:
                case "/v1/chat/completions":
                    return self._complete(call, chat=True), True
                case "/v1/completions":
                    return self._complete(call, chat=False), True
                case "/v1/transcribe":
                    return self._transcribe(call), True
        except UnknownFault as e:
            return plain(respond(400, shapes.error(400, str(e)))), False
        except (msgspec.DecodeError, ValueError) as e:
            return plain(respond(400, shapes.error(400, f"fake engine: the body cannot be read: {e}"))), False
        return plain(respond(404, shapes.error(404, f"fake engine: nothing is served at {call.path}"))), False

    def _directives(self, text: str) -> Directives:
        """The request's directives; a fault limited by ``first`` and ``id`` lapses after that many."""
        found = directives(text)
        name = found.settings.get("id")
        if name is None:
            return found
        seen = self._counters.seen[name] = self._counters.seen.get(name, 0) + 1
        if seen > found.setting("first", seen):
            return msgspec.structs.replace(found, fault=None)
        return found

    def _pace(self, d: Directives) -> Pace:
        o = self._options
        return Pace(
            d.setting("ttft_ms", o.ttft_ms) / 1000,
            d.setting("chunk_ms", o.chunk_ms) / 1000,
            int(d.setting("burst", o.burst)),
        )

    def _complete(self, call: Call, *, chat: bool) -> Script:
        body, options = _body.decode(call.body), self._options
        if body.model not in options.models:
            message = f"The model `{body.model}` does not exist."
            return plain(respond(404, shapes.error(404, message, "model")))
        d = self._directives(body.last_text())
        failed = misconduct(d)
        if failed is not None:
            return failed
        prompt_tokens = body.prompt_tokens()
        if prompt_tokens > options.max_model_len:
            return plain(respond(400, shapes.too_long(options.max_model_len, prompt_tokens)))
        answer = self._answer(body, d, prompt_tokens, chat)
        if (name := call.header(b"x-request-id")) is not None:  # as vLLM does
            answer.id = f"{'chatcmpl' if chat else 'cmpl'}-{name}"
        pace = self._pace(d)
        if body.stream:
            failure = b"data: " + shapes.error(500, "fake engine: an error was asked for") + b"\n\n"
            return stream(_events(answer), shapes.DONE, failure, EVENTS, d, pace)
        return whole(answer.json(), d, pace.ttft_s + pace.gap_s * (len(answer.tokens) - 1))

    def _answer(self, body: shapes.Body, d: Directives, prompt_tokens: int, chat: bool) -> shapes.Answer:
        text = d.settings.get("text", self._options.text)
        tokens = shapes.split_tokens(text) if text else shapes.words(int(d.setting("chunks", self._options.chunks)))
        if begun := body.begun():
            tokens = shapes.after(tokens, begun)
        limit = body.max_completion_tokens or body.max_tokens
        finish = d.settings.get("finish", "stop")
        if limit is not None and limit < len(tokens):
            tokens, finish = tokens[:limit], "length"
        return shapes.Answer(
            chat=chat,
            model=body.model,
            tokens=tokens,
            finish_reason=finish,
            prompt_tokens=prompt_tokens,
            choices=body.n or 1,
            logprobs=bool(body.logprobs),
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )

    def _transcribe(self, call: Call) -> Script:
        raw = call.header(b"x-appliance-params") or "{}"
        params: dict[str, Any] = msgspec.json.decode(raw)
        d = self._directives(params.get("prompt") or "")
        failed = misconduct(d)
        if failed is not None:
            return failed
        if not call.body:
            problem = {"message": "the file holds no audio", "type": "invalid_request_error"}
            return plain(respond(400, shapes.encode({"error": {**problem, "param": "file", "code": "no_audio"}})))
        text = d.settings.get("text", self._options.text) or "a fake transcript of the recording"
        seconds = d.setting("audio_s", round(len(call.body) / 32000, 3))
        with_words = bool(params.get("word_timestamps"))
        result = shapes.transcript(params.get("language"), text.split(), seconds, with_words)
        pace = self._pace(d)
        if not params.get("stream"):
            return whole(shapes.encode(result), d, pace.ttft_s)
        failure = shapes.encode({"type": "error", "status": 500, "code": "engine_failed", "message": "asked for"})
        return stream(_lines(text, result), b"", failure + b"\n", LINES, d, pace)

    def _metrics(self) -> bytes:
        c, labels = self._counters, f'{{engine="0",model_name="{self._options.models[0]}"}}'
        rows = (
            ("gauge", "vllm:num_requests_running", "vllm:num_requests_running", c.running),
            ("gauge", "vllm:num_requests_waiting", "vllm:num_requests_waiting", len(c.waiting)),
            ("gauge", "vllm:kv_cache_usage_perc", "vllm:kv_cache_usage_perc", min(c.running / 256, 1.0)),
            ("histogram", "vllm:iteration_tokens_total", "vllm:iteration_tokens_total_count", c.steps),
            ("counter", "vllm:request_success_total", "vllm:request_success_total", c.finished),
            (
                "histogram",
                "vllm:request_prefill_kv_computed_tokens",
                "vllm:request_prefill_kv_computed_tokens_sum",
                1e4,
            ),
            ("histogram", "vllm:request_prefill_time_seconds", "vllm:request_prefill_time_seconds_sum", 1.0),
            ("counter", "fake:cancelled_total", "fake:cancelled_total", c.cancelled),
        )
        return "".join(
            f"# TYPE {family} {kind}\n{name}{labels} {float(v)}\n" for kind, family, name, v in rows
        ).encode()

    def _last(self) -> bytes:
        last = self._counters.last
        if last is None:
            return b"null"
        is_json = last.path != "/v1/transcribe" and last.body[:1] in (b"{", b"[")
        return shapes.encode(
            {
                "path": last.path,
                "headers": {k.decode("latin-1"): v.decode("latin-1") for k, v in last.headers},
                "body": msgspec.Raw(last.body) if is_json else None,
                "body_bytes": len(last.body),
                "seen": self._counters.seen,
            }
        )


def _events(answer: shapes.Answer) -> Iterator[bytes]:
    yield from answer.role_events()
    yield from answer.token_events()
    if answer.include_usage:
        yield answer.usage_event()


def _lines(text: str, result: dict[str, Any]) -> Iterator[bytes]:
    for token in shapes.split_tokens(text):
        yield shapes.encode({"type": "delta", "text": token.decode()}) + b"\n"
    yield shapes.encode({"type": "done", "result": result}) + b"\n"
