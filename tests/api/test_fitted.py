"""The judge's parameters in a running gateway: taken up when their file changes, kept when it is broken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from appliance.api.policing import Policing
from appliance.policy.parameters import BY_HAND, FILE, Parameters, encode


def watched(home: Path) -> tuple[Policing, Any]:
    decider: Any = SimpleNamespace(parameters=BY_HAND, reader=None, loaded=None)
    return Policing(cast(Any, lambda: SimpleNamespace(home=home)), decider, lambda: 0.0), decider


def test_a_new_file_is_taken_up_and_its_removal_too(tmp_path: Path) -> None:
    policing, decider = watched(tmp_path)
    policing.look()
    assert decider.parameters is BY_HAND
    fitted = Parameters(0.5, {"empty": 1.0}, version="abc")
    (tmp_path / FILE).write_bytes(encode(fitted))
    policing.look()
    assert decider.parameters == fitted
    (tmp_path / FILE).unlink()
    policing.look()
    assert decider.parameters is BY_HAND


def test_a_broken_file_changes_nothing_and_is_said(tmp_path: Path) -> None:
    policing, decider = watched(tmp_path)
    fitted = Parameters(0.5, {}, version="abc")
    (tmp_path / FILE).write_bytes(encode(fitted))
    policing.look()
    (tmp_path / FILE).write_text("{")
    policing.look()
    assert decider.parameters == fitted
    assert "appliance policy fit" in policing.fitted_error
