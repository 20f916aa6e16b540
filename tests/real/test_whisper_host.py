"""The Whisper host on the real model: right words, silence left alone, shared batches, callers who leave."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from support import wait_until

ORDER = (Path(__file__).resolve().parents[1] / "data" / "order.wav").read_bytes()
SAID = "thank you for calling your order will arrive on monday morning and the driver will call you first"
READY_WITHIN_S = 60.0


class HostProcess:
    """One ``python -m appliance.hosts.whisper``."""

    def __init__(self, model: Path, environ: dict[str, str]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ap-"))
        self.socket = self.directory / "w.sock"
        command = [sys.executable, "-m", "appliance.hosts.whisper", "--socket", str(self.socket), "--threads", "2"]
        command += ["--model-dir", str(model), "--model-name", "whisper-base", "--device", "cpu"]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, env=environ, stdout=log, stderr=log)

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://host", timeout=60)

    def ready(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        if not self.socket.exists():
            return False
        with self.client() as client:
            return client.get("/health").status_code == 200

    def post(self, body: bytes, **params: object) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/transcribe", content=body, headers={"x-appliance-params": json.dumps(params)})

    def metric(self, line: str) -> float:
        with self.client() as client:
            rows = client.get("/metrics").text.splitlines()
        return float(next((row.rpartition(" ")[2] for row in rows if row.startswith(line + " ")), "0"))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def host(models_dir: Path, clean_environ: dict[str, str]) -> Iterator[HostProcess]:
    one = HostProcess(models_dir / "whisper-base", clean_environ)
    try:
        wait_until(one.ready, READY_WITHIN_S, "the Whisper host was ready")
        yield one
    finally:
        one.close()


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def recording() -> np.ndarray:
    with wave.open(io.BytesIO(ORDER)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def words(text: str) -> list[str]:
    return "".join(c for c in text.lower() if c.isalpha() or c == " ").split()


def wrong(text: str) -> int:
    """Words of SAID that are not in ``text`` at their place, by the shorter edit script."""
    row = list(range(len(words(text)) + 1))
    for i, said in enumerate(words(SAID), 1):
        new = [i]
        for j, heard in enumerate(words(text), 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (said != heard)))
        row = new
    return row[-1]


def test_the_recording_is_understood_and_its_language_detected(host: HostProcess):
    answer = host.post(ORDER, word_timestamps=True).json()
    assert wrong(answer["text"]) <= 1, answer["text"]
    assert answer["language"] == "en"
    assert answer["language_probability"] > 0.5
    assert answer["duration_s"] == pytest.approx(6.9, abs=0.05)
    starts = [word["start"] for word in answer["words"]]
    assert len(starts) == len(words(answer["text"]))
    assert starts == sorted(starts)
    assert answer["words"][-1]["end"] <= 6.9
    monday = next(word for word in answer["words"] if word["word"].startswith("Monday"))
    assert 2.0 < monday["start"] < monday["end"] < 5.0
    assert answer["segments"][0]["start"] == 0.0


def test_telephone_mu_law_is_understood(host: HostProcess):
    pcm = recording().astype(np.int32)
    magnitude = np.minimum(np.abs(pcm), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    coded = ~(np.where(pcm < 0, 0x80, 0) | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0F)) & 0xFF
    data = coded.astype(np.uint8).tobytes()
    size = len(data).to_bytes(4, "little")
    layout = b"\x07\0\x01\0" + (8000).to_bytes(4, "little") * 2 + b"\x01\0\x08\0"
    body = b"WAVEfmt " + len(layout).to_bytes(4, "little") + layout + b"data" + size + data
    answer = host.post(b"RIFF" + len(body).to_bytes(4, "little") + body, language="en").json()
    assert wrong(answer["text"]) <= 1, answer["text"]


@pytest.mark.parametrize("noise", [0, 60])
def test_silence_is_answered_with_nothing(host: HostProcess, noise: int):
    samples = np.random.default_rng(3).standard_normal(5 * 8000) * noise
    answer = host.post(wav(samples)).json()
    assert (answer["text"], answer["segments"]) == ("", [])
    assert answer["duration_s"] == 5.0


def test_garbage_is_no_audio(host: HostProcess):
    answer = host.post(np.random.default_rng(4).bytes(20_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_audio")


def test_an_unknown_language_lists_the_known(host: HostProcess):
    answer = host.post(ORDER, language="or")
    assert answer.status_code == 400
    assert " hi, " in answer.json()["error"]["message"]


def test_long_audio_is_heard_to_its_end_with_times_that_grow(host: HostProcess):
    pause = np.zeros(3 * 8000, np.int16)
    long = np.concatenate([np.concatenate([recording(), pause]) for _ in range(5)])
    response = host.post(wav(long), language="en", stream=True)
    *deltas, done = [json.loads(line) for line in response.text.splitlines()]
    result = done["result"]
    assert "".join(line["text"] for line in deltas) == result["text"]
    assert len(deltas) >= 2
    said = " ".join(words(result["text"]))
    assert said.count("thank you for calling") == 5, result["text"]
    starts = [segment["start"] for segment in result["segments"]]
    assert starts == sorted(starts)
    assert starts[-1] > 35


def test_eight_at_once_share_batches(host: HostProcess):
    series = 'appliance_whisper_batch_size_%s{window_s="10"}'
    count, total = host.metric(series % "count"), host.metric(series % "sum")
    barrier = threading.Barrier(8)

    def one(_: int) -> str:
        barrier.wait()
        return str(host.post(ORDER, language="en").json()["text"])

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(one, range(8)))
    assert max(map(wrong, texts)) <= 1, texts
    assert host.metric(series % "sum") - total == 8
    assert host.metric(series % "count") - count < 8


def test_a_caller_who_leaves_frees_the_queue(host: HostProcess):
    cancelled = 'appliance_whisper_requests_total{outcome="cancelled"}'
    before = host.metric(cancelled)
    pause = np.zeros(6 * 8000, np.int16)
    long = wav(np.concatenate([np.concatenate([recording(), pause]) for _ in range(12)]))
    with pytest.raises(httpx.ReadTimeout), host.client() as client:
        client.post("/v1/transcribe", content=long, timeout=httpx.Timeout(60, read=0.3))
    wait_until(lambda: host.metric(cancelled) == before + 1, 10, "the host noticed that its caller left")
    assert host.metric("appliance_whisper_queued_windows") == 0
    assert host.metric("appliance_whisper_held_audio_seconds") == 0
    assert wrong(host.post(ORDER, language="en").json()["text"]) <= 1


def test_sigterm_lets_the_running_answer_finish(models_dir: Path, clean_environ: dict[str, str]):
    host = HostProcess(models_dir / "whisper-base", clean_environ)
    try:
        wait_until(host.ready, READY_WITHIN_S, "the Whisper host was ready")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(host.post, ORDER, language="en")
            wait_until(lambda: host.metric("appliance_whisper_held_audio_seconds") > 6, 10, "the upload was taken in")
            host.process.send_signal(signal.SIGTERM)
            assert wrong(answer.result(30).json()["text"]) <= 1
        assert host.process.wait(20) == 0
        assert not host.socket.exists()
    finally:
        host.close()


def test_a_directory_without_a_model_is_one_sentence(tmp_path: Path, clean_environ: dict[str, str]):
    command = [sys.executable, "-m", "appliance.hosts.whisper", "--socket", str(tmp_path / "s"), "--model-name", "x"]
    done = subprocess.run(
        [*command, "--model-dir", str(tmp_path)], env=clean_environ, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 66
    assert "has no model.bin" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctranslate2_takes_windows_shorter_than_30_s_and_refuses_longer(models_dir: Path):
    """What the buckets stand on; an upgrade that changes it must not pass unnoticed."""
    import ctranslate2

    model = ctranslate2.models.Whisper(str(models_dir / "whisper-base"), device="cpu", compute_type="int8")
    rng = np.random.default_rng(5)

    def encode(frames: int) -> list[int]:
        features = rng.standard_normal((1, model.n_mels, frames)).astype(np.float32)
        return list(model.encode(ctranslate2.StorageView.from_array(features)).shape)

    assert encode(1000)[:2] == [1, 500]
    assert encode(3000)[:2] == [1, 1500]
    with pytest.raises(ValueError, match="Invalid input features shape"):
        encode(3200)


def test_what_is_spoken_can_be_asked_alone_and_hints_narrow_it(host: HostProcess):
    def detected(**params: object) -> dict[str, object]:
        with host.client() as client:
            headers = {"x-appliance-params": json.dumps(params)}
            found: dict[str, object] = client.post("/v1/detect", content=ORDER, headers=headers).json()
        return found

    assert detected()["language"] == "en"
    narrowed = detected(languages=["hi", "ta"])
    assert narrowed["language"] in ("hi", "ta")
    assert sum(p for _, p in narrowed["languages"]) == pytest.approx(1.0, abs=0.01)  # type: ignore[attr-defined]


def test_verbatim_leaves_words_as_they_are(host: HostProcess):
    answer = host.post(ORDER, language="en", verbatim=True).json()
    assert "".join(c for c in answer["text"].lower() if c.isalpha() or c == " ").strip() == SAID


def test_a_stereo_call_comes_back_in_turns(host: HostProcess):
    with wave.open(io.BytesIO(ORDER)) as file:
        rate, mono = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
    call = np.zeros((2 * len(mono) + rate, 2), np.int16)
    call[: len(mono), 0] = call[len(mono) + rate :, 1] = mono
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(call.tobytes())
    segments = host.post(out.getvalue(), language="en", split=True).json()["segments"]
    assert [s["channel"] for s in segments] == sorted(s["channel"] for s in segments)
    assert {s["channel"] for s in segments} == {0, 1}
