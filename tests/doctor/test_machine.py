"""Each question's colours, with the machine's answers given."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.doctor import machine
from appliance.settings import load_settings


def answering(text: str | None) -> Callable[..., str | None]:
    return lambda *_: text


@pytest.mark.parametrize(
    ("on_cpu", "answer", "colour"),
    [
        (True, None, "green"),
        (False, None, "red"),
        (False, "NVIDIA H100, 580.65.06", "green"),
        (False, "NVIDIA H100, 535.1", "red"),
        (True, "NVIDIA H100, 580.65.06", "yellow"),
    ],
)
def test_gpu(on_cpu: bool, answer: str | None, colour: str) -> None:
    assert machine.gpu(on_cpu, answering(answer)).colour == colour


@pytest.mark.parametrize(("free", "colour"), [(1, "red"), (5_000_000_000, "yellow"), (50_000_000_000, "green")])
def test_disk(free: int, colour: str, tmp_path: Path) -> None:
    assert machine.disk(tmp_path, lambda _: free).colour == colour


@pytest.mark.parametrize(("answer", "colour"), [("yes", "green"), ("no", "red"), (None, "yellow")])
def test_clock(answer: str | None, colour: str) -> None:
    assert machine.clock(answering(answer)).colour == colour


def test_nothing_leaves_unless_it_is_asked_for() -> None:
    def never(_: tuple[str, int]) -> bool:
        raise AssertionError("a connection was opened")

    assert machine.egress(False, route=lambda _: True, connect=never).colour == "yellow"
    assert machine.egress(True, route=lambda _: False, connect=never).colour == "green"


@pytest.mark.parametrize(("opens", "colour"), [(False, "green"), (True, "red")])
def test_a_way_out_that_was_tried(opens: bool, colour: str) -> None:
    assert machine.egress(True, route=lambda _: True, connect=lambda _: opens).colour == colour


def test_the_certificates_end(tmp_path: Path) -> None:
    path = tmp_path / "server.crt"
    assert machine.certificate(path, datetime.now(UTC)) is None
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 90 -subj /CN=x -keyout /dev/null"
    )
    try:
        subprocess.run([*command.split(), "-out", str(path)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    now = datetime.now(UTC)
    for days, colour in ((0, "green"), (75, "yellow"), (88, "red"), (120, "red")):
        check = machine.certificate(path, now + timedelta(days=days))
        assert check is not None and check.colour == colour, days
    path.write_text("no certificate")
    unreadable = machine.certificate(path, now)
    assert unreadable is not None and unreadable.colour == "yellow"


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    settings = load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": str(tmp_path / "r")[:60]})
    settings.admin_key_path.write_text("ak-x")
    settings.admin_key_path.chmod(0o644)
    check = machine.private(settings)
    assert (check.colour, check.fix) == ("red", f"chmod go= {settings.admin_key_path}")
