"""Who gets a permit, what it is bound to, and what is counted alike on both sides."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.policy.egress import (
    EgressPermit,
    Leaving,
    NotSealed,
    Offer,
    ceiling_nusd,
    digest,
    grant,
    has_media,
    most_tokens,
    opened,
    residue,
    seal,
)
from appliance.policy.gate import Asked
from appliance.policy.personal import Kind
from appliance.types import Reason

OFFER = Offer("gemini", "gemini-3.1-flash-lite", "asia-south1", 250_000_000, 1_500_000_000, max_output_tokens=100)
ALLOWED = Asked(residency="hosted_allowed", regions=("asia-south1",), personal_data="allow")


class Key:
    """Signs with its name; good enough to see what is signed."""

    def __init__(self, name: bytes = b"k") -> None:
        self.name = name

    def sign(self, data: bytes) -> bytes:
        return self.name + digest(data).encode()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        return signature == self.sign(data)


def body(*texts: Any, **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text} for text in texts], **more}).encode()


def asked_for(asked: Asked, content: bytes, **more: Any) -> EgressPermit | Reason:
    return grant(asked, OFFER, Leaving("tn", "cv", "req/1", content, **more), nonce="n", now_ms=1000, lives_ms=500)


def test_a_permit_is_bound_to_everything_it_was_given_for() -> None:
    sent = body("hello", max_tokens=10)
    permit = asked_for(replace(ALLOWED, cap_nusd=90_000, budget_nusd=80_000), sent)
    assert isinstance(permit, EgressPermit)
    assert (permit.tenant, permit.conversation, permit.attempt, permit.nonce) == ("tn", "cv", "req/1", "n")
    assert (permit.engine, permit.model, permit.region) == ("gemini", "gemini-3.1-flash-lite", "asia-south1")
    assert (permit.body_sha256, permit.redaction) == (digest(sent), "plain")
    assert (permit.issued_ms, permit.expires_ms, permit.cap_nusd) == (1000, 1500, 80_000)


@pytest.mark.parametrize(
    ("asked", "content", "more", "reason"),
    [
        (replace(ALLOWED, residency="local_only"), body("x"), {}, Reason.RESIDENCY),
        (replace(ALLOWED, regions=("global",)), body("x"), {}, Reason.REGION),
        (replace(ALLOWED, personal=True, personal_data="block"), body("x"), {}, Reason.PERSONAL_DATA),
        (replace(ALLOWED, residency="hosted_redacted"), body("x"), {}, Reason.PERSONAL_DATA),
        (replace(ALLOWED, personal=True, personal_data="redact"), body("x"), {}, Reason.PERSONAL_DATA),
        (replace(ALLOWED, cap_nusd=1), body("x"), {}, Reason.COST_CAP),
        (replace(ALLOWED, budget_nusd=1), body("x"), {}, Reason.BUDGET),
        (replace(ALLOWED, residency="hosted_redacted"), body("call 9876543210"), {"redacted": True},
         Reason.PERSONAL_DATA),
        (replace(ALLOWED, residency="hosted_redacted"),
         body([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]), {"redacted": True},
         Reason.PERSONAL_DATA),
    ],
)  # fmt: skip
def test_no_permit_and_the_reason(asked: Asked, content: bytes, more: dict[str, Any], reason: Reason) -> None:
    assert asked_for(asked, content, **more) is reason


def test_what_was_redacted_gets_one_and_says_so() -> None:
    permit = asked_for(replace(ALLOWED, residency="hosted_redacted"), body("call [PHONE_1]"), redacted=True)
    assert isinstance(permit, EgressPermit)
    assert permit.redaction == "redacted"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_json_object_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        asked_for(ALLOWED, content)


def test_a_sealed_permit_comes_back_and_a_changed_one_does_not() -> None:
    permit = asked_for(ALLOWED, body("x"))
    assert isinstance(permit, EgressPermit)
    token = seal(permit, Key())
    assert opened(token, Key()) == permit
    with pytest.raises(NotSealed):
        opened(token, Key(b"another"))
    payload, _, signature = token.partition(".")
    padded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    dearer = base64.urlsafe_b64encode(padded.replace(b"asia-south1", b"us-central1")).decode().rstrip("=")
    for forged in (f"{dearer}.{signature}", payload, f"{payload}.", f".{signature}", "", "ü.ü", f"{payload}.{payload}"):
        with pytest.raises(NotSealed):
            opened(forged, Key())


def test_what_is_signed_and_no_permit_is_refused() -> None:
    data = b'{"nonce": "n"}'
    pieces = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (data, Key().sign(data))]
    with pytest.raises(NotSealed):
        opened(".".join(pieces), Key())


def test_a_bound_counts_every_byte_and_every_answer() -> None:
    small = body("नमस्ते")
    assert most_tokens(small, 100) == (len(small), 100)
    assert most_tokens(body("x", max_tokens=7, n=3), 100)[1] == 21
    assert most_tokens(body("x", max_completion_tokens=9), 100)[1] == 9


def test_media_count_as_media() -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}]
    sound = [{"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "mp3"}}]
    assert most_tokens(body(image), 1)[0] < 2_240 + 300
    assert 10_000 <= most_tokens(body(sound), 1)[0] < 10_300
    assert has_media(body(image)) and has_media(body(sound))
    assert not has_media(body("x", [{"type": "text", "text": "y"}]))


def test_the_ceiling_rounds_up() -> None:
    offer = replace(OFFER, prompt_nusd=1, completion_nusd=0)
    assert ceiling_nusd(offer, body("x")) == 1
    assert ceiling_nusd(OFFER, body("x", max_tokens=10)) == len(body("x", max_tokens=10)) * 250 + 10 * 1500


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "my number is 9876543210"},
        {"role": "user", "content": [{"type": "text", "text": "फ़ोन ९८७६५४३२१०"}]},
        {"role": "tool", "tool_call_id": "1", "content": '{"phone": "98765 43210"}'},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
            "name": "ring", "arguments": '{"to": "\\u0039876543210"}'}}]},
        {"role": "system", "content": "The customer is on 9876543210."},
    ],
)  # fmt: skip
def test_residue_is_found_wherever_it_stands(message: dict[str, Any]) -> None:
    assert residue(json.dumps({"messages": [message]}).encode()) == {Kind.PHONE}


def test_no_residue_in_ids_stand_ins_and_the_tenants_own_numbers() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [{"id": "call_9876543210", "type": "function", "function": {
            "name": "track", "arguments": '{"order_id": 9876543210}'}}]},
        {"role": "tool", "tool_call_id": "call_9876543210", "content": "shipped"},
        {"role": "user", "content": "my Aadhaar is [AADHAAR_1], the order was 123456789012"},
        {"role": "user", "content": "waybill 9812345678"},
    ]  # fmt: skip
    assert residue(json.dumps({"messages": messages}).encode()) == frozenset()
    assert residue(body("9812345678"), ("98[0-9]{8}",)) == frozenset()
    assert residue(body("9812345678")) == {Kind.PHONE}


def test_a_format_that_is_no_pattern_is_an_error() -> None:
    with pytest.raises(ValueError, match="regular expression"):
        residue(body("x"), ("(",))
