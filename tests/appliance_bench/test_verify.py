from __future__ import annotations

from pathlib import Path

import pytest

from appliance_bench import verify
from appliance_bench.records import RecordError


@pytest.mark.parametrize(("goodput", "holds"), [(9.9, False), (10.0, True), (12.0, True), (12.1, False)])
def test_inside_the_interval_holds(goodput: float, holds: bool) -> None:
    said, found = verify.verdict(goodput, 10.0, 12.0)
    assert found is holds
    assert ("tune again" in said) is not holds


def test_without_a_profile_it_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="bench tune"):
        verify.main(["--profiles", str(tmp_path)])


def test_a_profile_of_other_versions_is_not_measured_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    assert "revision 12" in verify.outdated("m", {"revision": "12", "versions": {}})
    assert verify.outdated("m", {"revision": "", "versions": {"vllm": "0.1"}}).startswith("vllm 0.1")
    assert verify.outdated("m", {"revision": "", "versions": {}}) == ""
