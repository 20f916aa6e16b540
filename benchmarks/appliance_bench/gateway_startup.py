"""Second start to first answer with the real engines.

What it is: ``appliance serve`` on the home this environment names (models installed, one start
behind it), timed from the spawn of the process to the last byte of a chat answer, and to the last
byte of a transcript.
What it refuses to be: an installer. A home without models is an error that says to run ``make serve``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from appliance_bench import gateway_report as report
from appliance_bench.gateway_rig import BenchError, environment, free_port, process

LIMIT_S = 45.0
_GIVE_UP_S = 300.0


def _post(url: str, key: str, body: bytes, content_type: str) -> bytes:
    headers = {"authorization": f"Bearer {key}", "content-type": content_type}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as response:
        answer: bytes = response.read()
        return answer


def _chat(base: str, key: str) -> bytes:
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "What is the capital of India?"}],
        "max_tokens": 16,
        "temperature": 0,
    }
    return _post(f"{base}/v1/chat/completions", key, json.dumps(body).encode(), "application/json")


def _second_of_silence(path: Path) -> bytes:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(bytes(32000))
    return path.read_bytes()


def _transcribe(base: str, key: str, audio: bytes) -> bytes:
    edge = "appliance-bench-part"
    head = f'--{edge}\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--{edge}\r\n'
    head += 'content-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    body = head.encode() + audio + f"\r\n--{edge}--\r\n".encode()
    return _post(f"{base}/v1/audio/transcriptions", key, body, f"multipart/form-data; boundary={edge}")


def measure_startup(console: Console) -> dict[str, Any]:
    """Start, ask until each engine has answered once, stop; seconds to both. Raises BenchError."""
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    if not (home / "models").is_dir() or not (home / "admin.key").exists():
        raise BenchError("this home has no models and no key yet; run make serve once, then the bench again")
    key, port = (home / "admin.key").read_text().strip(), free_port()
    base = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-")))
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-")))
        audio, log = _second_of_silence(work / "a.wav"), work / "serve.log"
        env = environment({"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": str(run), "APPLIANCE_PORT": str(port)})
        started = time.monotonic()
        stack.enter_context(process([sys.executable, "-m", "appliance", "serve"], None, log, env))
        waiting: dict[str, Callable[[], bytes]] = {
            "chat": lambda: _chat(base, key),
            "transcribe": lambda: _transcribe(base, key, audio),
        }
        answered: dict[str, float] = {}
        while waiting and time.monotonic() - started < _GIVE_UP_S:
            for name, ask in tuple(waiting.items()):
                with contextlib.suppress(OSError):
                    ask()
                    answered[name] = round(time.monotonic() - started, 2)
                    del waiting[name]
            time.sleep(0.1)
        if waiting:
            raise BenchError(f"no answer from {', '.join(waiting)} in {_GIVE_UP_S:.0f} s: {log.read_text()[-1000:]}")
    for name, seconds in answered.items():
        console.print(f"second start to the first answer of {name}: {seconds} s (target ≤ {LIMIT_S:.0f})")
    return {
        "bench": "startup",
        "machine": report.machine(),
        "versions": report.versions(),
        "revision": report.revision(),
        "seconds_to_first_answer": answered,
        "limit_s": LIMIT_S,
    }
