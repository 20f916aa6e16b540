"""Gemini's answer as OpenAI's: pure, whole or in pieces.

What it is: ``whole(response)`` gives a chat completion, ``Streamed`` the events of one. Both read the plain values of
google-genai's response (``model_dump(exclude_none=True)``). A finish reason nobody knows, or none, is an error of the
engine and never ``stop``: what is cut must not look complete.
What it refuses to be: a passer-on of thoughts; they are counted and not shown.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from appliance.errors import EngineFailed

Keep = Callable[[str, bytes], None]

FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
DONE = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


class Reader:
    """What is known of one answer so far. ``keep`` is told each tool call's id and thought signature."""

    def __init__(self, request_id: str, keep: Keep = lambda call_id, signature: None) -> None:
        self._request_id = request_id
        self._keep = keep
        self._calls = 0
        self.finish: str | None = None
        self.refusal = ""
        self.usage: dict[str, Any] | None = None

    def read(self, response: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Text and tool calls of a response or of a piece of one. Raises EngineFailed for an unknown finish reason."""
        if response.get("usage_metadata"):
            self.usage = usage_of(response["usage_metadata"])
        candidates = response.get("candidates") or ()
        if not candidates:
            if reason := block_of(response):
                self.finish, self.refusal = "content_filter", f"Google's filter blocked the prompt ({reason})"
            return "", []
        candidate = candidates[0]
        text, calls = [], []
        for part in (candidate.get("content") or {}).get("parts") or ():
            if part.get("function_call"):
                calls.append(self._call(part))
            elif not part.get("thought") and part.get("text"):
                text.append(part["text"])
        reason = candidate.get("finish_reason")
        if reason is not None:
            self.finish = finish_of(reason, self._calls > 0)
            if self.finish == "content_filter":
                self.refusal = f"Google's filter stopped the answer ({name_of(reason)})"
        return "".join(text), calls

    def ended(self) -> str:
        """The finish reason. Raises EngineFailed where there was none: the answer is cut."""
        if self.finish is None:
            raise EngineFailed("Gemini's answer ended without a finish reason, so it is cut", code="stream_cut")
        return self.finish

    def _call(self, part: Mapping[str, Any]) -> dict[str, Any]:
        function = part["function_call"]
        call_id = function.get("id") or f"call_{self._request_id}_{self._calls}"
        call: dict[str, Any] = {
            "index": self._calls,
            "id": call_id,
            "type": "function",
            "function": {
                "name": function.get("name") or "",
                "arguments": _encoder.encode(function.get("args") or {}).decode(),
            },
        }
        self._calls += 1
        signature = part.get("thought_signature")
        if signature:
            self._keep(call_id, signature)
            call["extra_content"] = {"google": {"thought_signature": base64.b64encode(signature).decode("ascii")}}
        return call


def finish_of(reason: Any, called: bool) -> str:
    """OpenAI's finish reason. Raises EngineFailed for what is no end of an answer, or unknown."""
    name = name_of(reason)
    mapped = FINISH.get(name)
    if mapped is None:
        raise EngineFailed(f"Gemini stopped without an answer ({name[:60]}); try again", code="hosted_stopped")
    return "tool_calls" if mapped == "stop" and called else mapped


def block_of(response: Mapping[str, Any]) -> str:
    """Why the prompt was blocked: HTTP 200 and no candidates. Empty where it was not."""
    reason = (response.get("prompt_feedback") or {}).get("block_reason")
    return "" if reason is None else name_of(reason)


def name_of(value: Any) -> str:
    """A value of Google's enums as its name on the wire; the client gives those it does not know as they came."""
    return str(getattr(value, "value", value))


def usage_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's usage: thoughts are part of the completion, as they are charged."""
    thoughts = metadata.get("thoughts_token_count") or 0
    # what tools' results took of the prompt is counted apart
    prompt = (metadata.get("prompt_token_count") or 0) + (metadata.get("tool_use_prompt_token_count") or 0)
    completion = (metadata.get("candidates_token_count") or 0) + thoughts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": metadata.get("cached_content_token_count") or 0,
            "audio_tokens": _of_audio(metadata),
        },
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def _of_audio(metadata: Mapping[str, Any]) -> int:
    """Tokens of recordings in the prompt, which cost more than text."""
    details = metadata.get("prompt_tokens_details") or ()
    return sum(one.get("token_count") or 0 for one in details if name_of(one.get("modality")) == "AUDIO")


def whole(reader: Reader, response: Mapping[str, Any], model: str, request_id: str, created: int) -> bytes:
    """A chat completion. Raises EngineFailed for one that is unfinished."""
    text, calls = reader.read(response)
    finish = reader.ended()
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    if reader.refusal:
        message["refusal"] = reader.refusal
    return _encoder.encode(
        {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": reader.usage or usage_of({}),
        }
    )


class Streamed:
    """The events of a streamed answer, one call of ``feed`` a response, ``end`` when there is no more."""

    def __init__(self, reader: Reader, model: str, request_id: str, created: int, include_usage: bool) -> None:
        self._reader = reader
        self._include_usage = include_usage
        self._begun = False
        self._head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }

    def feed(self, response: Mapping[str, Any]) -> bytes:
        """What of ``response`` is to be sent now, perhaps nothing. Raises EngineFailed."""
        text, calls = self._reader.read(response)
        delta: dict[str, Any] = {}
        if not self._begun and (text or calls):
            self._begun = True
            delta["role"] = "assistant"
        if text:
            delta["content"] = text
        if calls:
            delta["tool_calls"] = calls
        return self._event(delta, None) if delta else b""

    def end(self) -> bytes:
        """The closing events. Raises EngineFailed where the answer is cut."""
        finish = self._reader.ended()
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant", "content": ""}
        if self._reader.refusal:
            delta["refusal"] = self._reader.refusal
        closing = self._event(delta, finish)
        if self._include_usage:
            usage = self._reader.usage or usage_of({})
            closing += b"data: %s\n\n" % _encoder.encode({**self._head, "choices": [], "usage": usage})
        return closing + DONE

    def _event(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: %s\n\n" % _encoder.encode({**self._head, "choices": [choice]})
