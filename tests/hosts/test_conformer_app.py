"""The IndicConformer host over HTTP, on generated graphs; only the voice detector is a stand-in."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from hosts import conformer_graphs as graphs

from appliance.hosts import conformer_serve
from appliance.hosts.conformer_model import ConformerSpeech
from appliance.hosts.conformer_serve import build, parser, rehearse, shape
from appliance.hosts.conformer_windows import LONGEST_S, plan
from appliance.hosts.serving import listen
from appliance.hosts.whisper_app import AppLimits, Host, create_app
from appliance.hosts.whisper_windows import Span
from appliance.supervisor.exits import Exit


class Loud(ConformerSpeech):
    """Every 32 ms that are not silent are speech: tones are none to the real detector."""

    def hear(self, samples: np.ndarray) -> np.ndarray:
        frames = np.zeros(-(-len(samples) // 512) * 512, np.int16)
        frames[: len(samples)] = samples
        return (np.abs(frames.reshape(-1, 512)).max(axis=1) > 1000).astype(np.float32)


def wav(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype(np.int16).tobytes())
    return out.getvalue()


def said(code: str) -> bytes:
    return wav(graphs.tones(graphs.sentence(code), code))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Loud:
    return Loud(graphs.build(tmp_path_factory.mktemp("conformer")), threads=1)


class Running:
    def __init__(self, host: Host, client: httpx.AsyncClient) -> None:
        self.host = host
        self.client = client

    async def post(self, body: bytes, **params: object) -> httpx.Response:
        headers = {"x-appliance-params": json.dumps(params)}
        return await self.client.post("http://host/v1/transcribe", content=body, headers=headers)


@asynccontextmanager
async def running(speech: ConformerSpeech, max_batch: int = 0) -> AsyncIterator[Running]:
    how = shape("cpu", 1, max_batch)
    host = build(speech, how, model="tiny", max_wait_s=0.05, max_audio_s=600, limits=AppLimits())
    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        path = Path(directory) / "c.sock"
        server = uvicorn.Server(uvicorn.Config(create_app(host), log_config=None, http="httptools"))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        serving = asyncio.ensure_future(server._serve(sockets=[listen(path)]))
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=20)
        async with asyncio.timeout(30), client:
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.01)
            yield Running(host, client)
        server.should_exit = True
        await serving


async def test_wav_files_in_all_22_languages_at_once_share_batches(speech: Loud) -> None:
    async with running(speech, max_batch=8) as host:
        answers = await asyncio.gather(*(host.post(said(code), language=code) for code in graphs.LANGUAGES))
        metrics = (await host.client.get("http://host/metrics")).text
    assert [a.json()["text"] for a in answers] == [graphs.sentence(code) for code in graphs.LANGUAGES]
    assert [a.json()["language"] for a in answers] == list(graphs.LANGUAGES)
    batches = next(line for line in metrics.splitlines() if line.startswith("appliance_conformer_batch_size_count"))
    assert float(batches.rpartition(" ")[2]) < len(graphs.LANGUAGES)
    assert "appliance_host_steps_total" in metrics  # the supervisor's heartbeat


async def test_words_and_segments_have_times_on_the_uploads_line(speech: Loud) -> None:
    """Two sentences, three seconds of silence between them."""
    tones = graphs.tones(graphs.sentence("ta"), "ta")
    sound = np.concatenate([np.zeros(16000), tones, np.zeros(3 * 16000), tones])
    async with running(speech) as host:
        result = (await host.post(wav(sound), language="ta-IN", word_timestamps=True)).json()
    assert result["text"] == " ".join([graphs.sentence("ta")] * 2)
    assert [s["id"] for s in result["segments"]] == [0, 1]
    first, second = result["segments"]
    assert abs((second["start"] - first["start"]) - (3 + len(tones) / 16000)) < 0.2
    assert 1.0 <= first["start"] < first["end"] <= 1.0 + len(tones) / 16000
    words = result["words"]
    assert [w["word"] for w in words] == graphs.sentence("ta").split() * 2
    assert all(w["start"] < w["end"] and 0.5 < w["confidence"] <= 1 for w in words)
    assert -0.5 < first["avg_logprob"] <= 0


async def test_streamed_lines_end_in_the_result(speech: Loud) -> None:
    async with running(speech) as host:
        answer = await host.post(said("or"), language="or", stream=True)
    *deltas, done = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(d["text"] for d in deltas) == done["result"]["text"] == graphs.sentence("or")


@pytest.mark.parametrize(
    ("params", "code", "said"),
    [
        ({}, "language_required", "cannot tell languages apart"),
        ({"language": "en"}, "unknown_language", "use one of: as, bn, brx"),
        ({"language": "zz"}, "unknown_language", "'zz' is not one"),
    ],
)
async def test_what_it_cannot_hear_is_refused(speech: Loud, params: dict[str, str], code: str, said: str) -> None:
    async with running(speech) as host:
        answer = await host.post(wav(np.zeros(100)), **params)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize("sound", ["silence", "noise", "tone"])
async def test_what_nobody_said_is_empty_with_the_real_detector(speech: Loud, sound: str) -> None:
    t = np.arange(16000 * 3) / 16000
    noise = np.random.default_rng(0).normal(0, 600, len(t))
    samples = {"silence": np.zeros(len(t)), "noise": noise, "tone": np.sin(2 * np.pi * 440 * t) * 9000}[sound]

    class Real(Loud):
        hear = ConformerSpeech.hear

    real = Real.__new__(Real)
    real.__dict__ = speech.__dict__
    async with running(real) as host:
        result = (await host.post(wav(samples), language="hi")).json()
    assert (result["text"], result["segments"]) == ("", [])


def test_windows_are_cut_in_pauses_and_never_longer_than_15_s() -> None:
    speech = [Span(0.0, 4.0), Span(4.5, 9.0), Span(9.2, 14.0), Span(14.5, 16.0), Span(30.0, 75.0)]
    windows = plan(speech)
    assert windows[0] == Span(0.0, 14.0)
    assert windows[1] == Span(14.5, 16.0)
    assert all(w.length <= LONGEST_S for w in windows)
    assert windows[2].start == 30.0
    assert windows[-1].end == 75.0
    covered = np.zeros(7500, bool)
    for w in windows:
        covered[int(w.start * 100) : int(w.end * 100)] = True
    assert all(covered[int(s.start * 100) : int(s.end * 100)].all() for s in speech)


def test_rehearsal_decodes_in_every_language(speech: Loud) -> None:
    rehearse(speech)


def test_the_process_ends_for_good_with_one_sentence_where_a_file_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    model = graphs.build(tmp_path / "m")
    (model / "assets" / graphs.BLOBS[1]).unlink()
    with pytest.raises(SystemExit) as ended:
        conformer_serve.main(["--socket", str(tmp_path / "s"), "--model-dir", str(model), "--model-name", "c"])
    assert ended.value.code == Exit.MODEL_MISSING
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{graphs.BLOBS[1]} is missing; fetch the model again with `appliance models pull" in error


def test_the_real_process_answers_on_its_socket(tmp_path: Path) -> None:
    """As the supervisor starts it; silence, because the real detector does not take tones for speech."""
    model = graphs.build(tmp_path / "m")
    with tempfile.TemporaryDirectory(prefix="ap-") as short:
        path = Path(short) / "c.sock"
        argv = ["--socket", str(path), "--model-dir", str(model), "--model-name", "c", "--threads", "1"]
        process = subprocess.Popen([sys.executable, "-m", "appliance.hosts.conformer", *argv])
        try:
            client = httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20)
            for _ in range(400):
                if path.exists():
                    break
                assert process.poll() is None
                time.sleep(0.05)
            answer = client.post(
                "http://host/v1/transcribe",
                content=wav(np.zeros(16000)),
                headers={"x-appliance-params": '{"language": "sat"}'},
            )
            assert answer.json()["text"] == ""
            assert answer.json()["language"] == "sat"
            assert client.get("http://host/health").json() == {"status": "ok", "model": "c"}
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_the_command_line_names_what_it_takes() -> None:
    args = parser().parse_args(["--socket", "s", "--model-dir", "m", "--model-name", "c", "--decoding", "rnnt"])
    assert (args.device, args.decoding, args.max_batch) == ("auto", "rnnt", 0)
