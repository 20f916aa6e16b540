"""``appliance serve`` holds live sockets where there is a speech engine, says where, and goes on where it cannot."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
from serving import Served
from support import wait_until

from appliance.supervisor.network import free_port
from appliance.supervisor.serve import Serve

DONE = "conversation.item.input_audio_transcription.completed"
SPEECH = '[engines.speech]\nkind = "fake"\ntask = "transcribe"\nmodel = "ears"\n'


def configured(home: Path, port: int, more: str = "") -> None:
    (home / "appliance.toml").write_text(f"{SPEECH}[live]\nport = {port}\n{more}")


def shown(environ: dict[str, str]) -> dict[str, Any]:
    """What ``appliance status`` says of it."""
    command = (sys.executable, "-m", "appliance", "status", "--json")
    status = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    found: dict[str, Any] = json.loads(status.stdout)["live"]
    return found


async def test_openais_client_is_answered_and_a_killed_live_process_comes_back(
    home: Path, environ: dict[str, str]
) -> None:
    port = free_port("127.0.0.1")
    configured(home, port)
    served = Served(home, environ, {})
    try:
        served.wait_for("base URL")
        served.wait_for(f"live: ws://127.0.0.1:{port}/v1/realtime")
        key = (home / "admin.key").read_text().strip()
        client = openai.AsyncOpenAI(api_key=key, base_url=f"http://127.0.0.1:{port}/v1")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as live:
            input_ = {"format": {"type": "audio/pcmu"}, "turn_detection": None}
            await live.session.update(session={"type": "transcription", "audio": {"input": input_}})  # type: ignore[typeddict-item]
            await live.input_audio_buffer.append(audio=base64.b64encode(bytes(8000)).decode())
            await live.input_audio_buffer.commit()
            while (event := await live.recv()).type != DONE:
                pass
            assert event.transcript
            found = await asyncio.to_thread(shown, {**environ, "APPLIANCE_PORT": str(served.port)})
            assert (found["phase"], found["address"], found["sessions"]) == ("ready", f"127.0.0.1:{port}", 1)
        token, pid = (home / "run/live.token").read_text(), json.loads((home / "run/live.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        served.wait_for(r"live: ended with exit code -9.*starting it again")
        wait_until(lambda: json.loads((home / "run/live.json").read_text())["pid"] != pid, 20, "it started again")
        assert (home / "run/live.token").read_text() != token
    finally:
        served.close()
    assert not (home / "run/live.json").exists()


def _serve(home: Path, environ: dict[str, str]) -> Iterator[tuple[Serve, list[str]]]:
    from appliance.settings import load_settings

    said: list[str] = []
    settings = load_settings({**environ, "APPLIANCE_HOME": str(home), "APPLIANCE_PORT": "7000"})
    yield Serve(settings, environ, said.append, lambda: 0.0), said


def test_a_taken_port_costs_live_audio_and_nothing_else(home: Path, environ: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        configured(home, port)
        ((serve, said),) = _serve(home, environ)
        serve._live.tend(0.0)
        serve._live.tend(1.0)
    assert serve._live.phase == "off"
    assert len(said) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said[0]
    assert "[live] port" in said[0]


def test_no_speech_engine_or_not_wanted_no_live_process(home: Path, environ: dict[str, str]) -> None:
    for toml in ('[engines.chat]\nkind = "fake"\nmodel = "m"\n', f"{SPEECH}[live]\nenabled = false\n"):
        (home / "appliance.toml").write_text(toml)
        ((serve, said),) = _serve(home, environ)
        serve._live.tend(0.0)
        assert (serve._live.phase, said) == ("off", [])


def test_the_port_is_the_gateways_plus_one(home: Path, environ: dict[str, str]) -> None:
    (home / "appliance.toml").write_text(SPEECH)
    ((serve, _),) = _serve(home, environ)
    assert serve._live._port == serve._port + 1 == 7001
