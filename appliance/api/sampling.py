"""What both completion endpoints share: sampling parameters, the model, streaming, and the engine's body.

What it is: the fields with their ranges (checked while decoding), the few rules between fields, and the way
a checked body becomes the bytes an engine gets.
What it refuses to be: a merger of dictionaries. The engine's body is encoded from the typed fields, so
nothing that was not understood can be in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from appliance.api.parameters import Parameters
from appliance.api.strictjson import invalid, missing

MAX_CHOICES = 8

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
TokenCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]

_TOKEN_ID = re.compile(r"\d{1,9}\Z", re.ASCII)
# vLLM refuses 0, which OpenAI documents as the smallest value; this keeps the likeliest token alone as well
_SMALLEST_TOP_P = 1e-6
_encoder = msgspec.json.Encoder()


class StreamOptions(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """``stream_options``. Obfuscation pads events against listeners outside TLS; a hint, dropped."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


# the gateway always meters; the chunk is taken out again where the caller did not ask for it
_METERED = StreamOptions(include_usage=True)


class SamplingFields(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Fields of both request bodies. ``None`` is "not given", and is not sent on."""

    model: ModelName | UnsetType = UNSET
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=4)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None


class Envelope(Struct, frozen=True):
    """What the gateway reads of a completion request, chat or legacy.

    ``choices`` is how many answers have to finish; ``max_tokens`` the bound on each, None when not given;
    ``tail`` the encoded engine body without its model and salt. ``messages`` are a chat's, ``conversation`` and
    ``previous_id`` what its caller says it belongs to.
    """

    model: str
    stream: bool
    include_usage: bool
    choices: int
    max_tokens: int | None
    user: str | None
    metadata: dict[str, str] | None
    tail: bytes
    messages: Sequence[Any] | None = None
    conversation: str | None = None
    previous_id: str | None = None

    def engine_body(self, model: str, cache_salt: str | None) -> bytes:
        """The body for an engine that serves the model as ``model``.

        ``cache_salt`` keeps tenants' prefix caches apart; None for engines that are not vLLM.
        """
        head = b'{"model":' + _encoder.encode(model)
        if cache_salt is not None:
            head += b',"cache_salt":' + _encoder.encode(cache_salt)
        return head + b"," + self.tail


def seal(
    fields: SamplingFields,
    choices: int,
    metadata: dict[str, str] | None,
    parameters: Parameters,
    messages: Sequence[Any] | None = None,
    conversation: str | None = None,
    previous_id: str | None = None,
) -> Envelope:
    """Check the rules between fields and encode. ``fields`` must not be used afterwards. Raises BadRequest."""
    model, user = fields.model, fields.user
    if model is UNSET:
        raise missing("model", parameters)
    stream, options = fields.stream is True, fields.stream_options
    if options is not None and not stream:
        raise invalid("stream_options", 'needs "stream": true; send both or neither')
    if fields.logit_bias:
        _check_token_ids(fields.logit_bias)
    if fields.top_p == 0:
        fields.top_p = _SMALLEST_TOP_P
    if not fields.stop:
        fields.stop = None
    fields.model, fields.user = UNSET, None
    fields.stream, fields.stream_options = (True, _METERED) if stream else (None, None)
    include_usage = options is not None and options.include_usage is True
    # the outer brace is replaced by engine_body's own
    tail = _encoder.encode(fields)[1:]
    belongs = (messages, conversation, previous_id)
    return Envelope(model, stream, include_usage, choices, fields.max_tokens, user, metadata, tail, *belongs)


def _check_token_ids(bias: dict[str, float]) -> None:
    for token in bias:
        if _TOKEN_ID.match(token) is None:
            raise invalid("logit_bias", 'must have token ids as names, such as "1234"')
