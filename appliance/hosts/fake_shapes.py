"""The bytes vLLM 0.32 puts on the wire, field for field, for the fake engine.

What it is: bodies and server-sent events as ``vllm/entrypoints/openai`` renders them: unset fields
absent in events, ``null`` in whole answers, the usage event with ``choices: []``, errors with an
integer ``code``. Built by joining prepared bytes, because the fake is also the upstream of the
gateway bench and has one core for itself and the load generator.
What it refuses to be: a tokenizer. Four characters are one prompt token; an answer is ``t0 t1 …``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec

encode = msgspec.json.encode
_ids = count(1)


class Message(msgspec.Struct):
    """One chat message, as far as the fake looks at it."""

    role: str = ""
    content: Any = None


class StreamOptions(msgspec.Struct):
    """``include_usage`` asks for the usage event."""

    include_usage: bool = False


class Body(msgspec.Struct):
    """A chat or completion request, as far as the fake looks at it; other keys are ignored."""

    model: str = ""
    messages: list[Message] = []
    prompt: Any = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    logprobs: Any = None
    continue_final_message: bool = False

    def begun(self) -> str:
        """The text that the answer goes on from, empty where it begins."""
        return _text(self.messages[-1].content) if self.continue_final_message and self.messages else ""

    def last_text(self) -> str:
        """The last user message, or the prompt, as text."""
        if self.prompt is not None:
            return self.prompt if isinstance(self.prompt, str) else str(self.prompt)
        for message in reversed(self.messages):
            if message.role == "user":
                return _text(message.content)
        return ""

    def prompt_tokens(self) -> int:
        """Characters of everything sent, divided by four."""
        if self.prompt is not None:
            return len(self.last_text()) // 4 + 1
        return sum(len(_text(m.content)) for m in self.messages) // 4 + 1


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


class Answer(msgspec.Struct):
    """What will be said: ``tokens`` pieces of text, why it ends, and how it was asked for."""

    chat: bool
    model: str
    tokens: Sequence[bytes]
    finish_reason: str
    prompt_tokens: int
    choices: int = 1
    logprobs: bool = False
    include_usage: bool = False
    id: str = ""
    created: int = 0

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{next(_ids):032x}"
        self.created = int(time.time())

    def usage(self) -> dict[str, Any]:
        """vLLM's UsageInfo of the whole answer."""
        completion = len(self.tokens) * self.choices
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + completion,
            "completion_tokens": completion,
        }

    def json(self) -> bytes:
        """The body of an answer that is not streamed."""
        text = b"".join(self.tokens).decode()
        logprobs = {"content": [_logprob(t) for t in self.tokens]} if self.logprobs and self.chat else None
        choices = [self._choice(i, text, logprobs) for i in range(self.choices)]
        tail: dict[str, Any] = {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return encode(
            {
                "id": self.id,
                "object": "chat.completion" if self.chat else "text_completion",
                "created": self.created,
                "model": self.model,
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": None,
                "usage": {**self.usage(), "prompt_tokens_details": None},
                **(tail if self.chat else {}),
                "kv_transfer_params": None,
            }
        )

    def _choice(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        tail = {"finish_reason": self.finish_reason, "stop_reason": None, "token_ids": None}
        if not self.chat:
            extra = {"prompt_logprobs": None, "prompt_token_ids": None}
            return {"index": index, "text": text, "logprobs": None, **tail, **extra}
        message = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        return {"index": index, "message": message, "logprobs": logprobs, **tail}

    def _head(self) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return (
            f'data: {{"id":"{self.id}","object":"{kind}","created":{self.created},"model":'.encode()
            + encode(self.model)
            + b',"choices":['
        )

    def role_events(self) -> Iterator[bytes]:
        """The opening event of each choice of a chat stream; none for completions."""
        head = self._head() if self.chat else b""
        for index in range(self.choices if self.chat else 0):
            yield head + (
                b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
                % index
            )

    def token_events(self) -> Iterator[bytes]:
        """One event a token, the last with its finish_reason."""
        head, last = self._head(), len(self.tokens) - 1
        opening, closing = (b'"delta":{"content":', b"}") if self.chat else (b'"text":', b"")
        middle = closing + b',"logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}]}\n\n'
        ending = (
            closing + b',"logprobs":null,"finish_reason":"%s","stop_reason":null,"token_ids":null}]}\n\n'
        ) % self.finish_reason.encode()
        for i, token in enumerate(self.tokens):
            for index in range(self.choices):
                start = head + b'{"index":%d,' % index
                yield b"%s%s%s%s" % (start, opening, encode(token.decode()), ending if i == last else middle)

    def usage_event(self) -> bytes:
        """The event with ``choices: []`` that ``stream_options.include_usage`` asks for."""
        return self._head() + b'],"usage":' + encode(self.usage()) + b"}\n\n"


DONE = b"data: [DONE]\n\n"


def _logprob(token: bytes) -> dict[str, Any]:
    entry = {"token": token.decode(), "logprob": -0.25, "bytes": list(token)}
    return {**entry, "top_logprobs": [entry]}


_WORDS = tuple(b"t%d " % i for i in range(4096))


def words(n: int) -> Sequence[bytes]:
    """``n`` tokens of the standing text."""
    return _WORDS[:n] if n <= len(_WORDS) else tuple(b"t%d " % i for i in range(n))


def split_tokens(text: str) -> Sequence[bytes]:
    """``text`` as tokens that join to it again: words with the space after them."""
    pieces = text.split(" ")
    return [f"{piece} ".encode() for piece in pieces[:-1]] + [pieces[-1].encode()]


def after(tokens: Sequence[bytes], begun: str) -> Sequence[bytes]:
    """What of ``tokens`` is still to be said once ``begun`` was; the last one again where nothing is."""
    said, rest = b"", begun.encode()
    for n, token in enumerate(tokens):
        if len(said) >= len(rest):
            return tokens[n:]
        said += token
    return tokens[-1:]


_ERROR_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}


def error(status: int, message: str, param: str | None = None) -> bytes:
    """vLLM's ErrorResponse: ``code`` is the status as an integer."""
    kind = _ERROR_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return encode({"error": {"message": message, "type": kind, "param": param, "code": status}})


def too_long(limit: int, tokens: int) -> bytes:
    """The body of a 400 for a prompt over the context (vllm/renderers/params.py)."""
    return error(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains {tokens} input"
        " tokens, which exceeds this limit even without any output tokens. Please reduce the length of the"
        " input prompt.",
        "input_tokens",
    )


def models(names: Sequence[str], context: int) -> bytes:
    """``GET /v1/models``."""
    created = int(time.time())
    cards: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": name,
            "parent": None,
            "max_model_len": context,
            "permission": [],
        }
        for name in names
    ]
    return encode({"object": "list", "data": cards})


def transcript(language: str | None, words_: Sequence[str], seconds: float, with_words: bool) -> dict[str, Any]:
    """The result object of ``POST /v1/transcribe``: one segment, evenly spaced words. Seconds."""
    text = " ".join(words_)
    each = seconds / max(len(words_), 1)
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": text,
        "tokens": list(range(len(words_))),
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }
    timed = [{"word": w, "start": round(i * each, 3), "end": round((i + 1) * each, 3)} for i, w in enumerate(words_)]
    return {
        "language": language or "en",
        "language_probability": 0.99,
        "duration_s": seconds,
        "text": text,
        "segments": [segment],
        "words": timed if with_words else None,
    }
