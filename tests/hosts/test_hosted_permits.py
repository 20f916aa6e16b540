"""The hosted process checks every permit itself: one sentence and a code for each way it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.hosts.hosted_permits import Checks, Own, Refused
from appliance.permit_keys import PermitKeyError, checking_key, signing_key
from appliance.policy.egress import EgressPermit, Leaving, Offer, grant, seal
from appliance.policy.gate import Asked

MODEL = "gemini-3.1-flash-lite"
OFFER = Offer("gemini", MODEL, "global", 250_000_000, 1_500_000_000, max_output_tokens=100)
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}).encode()
NOW = 10_000_000
OWN = Own("global", (MODEL,), (), False, call_cap_nusd=10**9, day_cap_nusd=10**9, started_ms=NOW - 1000)


class Box:
    """A gateway's key, a hosted process' checks, and a clock between them."""

    def __init__(self, home: Path, own: Own = OWN) -> None:
        self.key = signing_key(home)
        self.now = NOW
        self.checks = Checks(checking_key(home, None), own, lambda: self.now)
        self.issued = 0

    def permit(self, body: bytes = BODY, **changes: Any) -> EgressPermit:
        self.issued += 1
        asked = Asked("hosted_allowed", ("global",), personal_data="allow")
        given = grant(asked, OFFER, Leaving("tn", "cv", "req/0", body), nonce=f"n{self.issued}", now_ms=self.now)
        assert isinstance(given, EgressPermit)
        return replace(given, **changes)

    def refusal(self, permit: EgressPermit | str, body: bytes = BODY, model: str = MODEL) -> tuple[str, str]:
        token = permit if isinstance(permit, str) else seal(permit, self.key)
        with pytest.raises(Refused) as caught:
            self.checks.admit(token, body, model)
        assert caught.value.status == 403
        assert caught.value.message.count(".") <= 2 and "\n" not in caught.value.message
        return caught.value.code, caught.value.message


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_good_one_is_taken_once(box: Box) -> None:
    permit = box.permit()
    token = seal(permit, box.key)
    assert box.checks.admit(token, BODY, MODEL) == permit
    assert box.refusal(token)[0] == "permit_replayed"


def test_none_at_all(box: Box) -> None:
    assert box.refusal("") == ("permit_missing", "nothing leaves without a permit, and none came with this request")


def test_an_altered_body(box: Box) -> None:
    code, said = box.refusal(box.permit(), BODY.replace(b"hello", b"hellp"))
    assert (code, "another request body" in said) == ("permit_body", True)


def test_an_expired_one(box: Box) -> None:
    token = seal(box.permit(), box.key)
    box.now += 60_000
    assert box.refusal(token)[0] == "permit_expired"


def test_one_that_would_last_too_long_or_is_of_tomorrow(box: Box) -> None:
    assert box.refusal(box.permit(expires_ms=NOW + 3_600_000))[0] == "permit_expired"
    assert box.refusal(box.permit(issued_ms=NOW + 50_000))[0] == "permit_expired"


def test_one_from_before_this_process_began_may_have_been_used(box: Box) -> None:
    assert box.refusal(box.permit(issued_ms=NOW - 1001))[0] == "permit_replayed"


def test_another_region(box: Box) -> None:
    code, said = box.refusal(box.permit(region="asia-south1"))
    assert (code, "asia-south1" in said and "global" in said) == ("permit_region", True)


def test_another_model_than_was_asked_for_or_is_served(box: Box) -> None:
    assert box.refusal(box.permit(), model="gemini-3.8-flash")[0] == "permit_model"
    assert box.refusal(box.permit(model="gemini-3.8-flash"), model="gemini-3.8-flash")[0] == "permit_model"


def test_another_signature(box: Box, tmp_path: Path) -> None:
    other = signing_key(tmp_path / "other")
    assert box.refusal(seal(box.permit(), other))[0] == "permit_invalid"
    assert box.refusal("rubbish")[0] == "permit_invalid"


def test_a_tenant_that_is_not_on_the_own_list(tmp_path: Path) -> None:
    box = Box(tmp_path, replace(OWN, tenants=("tn_other",)))
    assert box.refusal(box.permit())[0] == "permit_tenant"


def test_said_to_be_redacted_and_is_not(box: Box) -> None:
    text = BODY.replace(b"hello", b"I am 9876543210")
    code, said = box.refusal(box.permit(text, redaction="redacted"), text)
    assert (code, "phone" in said, "9876543210" in said) == ("permit_redaction", True, False)
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    media = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": [part]}]}).encode()
    assert box.refusal(box.permit(media, redaction="redacted"), media)[0] == "permit_redaction"


def test_not_redacted_where_only_that_may_leave(tmp_path: Path) -> None:
    box = Box(tmp_path, replace(OWN, redacted_only=True))
    assert box.refusal(box.permit())[0] == "permit_redaction"
    assert box.checks.admit(seal(box.permit(redaction="redacted"), box.key), BODY, MODEL)


def test_over_its_own_cap(box: Box) -> None:
    permit = box.permit(cap_nusd=100)
    code, said = box.refusal(permit)
    assert (code, "its permit allows $0.0000" in said) == ("permit_cap", True)


def test_over_what_one_call_may_cost_here(tmp_path: Path) -> None:
    box = Box(tmp_path, replace(OWN, call_cap_nusd=1000))
    code, said = box.refusal(box.permit())
    assert (code, "max_usd_per_call" in said) == ("permit_cap", True)


def test_the_day_is_held_back_before_and_counted_after(tmp_path: Path) -> None:
    ceiling = Box(tmp_path).permit().ceiling_nusd(BODY)
    box = Box(tmp_path, replace(OWN, day_cap_nusd=2 * ceiling))
    first, second = box.permit(), box.permit()
    for permit in (first, second):
        box.checks.admit(seal(permit, box.key), BODY, MODEL)
    assert "max_usd_per_day" in box.refusal(box.permit())[1]
    box.checks.settle(first, BODY, 1000)
    assert box.checks.spent_nusd == 1000
    assert box.refusal(box.permit())[0] == "permit_cap"
    box.checks.settle(second, BODY, 0)
    assert box.checks.admit(seal(box.permit(), box.key), BODY, MODEL)
    box.now += 86_400_000
    assert box.checks.spent_nusd == 0


def test_a_refused_one_holds_nothing_back(tmp_path: Path) -> None:
    ceiling = Box(tmp_path).permit().ceiling_nusd(BODY)
    box = Box(tmp_path, replace(OWN, day_cap_nusd=ceiling))
    for _ in range(3):
        box.refusal(box.permit(region="us"))
    assert box.checks.admit(seal(box.permit(), box.key), BODY, MODEL)


def test_old_nonces_are_forgotten_with_their_permits(box: Box) -> None:
    for _ in range(1100):
        box.checks.settle(box.checks.admit(seal(box.permit(), box.key), BODY, MODEL), BODY, 0)
    box.now += 61_000
    box.checks.admit(seal(box.permit(), box.key), BODY, MODEL)
    assert len(box.checks._used) == 1


# --- the key


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first, second = signing_key(tmp_path), signing_key(tmp_path)
    assert first.public() == second.public() == (tmp_path / "egress.pub").read_text().strip()
    assert (tmp_path / "egress.key").stat().st_mode & 0o777 == 0o600
    assert checking_key(tmp_path / "elsewhere", first.public()).verifies(first.sign(b"x"), b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_of_two_that_make_one_at_once_the_first_wins(tmp_path: Path) -> None:
    def slow(size: int) -> bytes:
        signing_key(tmp_path, lambda size: b"1" * size)
        return b"2" * size

    assert signing_key(tmp_path, slow).public() == signing_key(tmp_path).public()


def test_a_key_others_can_read_is_not_used(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "egress.key").chmod(0o644)
    with pytest.raises(PermitKeyError, match="chmod 600"):
        signing_key(tmp_path)


def test_a_public_key_that_is_none_names_the_command() -> None:
    with pytest.raises(PermitKeyError, match="appliance engine permit-key"):
        checking_key(Path("/nowhere"), "ed25519:00")
