"""One appliance on the embedded models for the whole session: real vLLM, real Whisper, real gateway.

Needs the prepared models (``make models``): APPLIANCE_TEST_MODELS, else APPLIANCE_HOME/models, else
~/.appliance/models. Everything else is in a home of the session's own. Start-up takes 30 s on two idle cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real.served import Appliance, make_home
from support import alive, wait_until

from appliance.supervisor.network import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 240.0
STOPPED_WITHIN_S = 60.0
# in this order, after everything else
ENDS_THE_APPLIANCE = ("test_kill_9_of_the_api_server_under_load", "test_kill_9_of_serve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is ``real``; tests that kill the session's appliance come after all that need it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("real")
    order = {name: place for place, name in enumerate(ENDS_THE_APPLIANCE, 1)}
    items.sort(key=lambda item: order.get(item.name, 0))


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The prepared models."""
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser()
    found = Path(os.environ.get("APPLIANCE_TEST_MODELS") or home / "models").absolute()
    for model in ("smollm2-135m-instruct", "whisper-base"):
        if not (found / model / "manifest.json").is_file():
            pytest.fail(f"{found} has no {model}: run `make models` first", pytrace=False)
    return found


@pytest.fixture(scope="session")
def clean_environ() -> dict[str, str]:
    """The environment without the developer's APPLIANCE_* settings; the source tree on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")}
    path = [str(ROOT), str(ROOT / "models"), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": ":".join(path)}


@pytest.fixture(scope="session")
def appliance(models_dir: Path, clean_environ: dict[str, str]) -> Iterator[Appliance]:
    """The session's appliance, ready: both engines have given a real answer."""
    home, port = make_home(models_dir), free_port("127.0.0.1")
    with (home / "serve.out").open("wb") as out:
        process = subprocess.Popen(
            (sys.executable, "-m", "appliance", "serve"),
            env={**clean_environ, "APPLIANCE_HOME": str(home), "APPLIANCE_PORT": str(port)},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    running = Appliance(process, home, port)
    try:
        _wait_ready(running)
        yield running
        below = running.below()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOPPED_WITHIN_S) == 0, running.log
        wait_until(lambda: not any(alive(pid) for pid in below), 5, "nothing of the appliance was left")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_ready(running: Appliance) -> None:
    wait_until(
        lambda: "base URL" in running.log or running.process.poll() is not None,
        READY_WITHIN_S,
        "the appliance was ready",
    )
    phases = {name: running.state(name)["phase"] for name in ("chat", "transcribe")}
    assert phases == {"chat": "ready", "transcribe": "ready"}, running.log
