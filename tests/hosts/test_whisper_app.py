"""The host's HTTP over a real Unix socket, with a stand-in model."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from hosts.whisper_standin import StandIn, decode, sound, spoken

from appliance.errors import EngineUnavailable, TooLarge
from appliance.hosts.audio import AudioDecoder, Wanted, no_audio
from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.serving import listen
from appliance.hosts.whisper_app import AppLimits, Budget, Host, create_app
from appliance.hosts.whisper_job import Transcriber
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import Window, among
from appliance.hosts.whisper_serve import shape
from appliance.hosts.whisper_text import Decode


def wav(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return out.getvalue()


CLIP = wav(sound((2.0, True)))
LONG = wav(sound(*[(9.0, True), (6.0, False)] * 3))


MONO = Wanted()


class WavDecoder(AudioDecoder):
    """Decodes 16 kHz mono wav here, without processes; ``test_audio`` covers the real one."""

    def __init__(self, most_s: int) -> None:
        super().__init__(workers=1)
        self._most_s = most_s

    async def start(self) -> None:
        """Nothing to start."""

    async def decode(self, data: bytes, wanted: Wanted = MONO, rank: int = 1) -> np.ndarray:
        try:
            with wave.open(io.BytesIO(data)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, file.getnchannels())
                samples = samples if wanted.split else samples[:, 0]
        except (wave.Error, EOFError):
            raise no_audio() from None
        if len(samples) > self._most_s * 16000:
            raise TooLarge("too long", code="audio_too_long")
        return samples


class Running:
    """A host that serves on its socket, and a client for it."""

    def __init__(self, host: Host, client: httpx.AsyncClient, path: Path) -> None:
        self.host = host
        self.client = client
        self.path = path

    async def post(self, body: bytes, **params: object) -> httpx.Response:
        headers = {"x-appliance-params": json.dumps(params)}
        return await self.client.post("http://host/v1/transcribe", content=body, headers=headers)

    async def metric(self, line: str) -> float:
        text = (await self.client.get("http://host/metrics")).text
        return float(next((row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")), "0"))

    async def until(self, line: str, value: float) -> None:
        async with asyncio.timeout(10):
            while await self.metric(line) != value:  # noqa: ASYNC110 - the server's doing, seen over its socket
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    speech: StandIn, limits: AppLimits | None = None, *, max_batch: int = 8, decoder: AudioDecoder | None = None
) -> AsyncIterator[Running]:
    """Serve for the length of the block. Threads and processes are gone after it."""
    metrics = Metrics()
    batcher: Batcher[Window, Decode] = Batcher(speech.run, Limits(max_batch, 0.05), observer=metrics)
    with ThreadPoolExecutor(2) as cpu, tempfile.TemporaryDirectory(prefix="ap-") as directory:
        job = Transcriber(speech, batcher, cpu, metrics)
        host = Host(
            decoder or WavDecoder(most_s=60),
            *(batcher, job, metrics),
            model="tiny",
            clock=time.monotonic,
            limits=limits or AppLimits(),
        )
        path = Path(directory) / "w.sock"
        server = uvicorn.Server(uvicorn.Config(create_app(host), log_config=None, http="httptools"))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        serving = asyncio.ensure_future(server._serve(sockets=[listen(path)]))
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=20)
        async with asyncio.timeout(20), client:
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.01)
            yield Running(host, client, path)
        speech.go.set()
        server.should_exit = True
        await serving


@pytest.fixture
def speech() -> Iterator[StandIn]:
    one = StandIn()
    yield one
    one.go.set()


async def test_a_transcript_in_the_shape_of_the_contract_from_real_decode_workers(speech: StandIn):
    async with running(speech, decoder=AudioDecoder(workers=1)) as host:
        answer = await host.post(CLIP, language="en", word_timestamps=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    result = answer.json()
    assert set(result) == {"language", "language_probability", "duration_s", "text", "segments", "words"}
    assert result["text"] == "2.0s"
    assert result["words"] == [{"word": "2.0s", "start": 0.0, "end": 0.4}]
    assert set(result["segments"][0]) == {
        *("id", "seek", "start", "end", "text", "tokens"),
        *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
    }


async def test_without_parameters_the_language_is_detected(speech: StandIn):
    async with running(speech) as host:
        answer = await host.client.post("http://host/v1/transcribe", content=CLIP)
    assert (answer.json()["language"], answer.json()["words"]) == ("hi", None)


async def test_streamed_lines_end_in_the_result_and_their_text_is_its_text(speech: StandIn):
    async with running(speech) as host:
        answer = await host.post(LONG, language="en", stream=True)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *deltas, done = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in deltas] == ["delta"] * 3
    assert done["type"] == "done"
    assert "".join(line["text"] for line in deltas) == done["result"]["text"]
    assert len(done["result"]["segments"]) == 3


async def test_progress_comes_in_lines_before_the_result_and_never_goes_back(speech: StandIn):
    stereo = wav(np.stack([sound((9.0, True), (6.0, False)), sound((6.0, False), (9.0, True))], axis=1))
    async with running(speech) as host:
        whole = await host.post(LONG, language="en", progress=True, rank="bulk")
        split = await host.post(stereo, language="en", progress=True, split=True)
        told = await host.client.post(
            "http://host/v1/detect", content=CLIP, headers={"x-appliance-params": '{"progress": true}'}
        )
    *lines, done = [json.loads(line) for line in whole.text.splitlines()]
    shares = [line["done"] for line in lines]
    assert {line["type"] for line in lines} == {"progress"}
    assert shares == sorted(set(shares))
    assert shares[0] == 0.1  # who speaks where is known
    assert 0.8 < shares[-1] <= 1.0  # the last words end before the recording does
    assert len(shares) >= 4
    assert len(done["result"]["segments"]) == 3
    *lines, done = [json.loads(line) for line in split.text.splitlines()]
    assert [line["done"] for line in lines][-1] > 0.8
    assert {s["channel"] for s in done["result"]["segments"]} == {0, 1}
    assert told.json()["language"]  # a detection is over before there is anything to tell


async def test_a_streamed_silence_is_one_line(speech: StandIn):
    async with running(speech) as host:
        answer = await host.post(wav(sound((2.0, False))), stream=True)
    (line,) = answer.text.splitlines()
    result = json.loads(line)["result"]
    assert (result["text"], result["language"]) == ("", None)


async def test_a_stream_that_breaks_ends_in_an_error_line(speech: StandIn):
    def script(window: Window) -> Decode | Exception:
        return decode(window, spoken(" one", 0, 1)) if len(speech.windows) == 1 else RuntimeError("cuda: sensitive")

    speech.script = script
    async with running(speech) as host:
        answer = await host.post(LONG, stream=True)
        first, last = (json.loads(line) for line in answer.text.splitlines())
        assert first == {"type": "delta", "text": "one"}
        assert (last["type"], last["status"], last["code"]) == ("error", 502, "engine_failed")
        assert "sensitive" not in answer.text
        assert await host.metric('appliance_whisper_requests_total{outcome="failed"}') == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "params", "status", "code"),
    [
        (b"", {}, 400, "no_audio"),
        (b"garbage" * 100, {}, 400, "no_audio"),
        (CLIP, {"language": "zz"}, 400, "unknown_language"),
        (CLIP, {"temperature": 1.5}, 400, "invalid_request"),
        (CLIP, {"deadline_s": 0}, 400, "invalid_request"),
        (CLIP, {"beam": 7}, 400, "invalid_request"),
        (wav(sound((61.0, True))), {}, 413, "audio_too_long"),
        (bytes(4_000_000), {}, 413, "request_too_large"),
    ],
    ids=["empty", "garbage", "language", "temperature", "deadline", "unknown", "long", "large"],
)
async def test_what_is_refused_is_refused_in_the_envelope(speech, body, params, status, code, stream):
    async with running(speech, AppLimits(max_body_bytes=3_000_000)) as host:
        answer = await host.post(body, stream=stream, **params)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert speech.windows == []


async def test_parameters_that_are_not_json_are_refused(speech: StandIn):
    async with running(speech) as host:
        answer = await host.client.post("http://host/v1/transcribe", content=CLIP, headers={"x-appliance-params": "{"})
    assert answer.status_code == 400
    assert "x-appliance-params" in answer.json()["error"]["message"]


async def test_a_deadline_answers_504_and_the_host_goes_on(speech: StandIn):
    async with running(speech) as host:
        speech.go.clear()
        answer = await host.post(CLIP, deadline_s=0.2)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        speech.go.set()
        assert (await host.post(CLIP)).status_code == 200


async def test_more_audio_than_may_be_held_answers_503_but_one_alone_always_fits(speech: StandIn):
    async with running(speech, AppLimits(max_held_audio_s=1.0)) as host:
        speech.go.clear()
        first = asyncio.ensure_future(host.post(CLIP, language="en"))
        assert await asyncio.to_thread(speech.called.acquire, True, 10)
        second = await host.post(CLIP, language="en")
        assert (second.status_code, second.json()["error"]["code"]) == (503, "overloaded")
        assert second.headers["retry-after"] == "5"
        assert await host.metric("appliance_whisper_held_audio_seconds") == 2.0
        speech.go.set()
        assert (await first).status_code == 200
        assert (await host.post(CLIP, language="en")).status_code == 200
        assert await host.metric("appliance_whisper_held_audio_seconds") == 0.0


async def test_concurrent_uploads_share_batches(speech: StandIn):
    async with running(speech, max_batch=4) as host:
        speech.go.clear()
        first = asyncio.ensure_future(host.post(CLIP, language="en"))
        assert await asyncio.to_thread(speech.called.acquire, True, 10)
        others = [asyncio.ensure_future(host.post(CLIP, language="en")) for _ in range(4)]
        await host.until("appliance_whisper_queued_windows", 4)
        speech.go.set()
        answers = await asyncio.gather(first, *others)
        assert {a.json()["text"] for a in answers} == {"2.0s"}
        assert speech.batches == [1, 4]
        assert await host.metric('appliance_whisper_batch_size_count{window_s="10"}') == 2
        assert await host.metric('appliance_whisper_batch_size_sum{window_s="10"}') == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_takes_his_windows_along(speech: StandIn, stream: bool):
    async with running(speech, max_batch=1) as host:
        speech.go.clear()
        running_one = asyncio.ensure_future(host.post(CLIP, language="en"))
        assert await asyncio.to_thread(speech.called.acquire, True, 10)
        leaving = asyncio.ensure_future(host.post(CLIP, language="en", stream=stream))
        await host.until("appliance_whisper_queued_windows", 1)
        leaving.cancel()
        await host.until("appliance_whisper_queued_windows", 0)
        await host.until('appliance_whisper_requests_total{outcome="cancelled"}', 1)
        speech.go.set()
        assert (await running_one).status_code == 200
        assert len(speech.windows) == 1
        assert await host.metric("appliance_whisper_held_audio_seconds") == 0.0


async def test_a_caller_who_leaves_in_the_middle_of_a_stream_ends_the_job(speech: StandIn):
    def script(window: Window) -> Decode:
        if len(speech.windows) == 1:
            return decode(window, spoken(" one", 0, 1))
        held.append(window)
        return decode(window, spoken(" more", 0, 1))

    held: list[Window] = []
    speech.script = script
    async with running(speech, max_batch=1) as host:
        headers = {"x-appliance-params": '{"stream": true}'}
        async with host.client.stream("POST", "http://host/v1/transcribe", content=LONG, headers=headers) as answer:
            lines = answer.aiter_lines()
            assert json.loads(await anext(lines)) == {"type": "delta", "text": "one"}
            speech.go.clear()
        await host.until('appliance_whisper_requests_total{outcome="cancelled"}', 1)
        await host.until("appliance_whisper_queued_windows", 0)
        speech.go.set()
        assert len(held) <= 2


async def test_health_names_the_model_and_other_paths_are_refused(speech: StandIn):
    async with running(speech) as host:
        health = await host.client.get("http://host/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "model": "tiny"})
        assert (await host.client.get("http://host/v1/transcribe")).status_code == 405
        assert (await host.client.get("http://host/docs")).status_code == 404


async def test_only_this_user_may_open_the_socket_and_a_stale_one_is_replaced(speech: StandIn):
    async with running(speech) as host:
        assert host.path.stat().st_mode & 0o777 == 0o600
    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        path = Path(directory) / "w.sock"
        listen(path).close()
        assert path.exists()
        listen(path).close()


def test_a_budget_refuses_what_does_not_fit_and_gives_back():
    seen: list[float] = []
    budget = Budget(10, "bytes", seen.append)
    with budget.hold(8):
        with pytest.raises(EngineUnavailable, match="8 of 10 bytes"), budget.hold(3):
            pass
        with budget.hold(2):
            assert budget.held == 10
    with budget.hold(99):
        pass
    assert seen == [8, 10, 8, 0, 99, 0]


@pytest.mark.parametrize(
    ("device", "threads", "expected"),
    [("cpu", 1, (1, 1, 8)), ("cpu", 2, (2, 1, 8)), ("cpu", 16, (4, 4, 8)), ("cuda", 16, (1, 0, 32))],
)
def test_the_shape_follows_the_machine(device, threads, expected):
    how = shape(device, "", threads, 0)
    assert (how.workers, how.threads, how.max_batch) == expected
    assert how.compute_type == ("float16" if device == "cuda" else "int8")


async def test_what_is_spoken_can_be_asked_alone(speech: StandIn):
    def script(window: Window) -> Decode:
        assert window.detect_only
        return decode(window, (), language="ta", language_probability=0.8, languages=(("ta", 0.8), ("hi", 0.2)))

    speech.script = script
    async with running(speech) as host:
        headers = {"x-appliance-params": json.dumps({"languages": ["hi", "ta"]})}
        answer = await host.client.post("http://host/v1/detect", content=CLIP, headers=headers)
        silent = await host.client.post("http://host/v1/detect", content=wav(sound((2.0, False))))
        refused = await host.client.post(
            "http://host/v1/detect", content=CLIP, headers={"x-appliance-params": '{"languages": ["mai"]}'}
        )
    assert answer.json() == {
        "language": "ta",
        "language_probability": 0.8,
        "languages": [["ta", 0.8], ["hi", 0.2]],
        "duration_s": 2.0,
        "heard_s": 2.0,
        "text": "",
    }
    assert [w.hints for w in speech.windows] == [("hi", "ta")]
    assert silent.json()["language"] is None
    assert refused.json()["error"]["code"] == "unknown_language"


async def test_hotwords_go_before_the_prompt(speech: StandIn):
    async with running(speech) as host:
        await host.post(CLIP, language="en", hotwords=["UPI", "Aadhaar"], prompt="hello")
    assert "".join(map(chr, speech.windows[0].prompt)) == "UPI, Aadhaar hello"


def test_hints_narrow_what_was_detected():
    guesses = [("ur", 0.6), ("hi", 0.3), ("ta", 0.1)]
    assert among(guesses, ())[0] == ("ur", 0.6)
    assert [(code, round(p, 3)) for code, p in among(guesses, ("hi", "ta"))] == [("hi", 0.75), ("ta", 0.25)]


async def test_a_call_with_a_speaker_a_channel_comes_back_in_turns(speech: StandIn):
    quiet, loud = sound((9.0, False)), sound((3.0, True))
    left, right = np.concatenate([loud, quiet, loud]), np.concatenate([quiet, loud, sound((3.0, False))])
    async with running(speech) as host:
        answer = await host.post(wav(np.stack([left, right], axis=1)), language="hi", split=True)
    result = answer.json()
    assert [s["channel"] for s in result["segments"]] == [0, 1, 0]
    assert [s["id"] for s in result["segments"]] == [0, 1, 2]
    starts = [s["start"] for s in result["segments"]]
    assert starts == sorted(starts)
    assert 8 < starts[1] < 10
    assert result["duration_s"] == 15.0
    assert result["text"].count("s") == 3


async def test_verbatim_windows_are_decoded_apart(speech: StandIn):
    async with running(speech) as host:
        await host.post(CLIP, language="en", verbatim=True)
        await host.post(CLIP, language="en")
    assert [w.verbatim for w in speech.windows] == [True, False]
    assert speech.windows[0].key != speech.windows[1].key
