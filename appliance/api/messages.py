"""Chat messages and tools: their types, and what has to be checked beyond types.

What it is: one msgspec struct a role and a content part. They are decoded strictly, tidied in place before
anybody else sees them (hints and echoes of earlier answers dropped, ``developer`` turned into ``system``,
which every chat template knows), and encoded again for the engine.
What it refuses to be: a fetcher. Media come as ``data:`` URIs or not at all: an engine that follows a
caller's URL is a way into the site's network.
What it costs: decoding apart, one comparison a message where content is a plain string.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.schemas import SchemaBudget
from appliance.api.strictjson import invalid

MAX_MESSAGES = 4096
MAX_MEDIA_PARTS = 16
MAX_TOOLS = 128
MAX_TOOLS_BYTES = 256 * 1024

ShortText = Annotated[str, Meta(min_length=1, max_length=256)]
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]

_IMAGE = re.compile(r"data:image/(?:png|jpe?g|webp|gif|bmp);base64,[A-Za-z0-9+/]")
_SCHEME = re.compile(r"(?:https?|ftp|file|gs|s3)://", re.IGNORECASE)


class _Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class TextPart(_Strict, tag_field="type", tag="text"):
    """Text inside an array of parts."""

    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class RefusalPart(_Strict, tag_field="type", tag="refusal"):
    """An earlier refusal of the model, echoed."""

    refusal: str


class ImageUrl(_Strict):
    """Where an image is: inside the request, as a data URI."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(_Strict, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputAudio(_Strict):
    """A recording, base64."""

    data: Annotated[str, Meta(min_length=1)]
    format: Literal["wav", "mp3"]


class AudioPart(_Strict, tag_field="type", tag="input_audio"):
    """A recording inside a message."""

    input_audio: InputAudio
    prompt_cache_breakpoint: dict[str, Any] | None = None


TextContent = str | Annotated[list[TextPart], Meta(min_length=1)]
UserContent = str | Annotated[list[TextPart | ImagePart | AudioPart], Meta(min_length=1)]
AssistantContent = str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)]


class SystemMessage(_Strict, tag_field="role", tag="system"):
    """Instructions."""

    content: TextContent
    name: ShortText | None = None


class DeveloperMessage(_Strict, tag_field="role", tag="developer"):
    """Instructions, under OpenAI's newer name."""

    content: TextContent
    name: ShortText | None = None


class UserMessage(_Strict, tag_field="role", tag="user"):
    """What a person says or shows."""

    content: UserContent
    name: ShortText | None = None


class CalledFunction(_Strict):
    """Name and JSON arguments of a call the model made."""

    name: ShortText
    arguments: str


class ToolCall(_Strict):
    """A call the model made; ``index`` is left from streams that a client put together.

    ``extra_content`` is a hosted model's thought signature, which goes back to it.
    """

    id: ShortText
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None
    extra_content: dict[str, Any] | None = None


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    """An earlier answer. Clients echo it as they got it, so fields that only answers have are taken too."""

    content: AssistantContent | None = None
    name: ShortText | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(_Strict, tag_field="role", tag="tool"):
    """The result of a tool call."""

    content: TextContent
    tool_call_id: ShortText
    name: ShortText | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(_Strict):
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool: always a function."""

    type: Literal["function"]
    function: Function


class ChosenFunction(_Strict):
    """The name inside ``tool_choice``."""

    name: FunctionName


class ChosenTool(_Strict):
    """The one tool that has to be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required"] | ChosenTool


def tidy(messages: list[Message]) -> None:
    """Check and clean ``messages`` in place. Raises BadRequest naming the message."""
    media = 0
    for i, message in enumerate(messages):
        if type(message) is AssistantMessage:
            _tidy_assistant(message, i)
        elif type(message) is DeveloperMessage:
            messages[i] = SystemMessage(message.content, message.name)
        if type(message.content) is list:
            media += _tidy_parts(message.content, f"messages[{i}].content")
            if media > MAX_MEDIA_PARTS:
                raise invalid("messages", f"hold more than {MAX_MEDIA_PARTS} images and recordings; send fewer")


def _tidy_assistant(message: AssistantMessage, i: int) -> None:
    if message.reasoning is None:
        message.reasoning = message.reasoning_content
    if message.content is None and not message.tool_calls:
        if message.refusal is None and message.reasoning is None:
            raise invalid(
                f"messages[{i}].content", "must be a string or an array of content parts; null needs tool_calls"
            )
        message.content = message.refusal or ""
    for call in message.tool_calls or ():
        call.index = None
    message.tool_calls = message.tool_calls or None
    message.reasoning_content = message.refusal = message.annotations = None


def _tidy_parts(parts: list[Any], path: str) -> int:
    media = 0
    for i, part in enumerate(parts):
        if type(part) is RefusalPart:
            continue
        part.prompt_cache_breakpoint = None
        if type(part) is ImagePart:
            media += 1
            _check_image(part.image_url.url, f"{path}[{i}].image_url.url")
        elif type(part) is AudioPart:
            media += 1
            if _SCHEME.match(part.input_audio.data):
                raise invalid(f"{path}[{i}].input_audio.data", "must be base64; remote URLs are not fetched")
    return media


def _check_image(url: str, path: str) -> None:
    if _IMAGE.match(url):
        return
    if _SCHEME.match(url):
        raise invalid(path, "is a remote URL and those are not fetched; send the image as data:image/png;base64,…")
    raise invalid(path, "must be a data URI of a png, jpeg, webp, gif or bmp image, such as data:image/png;base64,…")


def check_tools(tools: list[Tool] | None, choice: ToolChoice | None, budget: SchemaBudget) -> None:
    """Check that schemas are within bounds and that a chosen tool exists. Raises BadRequest."""
    if tools is None:
        if choice is not None and choice != "none":
            raise invalid("tool_choice", "needs 'tools'; send both or neither")
        return
    names = set()
    for i, tool in enumerate(tools):
        function = tool.function
        if function.name in names:
            raise invalid(f"tools[{i}].function.name", "is the name of an earlier tool; names must differ")
        names.add(function.name)
        if function.parameters is not None:
            budget.spend(function.parameters, f"tools[{i}].function.parameters")
    if isinstance(choice, ChosenTool) and choice.function.name not in names:
        raise invalid("tool_choice.function.name", "is not the name of one of the tools")
