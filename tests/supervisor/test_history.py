"""An engine's past, and what of it its next run goes by."""

from __future__ import annotations

from pathlib import Path

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import history
from appliance.supervisor.history import KEPT, Ending, History


def settings(home: Path, **engine: object) -> Settings:
    return Settings(home=home, run=home, engines={"e": EngineSettings(kind="fake", **engine)})  # type: ignore[arg-type]


def ending(n: int) -> Ending:
    return Ending(float(n), n + 1.0, "crashed", 70, "m", 0, f"end {n}")


def test_the_last_ends_are_kept_and_read_back(tmp_path: Path) -> None:
    here = settings(tmp_path, model="m")
    past = history.read(here, "e")
    assert past.endings == ()
    for n in range(KEPT + 5):
        past = past.ended(ending(n))
    history.write(here, "e", past)
    assert history.read(here, "e") == past
    assert [end.detail for end in past.endings][:1] == ["end 5"]


def test_a_profile_and_a_swap_lapse_when_the_engines_settings_change(tmp_path: Path) -> None:
    here = settings(tmp_path, model="m")
    stepped = History(history.read(here, "e").configured, 2, "other", (ending(1),))
    history.write(here, "e", stepped)
    assert (history.read(here, "e").profile, history.read(here, "e").model) == (2, "other")
    changed = history.read(settings(tmp_path, model="m", kv_cache_bytes=1 << 30), "e")
    assert (changed.profile, changed.model, len(changed.endings)) == (0, "", 1)


def test_a_file_that_cannot_be_read_is_no_past(tmp_path: Path) -> None:
    here = settings(tmp_path, model="m")
    path = history.path_of(here, "e")
    path.parent.mkdir()
    path.write_text("{")
    assert history.read(here, "e").endings == ()
