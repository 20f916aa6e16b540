"""The permit without which nothing leaves the box: what it is bound to, who may have one, how it is sealed.

What it is: the one place that issues an ``EgressPermit``. ``grant`` asks the gate once more, looks at the very bytes
that would leave, and gives a permit for those bytes or the reason of the closed set why not. ``seal`` signs it
(Ed25519: the hosted process can check permits and cannot make any), ``opened`` reads one back.
What it refuses to be: the last check. The hosted process verifies all of it again (``hosts/hosted_permits``), with
``residue`` and ``most_tokens`` below, so that both sides count alike. No I/O, clock or randomness: time and nonce are
handed in.
What it costs: 15 µs to look at a body of a kilobyte and 35 µs to sign, on hosted attempts only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from appliance.policy.gate import Asked, must_redact, refusal
from appliance.policy.personal import Kind, find
from appliance.types import Reason

LIVES_MS = 60_000
"""How long a permit is good for: from its issue to the moment the hosted process has read the request."""
MILLION = 1_000_000
# An image is at most 2,240 tokens at Gemini's highest resolution. A recording is 32 tokens a second, which cost twice
# what a text's do; no codec that is taken (wav, mp3) needs fewer than 1,000 bytes for a second.
_IMAGE_TOKENS = 2_240
_AUDIO_BYTES_A_TOKEN = 16
# names inside a message whose values are no text of anybody's: ids look like numbers
_NO_TEXT = frozenset({"role", "type", "id", "tool_call_id", "url", "data", "format", "detail", "thought_signature"})
_STAND_IN = re.compile(r"\[[A-Z]+(?:_[A-Z]+)?_[0-9]{1,4}\]")

Redaction = Literal["plain", "redacted"]


class Offer(Struct, frozen=True):
    """A hosted model as it is offered: where it runs, and nano-USD for a million tokens in and out.

    ``max_output_tokens`` is what an answer is held to where its request sets no bound.
    """

    engine: str
    model: str
    region: str
    prompt_nusd: int
    completion_nusd: int
    max_output_tokens: int = 8192


class Leaving(Struct, frozen=True):
    """What would leave and whose it is. ``attempt`` is ``REQUEST_ID/ORDINAL``, ``body`` the bytes as they are sent.

    ``redacted``: they went through ``Redaction``; ``formats`` are the tenant's own number formats, as regular
    expressions, which are no personal data.
    """

    tenant: str
    conversation: str
    attempt: str
    body: bytes
    redacted: bool = False
    formats: tuple[str, ...] = ()


class EgressPermit(Struct, frozen=True):
    """One attempt's leave to leave. Money in nano-USD, times in Unix milliseconds."""

    nonce: str
    tenant: str
    conversation: str
    attempt: str
    engine: str
    model: str
    region: str
    body_sha256: str
    redaction: Redaction
    formats: tuple[str, ...]
    cap_nusd: int
    prompt_nusd: int
    completion_nusd: int
    max_output_tokens: int
    issued_ms: int
    expires_ms: int

    def ceiling_nusd(self, body: bytes) -> int:
        """The most that ``body`` can cost. Raises ValueError for a body that is no JSON object."""
        prompt, completion = most_tokens(body, self.max_output_tokens)
        return _cost(prompt, completion, self.prompt_nusd, self.completion_nusd)

    def cost_nusd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What so many tokens cost at most: cached ones are counted in full."""
        return _cost(prompt_tokens, completion_tokens, self.prompt_nusd, self.completion_nusd)


class Signer(Protocol):
    """The gateway's key."""

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data``."""
        ...


class Verifier(Protocol):
    """Its public half."""

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` is one of ``data``."""
        ...


class NotSealed(Exception):
    """What was presented is no permit, or nobody who may has signed it."""


def ceiling_nusd(offer: Offer, body: bytes) -> int:
    """The most that ``body`` can cost at ``offer``: what an admission holds back. Raises ValueError."""
    return _cost(*most_tokens(body, offer.max_output_tokens), offer.prompt_nusd, offer.completion_nusd)


def grant(
    asked: Asked, offer: Offer, leaving: Leaving, *, nonce: str, now_ms: int, lives_ms: int = LIVES_MS
) -> EgressPermit | Reason:
    """A permit for exactly ``leaving.body`` at ``offer``, or why there is none.

    ``nonce`` is used once in the life of a key. Raises ValueError for a body that is no JSON object of chat messages.
    """
    ceiling = ceiling_nusd(offer, leaving.body)
    refused = refusal(asked, offer.region, ceiling)
    if refused is not None:
        return refused
    if must_redact(asked) and not leaving.redacted:
        return Reason.PERSONAL_DATA
    if leaving.redacted and (has_media(leaving.body) or residue(leaving.body, leaving.formats)):
        return Reason.PERSONAL_DATA
    bounds = [bound for bound in (asked.budget_nusd, asked.cap_nusd) if bound is not None]
    return EgressPermit(
        nonce=nonce,
        tenant=leaving.tenant,
        conversation=leaving.conversation,
        attempt=leaving.attempt,
        engine=offer.engine,
        model=offer.model,
        region=offer.region,
        body_sha256=digest(leaving.body),
        redaction="redacted" if leaving.redacted else "plain",
        formats=leaving.formats,
        cap_nusd=min(bounds, default=ceiling),
        prompt_nusd=offer.prompt_nusd,
        completion_nusd=offer.completion_nusd,
        max_output_tokens=offer.max_output_tokens,
        issued_ms=now_ms,
        expires_ms=now_ms + lives_ms,
    )


def seal(permit: EgressPermit, key: Signer) -> str:
    """The permit as it travels in the header ``X-Appliance-Permit``."""
    payload = msgspec.json.encode(permit)
    return f"{_base64(payload)}.{_base64(key.sign(payload))}"


_decoder = msgspec.json.Decoder(EgressPermit)


def opened(token: str, key: Verifier) -> EgressPermit:
    """The permit in ``token``. Raises NotSealed; nothing is read of one whose signature does not hold."""
    payload, _, signature = token.partition(".")
    try:
        data = _unbase64(payload)
        if not key.verifies(_unbase64(signature), data):
            raise NotSealed
        return _decoder.decode(data)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        raise NotSealed from None


def digest(body: bytes) -> str:
    """What a permit says of the bytes it is for."""
    return hashlib.sha256(body).hexdigest()


def most_tokens(body: bytes, max_output_tokens: int) -> tuple[int, int]:
    """Tokens in and out at most. Raises ValueError for a body that is no JSON object.

    No tokenizer makes more than one token of a byte, and a bound has to hold: real prompts are a quarter of it.
    """
    read = _read(body)
    images, audio = 0, 0
    text = len(body)
    for part in _parts(read):
        if part.get("type") == "image_url":
            images += 1
            text -= _length(part.get("image_url"), "url")
        elif part.get("type") == "input_audio":
            size = _length(part.get("input_audio"), "data")
            audio += size
            text -= size
    wanted = read.get("max_tokens") or read.get("max_completion_tokens")
    most = wanted if isinstance(wanted, int) and wanted > 0 else max_output_tokens
    choices = read.get("n")
    answers = choices if isinstance(choices, int) and choices > 0 else 1
    return max(text, 0) + images * _IMAGE_TOKENS + audio // _AUDIO_BYTES_A_TOKEN, most * answers


def has_media(body: bytes) -> bool:
    """Whether there is an image or a recording in it, which nothing here can redact."""
    return any(part.get("type") not in (None, "text", "refusal") for part in _parts(_read(body)))


def residue(body: bytes, formats: Sequence[str] = ()) -> frozenset[Kind]:
    """Personal data that is still in the messages of a body said to be redacted.

    Each text is looked at by itself: what only the turn before it gives away is the gateway's to find. Raises
    ValueError for a body that is no JSON object, or a format that is no regular expression.
    """
    try:
        own = [re.compile(pattern) for pattern in formats]
    except re.error as e:
        raise ValueError(f"a number format is no regular expression: {e}") from None
    found: set[Kind] = set()
    for text in _texts(_read(body).get("messages")):
        # the words in stand-ins are labels, and would make numbers of others of what follows them
        found.update(one.kind for one in find(_STAND_IN.sub("[…]", text), formats=own))
    return frozenset(found)


def _read(body: bytes) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(read, dict):
        raise ValueError("the body is not a JSON object")
    return read


def _parts(read: dict[str, Any]) -> Iterator[dict[str, Any]]:
    messages = read.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part


def _length(holder: Any, name: str) -> int:
    value = holder.get(name) if isinstance(holder, dict) else None
    return len(value) if isinstance(value, str) else 0


def _texts(value: Any) -> Iterator[str]:
    """Every text a person, a tool or a model wrote, wherever in the messages it stands."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "arguments" and isinstance(item, str):
                yield from _in_json(item)
            elif name not in _NO_TEXT:
                yield from _texts(item)


def _in_json(text: str) -> Iterator[str]:
    """A tool's arguments as their texts, with escapes undone; as they are where they are no JSON."""
    try:
        yield from _leaves(json.loads(text))
    except (ValueError, RecursionError):
        yield text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            # with its name before it, which is the label of what it holds
            yield from (f"{name} {leaf}" for leaf in _leaves(item))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield str(value)


def _cost(prompt: int, completion: int, prompt_nusd: int, completion_nusd: int) -> int:
    """Rounded up: a bound that rounds down is none."""
    return -(-(prompt * prompt_nusd + completion * completion_nusd) // MILLION)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _unbase64(text: str) -> bytes:
    raw = text.encode("ascii")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
