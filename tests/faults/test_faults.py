"""The fault catalogue, local and hosted, whole and streamed, against the table that docs/faults.md is made of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faults.catalogue import CATALOGUE, SIDES, Fault, Seen, Want, document, observed

ROOT = Path(__file__).resolve().parent.parent.parent
CELLS = [(fault, side) for fault in CATALOGUE for side in SIDES]
_Seen = tuple[dict[tuple[str, str], Seen], int]


@pytest.fixture(scope="module")
def everything() -> _Seen:
    """All cells at once: those that hang wait beside each other."""
    return asyncio.run(observed())


def test_the_catalogue_is_whole() -> None:
    assert sorted({fault.number for fault in CATALOGUE}) == list(range(1, 17))


@pytest.mark.parametrize(("fault", "side"), CELLS, ids=[f"{fault.name}, {side}" for fault, side in CELLS])
def test_a_correct_answer_or_a_correct_error_and_the_right_rows(everything: _Seen, fault: Fault, side: str) -> None:
    seen, want = everything[0][fault.name, side], fault.wants[SIDES.index(side)]
    assert seen.got == (want if want.code is None else Want(want.status, want.code))
    status = "ok" if want.code is None else "failed"
    assert seen.request == (status, want.status, want.code)
    engine = "gemini" if side.startswith("hosted") else "a" if fault.marker else "gone"
    assert seen.attempts == [(engine, side.split(",")[0], status, want.code)]
    assert [name for name, _ in seen.calls] == [engine]
    if fault.name == "429 with Retry-After":
        assert seen.retry_after == "7"


def test_a_local_only_tenant_opens_no_outside_connection_under_any_fault(everything: _Seen) -> None:
    assert everything[1] == 0


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs/faults.md").read_text(encoding="utf-8") == document(), "run make faults-doc"
