"""``/v1/chat/completions``: the request body, checked.

What it is: ``parse_chat`` turns bytes into ``ChatParams`` or raises BadRequest naming the parameter. The fields
below are the allow-list; ``parameters.CHAT`` says in words what each is and what becomes of it.
What it refuses to be: a template renderer or a tokenizer. Whether the prompt fits is for the engine to say.
What it costs: 3 µs for a 500-byte request, decoded, checked and encoded for the engine; 8 µs more a tool.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.api.messages import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOOLS_BYTES,
    FunctionName,
    Message,
    Tool,
    ToolChoice,
    check_tools,
    tidy,
)
from appliance.api.parameters import CHAT
from appliance.api.sampling import Envelope, SamplingFields, TokenCount, seal
from appliance.api.schemas import SchemaBudget
from appliance.api.strictjson import decode, invalid

ChatParams = Envelope

Hint = Annotated[str, Meta(max_length=512)]
ConversationId = Annotated[str, Meta(min_length=1, max_length=128)]
Scalar = Annotated[str, Meta(max_length=256)] | bool | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | None

# Arguments of transformers' apply_chat_template: a caller who sets one replaces the template itself.
TEMPLATE_INTERNALS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


class ConversationRef(Struct, forbid_unknown_fields=True):
    """A conversation as the Responses API writes it."""

    id: ConversationId


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Plain text, the default."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchema(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A named schema."""

    name: FunctionName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that follows a schema."""

    json_schema: JsonSchema


class ChatFields(SamplingFields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body as it may come in. Fields of type None are known and refused."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: TokenCount | None = None
    max_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template_kwargs: Annotated[dict[Annotated[str, Meta(max_length=64)], Scalar], Meta(max_length=16)] | None = (
        None
    )
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    conversation: ConversationId | ConversationRef | None = None
    previous_response_id: ConversationId | None = None
    modalities: list[Literal["text"]] | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: Hint | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Hint | None = None
    safety_identifier: Hint | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    web_search_options: None = None


_decoder = msgspec.json.Decoder(ChatFields)


def parse_chat(body: bytes) -> ChatParams:
    """Check ``body``. Raises BadRequest; a body that passes is encoded once, for every engine."""
    fields = decode(body, _decoder, CHAT)
    tidy(fields.messages)
    if fields.tools is not None or fields.tool_choice is not None or fields.response_format is not None:
        _check_grammar(fields)
    if fields.top_logprobs and not fields.logprobs:
        raise invalid("top_logprobs", 'needs "logprobs": true; send both or neither')
    if fields.chat_template_kwargs:
        _check_template_kwargs(fields.chat_template_kwargs)
    _merge_token_limits(fields)
    metadata, user = fields.metadata, fields.user or fields.safety_identifier
    named = fields.conversation
    conversation = named.id if isinstance(named, ConversationRef) else named
    previous_id = fields.previous_response_id
    fields.conversation = fields.previous_response_id = None
    _drop_hints(fields)
    fields.user = user
    return seal(fields, fields.n or 1, metadata, CHAT, fields.messages, conversation, previous_id)


def _check_grammar(fields: ChatFields) -> None:
    budget = SchemaBudget()
    check_tools(fields.tools, fields.tool_choice, budget)
    if fields.tools is not None and len(msgspec.json.encode(fields.tools)) > MAX_TOOLS_BYTES:
        raise invalid("tools", f"are larger than {MAX_TOOLS_BYTES // 1024} kB together; send fewer or shorten them")
    if isinstance(fields.response_format, JsonSchemaFormat):
        budget.spend(fields.response_format.json_schema.schema, "response_format.json_schema.schema", exact=True)


def _check_template_kwargs(kwargs: dict[str, Any]) -> None:
    for name in kwargs:
        if name in TEMPLATE_INTERNALS:
            raise invalid(f"chat_template_kwargs.{name}", "belongs to the engine's internals; remove it")


def _merge_token_limits(fields: ChatFields) -> None:
    newer = fields.max_completion_tokens
    if newer is None:
        return
    if fields.max_tokens is not None and fields.max_tokens != newer:
        raise invalid("max_completion_tokens", "and 'max_tokens' differ; send one of them")
    # every OpenAI-compatible engine knows max_tokens, not all know the newer name
    fields.max_tokens, fields.max_completion_tokens = newer, None


_HINTS = tuple(CHAT.dropped())


def _drop_hints(fields: ChatFields) -> None:
    fields.metadata = None
    for name in _HINTS:
        setattr(fields, name, None)
