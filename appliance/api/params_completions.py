"""``/v1/completions``, the legacy route: the request body, checked.

What it is: ``parse_completions`` turns bytes into ``CompletionParams`` or raises BadRequest. LlamaIndex and
evaluation harnesses use this route; token ids are taken because the latter send nothing else.
What it refuses to be: a place for chat features. Response formats and tools are on the chat route.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.api.parameters import COMPLETIONS
from appliance.api.sampling import Envelope, SamplingFields, seal
from appliance.api.strictjson import decode, invalid, missing
from appliance.errors import BadRequest

CompletionParams = Envelope

MAX_PROMPTS = 128
MAX_PROMPT_TOKENS = 1_048_576

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# msgspec takes one array type a union, so what an array may hold together is checked below
Prompt = str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MAX_PROMPT_TOKENS)]


class CompletionFields(SamplingFields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body as it may come in."""

    prompt: Prompt | UnsetType = UNSET
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    suffix: str | None = None


_decoder = msgspec.json.Decoder(CompletionFields)


def parse_completions(body: bytes) -> CompletionParams:
    """Check ``body``. Raises BadRequest."""
    fields = decode(body, _decoder, COMPLETIONS)
    if fields.prompt is UNSET:
        raise missing("prompt", COMPLETIONS)
    n = fields.n or 1
    if fields.best_of not in (None, n):
        raise invalid("best_of", f"must be {COMPLETIONS.expects('best_of')}")
    if fields.suffix:
        raise BadRequest(
            f"'suffix' is not supported; {COMPLETIONS.expects('suffix')}", code="unsupported_parameter", param="suffix"
        )
    if fields.max_tokens == 0 and not fields.echo:
        raise invalid("max_tokens", f"must be {COMPLETIONS.expects('max_tokens')}")
    choices = n * _prompts(fields.prompt)
    if choices > MAX_PROMPTS:
        raise invalid("n", f"times the number of prompts is more than {MAX_PROMPTS}; send fewer prompts a request")
    fields.best_of = fields.suffix = None
    return seal(fields, choices, None, COMPLETIONS)


def _prompts(prompt: Prompt) -> int:
    """How many prompts ``prompt`` is. Raises BadRequest for a mixture, an empty one and too many."""
    if isinstance(prompt, str):
        if not prompt:
            raise _bad_prompt("must not be empty")
        return 1
    kinds = set(map(type, prompt))
    if len(kinds) != 1:
        raise _bad_prompt("must hold strings or token ids, not a mixture")
    if kinds == {int}:
        return 1
    if len(prompt) > MAX_PROMPTS:
        raise _bad_prompt(f"has more than {MAX_PROMPTS} entries; send fewer a request")
    if not all(prompt):
        raise _bad_prompt("has an empty entry; remove it")
    return len(prompt)


def _bad_prompt(text: str) -> BadRequest:
    return invalid("prompt", text)
