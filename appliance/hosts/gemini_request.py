"""OpenAI's chat request as Gemini's: one pure function.

What it is: ``gemini_request(body)`` gives the ``contents`` and ``config`` that google-genai takes, as plain values, and
the names of parameters Gemini has nothing for. Thought signatures come from the caller's own echo, else from the
``signature_of`` handed in, else Gemini is told to do without.
What it refuses to be: a fetcher (remote URLs are an error), or an importer of google-genai: tests run it alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from appliance.errors import BadRequest

Signature = Callable[[str], bytes | None]

NO_SIGNATURE = b"skip_thought_signature_validator"
"""What Gemini takes in place of a signature that is lost. https://ai.google.dev/gemini-api/docs/thought-signatures"""
# reasoning_effort -> thinking_level. Gemini 3 always thinks; "none" is the least it does.
THINKING = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
TOOL_CHOICE = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_PLAIN = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_KNOWN = frozenset(
    (
        *_PLAIN, "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "stop",
        "seed", "top_k", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
    )
)  # fmt: skip
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,")
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mp3"}
_NEVER: Signature = lambda call_id: None  # noqa: E731 - a value, beside the type it has


class GeminiRequest(Struct, frozen=True):
    """``contents`` and ``config`` as google-genai takes them; ``dropped`` are parameters with no counterpart."""

    contents: list[dict[str, Any]]
    config: dict[str, Any]
    dropped: tuple[str, ...] = ()


def gemini_request(body: Mapping[str, Any], max_output_tokens: int, signature_of: Signature = _NEVER) -> GeminiRequest:
    """Raises BadRequest naming what Gemini cannot take. ``max_output_tokens`` holds where the body sets no bound."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a non-empty array", param="messages")
    if body.get("n") not in (None, 1):
        raise BadRequest("a hosted model gives one answer a request; leave n out", param="n")
    system, contents = _turns(messages, signature_of)
    if not contents:
        raise BadRequest("a hosted model needs a message of the user; add one", param="messages")
    if contents[-1]["role"] == "model":
        raise BadRequest("the last message must be the user's or a tool's, not the assistant's", param="messages")
    config = _sampling(body, max_output_tokens)
    if system:
        config["system_instruction"] = "\n\n".join(system)
    config |= _tools(body) | _format(body)
    # the SDK would call functions by itself, and ask again where an answer is cut: both are others' decisions
    config["automatic_function_calling"] = {"disable": True}
    config["automatic_continuation"] = False
    dropped = tuple(sorted(name for name, value in body.items() if name not in _KNOWN and value is not None))
    return GeminiRequest(contents, config, dropped)


def _sampling(body: Mapping[str, Any], max_output_tokens: int) -> dict[str, Any]:
    config = {theirs: body[ours] for ours, theirs in _PLAIN.items() if body.get(ours) is not None}
    config["max_output_tokens"] = body.get("max_tokens") or body.get("max_completion_tokens") or max_output_tokens
    if body.get("seed") is not None:
        config["seed"] = body["seed"] % 2**31  # theirs has 32 bits
    if (body.get("top_k") or -1) > 0:
        config["top_k"] = body["top_k"]
    if stop := body.get("stop"):
        config["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if effort := body.get("reasoning_effort"):
        if effort not in THINKING:
            raise BadRequest(f"reasoning_effort must be one of {', '.join(THINKING)}", param="reasoning_effort")
        config["thinking_config"] = {"thinking_level": THINKING[effort]}
    return config


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools")
    if not tools:
        return {}
    declarations = []
    for tool in tools:
        function = tool["function"]
        declaration = {"name": function["name"], "description": function.get("description") or ""}
        # `parameters` breaks on ["string", "null"] and refuses $defs (python-genai); this takes JSON schema as it is
        if function.get("parameters"):
            declaration["parameters_json_schema"] = function["parameters"]
        declarations.append(declaration)
    config: dict[str, Any] = {"tools": [{"function_declarations": declarations}]}
    choice = body.get("tool_choice")
    if choice is not None:
        config["tool_config"] = {"function_calling_config": _calling(choice)}
    return config


def _calling(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in TOOL_CHOICE:
        return {"mode": TOOL_CHOICE[choice]}
    try:
        return {"mode": "ANY", "allowed_function_names": [choice["function"]["name"]]}
    except (TypeError, KeyError):
        raise BadRequest('tool_choice must be "auto", "none", "required" or a function', param="tool_choice") from None


def _format(body: Mapping[str, Any]) -> dict[str, Any]:
    wanted = body.get("response_format") or {}
    match wanted.get("type"):
        case "json_schema":
            return {
                "response_mime_type": "application/json",
                "response_json_schema": wanted["json_schema"]["schema"],
            }
        case "json_object":
            return {"response_mime_type": "application/json"}
    return {}


def _turns(messages: Sequence[Any], signature_of: Signature) -> tuple[list[str], list[dict[str, Any]]]:
    """System texts, and turns in which two of one role in a row are one: answers to parallel calls belong together."""
    system: list[str] = []
    contents: list[dict[str, Any]] = []
    called: dict[str, str] = {}
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        match message.get("role"):
            case "system" | "developer":
                system += [part["text"] for part in _content(message.get("content"), where)]
                continue
            case "user":
                role, parts = "user", _content(message.get("content"), where)
            case "assistant":
                role, parts = "model", _said(message, where, called, signature_of)
            case "tool":
                role, parts = "user", [_result(message, where, called)]
            case other:
                raise BadRequest(f"{where}.role is {other!r}, which no hosted model knows", param=f"{where}.role")
        if not parts:
            continue
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    return system, contents


def _content(content: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [_part(part, f"{where}.content[{place}]") for place, part in enumerate(content or ())]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"text": part["text"]}
        case "refusal":
            return {"text": part["refusal"]}
        case "image_url":
            url = str(part["image_url"]["url"])
            found = _DATA_URI.match(url)
            if found is None:
                raise BadRequest(
                    f"{where} is a remote URL and those are not fetched; send data:image/png;base64,…", param=where
                )
            return {"inline_data": {"mime_type": found[1], "data": _bytes(url[found.end() :], where)}}
        case "input_audio":
            audio = part["input_audio"]
            if audio.get("format") not in _AUDIO:
                raise BadRequest(f"{where}.input_audio.format must be wav or mp3", param=where)
            return {"inline_data": {"mime_type": _AUDIO[audio["format"]], "data": _bytes(audio["data"], where)}}
    raise BadRequest(f"{where} is of a type that hosted models do not take", param=where)


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{where} must be base64; remote URLs are not fetched", param=where) from None


def _said(
    message: Mapping[str, Any], where: str, called: dict[str, str], signature_of: Signature
) -> list[dict[str, Any]]:
    parts = _content(message.get("content"), where)
    for place, call in enumerate(message.get("tool_calls") or ()):
        function, call_id = call["function"], call["id"]
        called[call_id] = function["name"]
        part: dict[str, Any] = {
            "function_call": {"id": call_id, "name": function["name"], "args": _arguments(function, where, place)}
        }
        signature = _echoed(call) or signature_of(call_id)
        if signature is None and place == 0:  # of calls made at once only the first carries one
            signature = NO_SIGNATURE
        if signature is not None:
            part["thought_signature"] = signature
        parts.append(part)
    return parts


def _echoed(call: Mapping[str, Any]) -> bytes | None:
    """The signature as it went out with the call, where the client kept it."""
    try:
        return base64.b64decode(call["extra_content"]["google"]["thought_signature"], validate=True) or None
    except (KeyError, TypeError, ValueError):
        return None


def _arguments(function: Mapping[str, Any], where: str, place: int) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(function["arguments"] or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = None
    if not isinstance(read, dict):
        param = f"{where}.tool_calls[{place}].function.arguments"
        raise BadRequest(f"{param} must be the text of a JSON object", param=param)
    return read


def _result(message: Mapping[str, Any], where: str, called: Mapping[str, str]) -> dict[str, Any]:
    call_id = message.get("tool_call_id", "")
    name = called.get(call_id) or message.get("name")
    if not name:
        param = f"{where}.tool_call_id"
        raise BadRequest(f"{param} names no earlier tool call; send the assistant's message with it", param=param)
    text = "".join(part.get("text", "") for part in _content(message.get("content"), where))
    try:
        read = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = text
    return {
        "function_response": {
            "id": call_id,
            "name": name,
            "response": read if isinstance(read, dict) else {"result": read},
        }
    }
