"""What people see while a model comes."""

from __future__ import annotations

import io

from rich.console import Console

from appliance_models.progress import Bars, Lines


def test_lines_say_each_step_once_with_its_size() -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.step("downloading x", 93_000_000)
    lines.advance(1)
    lines.step("converting y")
    assert out.getvalue() == "models: downloading x (93 MB)\nmodels: converting y\n"


def test_bars_finish_every_step() -> None:
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, width=100)) as bars:
        bars.step("downloading x", 2_000_000)
        bars.advance(1_000_000)
        bars.step("converting y")
    last = out.getvalue().rsplit("downloading x", 1)[1]
    assert "2/2 MB" in last
    assert "converting y" in last
    assert "MB" not in last.rsplit("converting y", 1)[1]
