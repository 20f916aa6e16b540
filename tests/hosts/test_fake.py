"""The fake engine: vLLM's shapes, every fault of the catalogue, its counters, and how fast it is left."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import wait_until

from appliance.hosts.fake_faults import FAULTS, NONE, UnknownFault, directives, process_fault
from appliance.hosts.fake_script import EVENTS, JSON, End, Pace, Script, misconduct, stream, whole

# --- markers


def test_text_without_markers_asks_for_nothing() -> None:
    assert directives("What is the capital of India?") is NONE


def test_markers_give_fault_value_and_settings() -> None:
    found = directives("hello [[set:chunks=64]][[fault:cut_after=3]] there [[set:id=a b]]")
    assert (found.fault, found.number(9)) == ("cut_after", 3)
    assert found.settings == {"chunks": "64", "id": "a b"}


def test_a_fault_without_value_takes_its_default() -> None:
    assert directives("[[fault:cut_after]]").number(7) == 7


def test_an_unknown_fault_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownFault, match=r"'cut_of'.*cut_after"):
        directives("[[fault:cut_of]]")


def test_process_faults_are_another_list() -> None:
    assert process_fault("slow_start=2.5") == ("slow_start", "2.5")
    assert process_fault(None) == ("", "")
    with pytest.raises(UnknownFault, match="crash_loop"):
        process_fault("cut_after=1")


# --- scripts

_PIECES = [b'data: {"id":"x","choices":[{"delta":{"content":"t%d "},"finish_reason":null}]}\n\n' % i for i in range(4)]
_PIECES.append(b'data: {"id":"x","choices":[{"delta":{"content":"t4 "},"finish_reason":"stop"}]}\n\n')
_DONE = b"data: [DONE]\n\n"
_AT_ONCE = Pace()


def _sent(script: Script) -> bytes:
    return script.first + b"".join(data for _, data in script.steps)


def _stream(fault: str, pace: Pace = _AT_ONCE) -> Script:
    return stream(iter(_PIECES), _DONE, b'data: {"error":{}}\n\n', EVENTS, directives(fault), pace)


def test_a_healthy_stream_is_paced_and_ends_with_done_and_the_last_chunk() -> None:
    script = _stream("", Pace(0.5, 0.02))
    steps = list(script.steps)
    assert [delay for delay, _ in steps] == [0.5, 0.02, 0.02, 0.02, 0.02, 0.0]
    assert steps[-1][1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert script.end is End.KEEP


def test_burst_puts_several_events_into_one_write() -> None:
    steps = list(_stream("", Pace(0.0, 0.02, 2)).steps)
    assert [data.count(b"data:") for _, data in steps] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("fault", "end", "events", "done"),
    [
        ("cut_before_first", End.DROP, 0, False),
        ("cut_after=2", End.DROP, 2, False),
        ("oom_exit=2", End.EXIT, 2, False),
        ("ends_early=2", End.KEEP, 2, False),
        ("no_done", End.KEEP, 5, False),
        ("error_in_stream=1", End.KEEP, 2, True),
        ("duplicate_chunks", End.KEEP, 10, True),
        ("headers_then_silence", End.SILENCE, 0, False),
        ("malformed_json", End.KEEP, 6, True),
        ("body_smaller_than_promised", End.DROP, 5, True),
    ],
)
def test_stream_faults(fault: str, end: End, events: int, done: bool) -> None:
    script = _stream(f"[[fault:{fault}]]")
    sent = _sent(script)
    assert script.end is end
    assert sent.count(b"data: {") == events
    assert (b"[DONE]" in sent) is done


def test_a_cut_stream_has_no_last_chunk_and_an_early_end_has_one() -> None:
    assert not _sent(_stream("[[fault:cut_after=1]]")).endswith(b"0\r\n\r\n")
    assert _sent(_stream("[[fault:ends_early=1]]")).endswith(b"0\r\n\r\n")


def test_no_finish_reason_leaves_done_alone() -> None:
    sent = _sent(_stream("[[fault:no_finish_reason]]"))
    assert b'"finish_reason":"' not in sent
    assert b"[DONE]" in sent


def test_slow_drip_breaks_every_event_into_pieces() -> None:
    steps = list(_stream("[[fault:slow_drip=10]]").steps)
    assert len(steps) > 5 * 6
    assert {delay for delay, _ in steps[:-1]} == {0.01}


_BODY = b'{"id":"x","choices":[{"message":{"content":"t0 t1 "},"finish_reason":"stop"}],"usage":{"total_tokens":1}}'


def _whole(fault: str) -> Script:
    return whole(_BODY, directives(f"[[fault:{fault}]]"), 0.0)


@pytest.mark.parametrize("fault", ["malformed_json", "truncated_json"])
def test_spoilt_bodies_are_not_json(fault: str) -> None:
    body = _sent(_whole(fault)).partition(b"\r\n\r\n")[2]
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_promised_lengths_are_wrong_in_both_directions() -> None:
    def promised(fault: str) -> tuple[int, int]:
        head, _, body = _sent(_whole(fault)).partition(b"\r\n\r\n")
        return int(head.rpartition(b"content-length: ")[2].split(b"\r\n")[0]), len(body)

    length, sent = promised("body_larger_than_promised")
    assert length < sent
    length, sent = promised("body_smaller_than_promised")
    assert length > sent


def test_empty_choices_stays_json() -> None:
    answer = json.loads(_sent(_whole("empty_choices")).partition(b"\r\n\r\n")[2])
    assert answer["choices"] == []


def test_faults_that_ignore_the_question() -> None:
    refused = misconduct(directives("[[fault:status=429]][[set:retry_after=2]]"))
    assert refused is not None and refused.first.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 2\r\n" in refused.first
    moved = misconduct(directives("[[fault:redirect=http://example.invalid/]]"))
    assert moved is not None and b"location: http://example.invalid/\r\n" in moved.first
    assert misconduct(NONE) is None


def test_wrong_content_type_keeps_the_body_when_a_type_is_given() -> None:
    assert _BODY in _sent(_whole("wrong_content_type=text/plain"))
    assert JSON not in _sent(_whole("wrong_content_type=text/plain")).partition(b"\r\n\r\n")[0]
    assert b"<html>" in _sent(_whole("wrong_content_type"))


# --- the process


class Fake:
    """A running fake engine and a client for it."""

    def __init__(self, *arguments: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ap-"))
        self.socket = self.directory / "f.sock"
        argv = [sys.executable, "-m", "appliance.hosts.fake", "--socket", str(self.socket), *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.client = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://f", timeout=5)

    def started(self) -> Fake:
        wait_until(lambda: self.socket.exists(), 10, "the fake engine listens")
        return self

    def ask(self, text: str, *, path: str = "/v1/chat/completions", **extra: Any) -> httpx.Response:
        return self.client.post(path, json=self.body(text, path, **extra))

    def body(self, text: str, path: str = "/v1/chat/completions", **extra: Any) -> dict[str, Any]:
        chat = path == "/v1/chat/completions"
        question: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
        return {"model": "fake", **question, **extra}

    def metric(self, name: str) -> float:
        rows = self.client.get("/metrics").text.splitlines()
        return float(next(row for row in rows if row.startswith(name + "{")).rpartition(" ")[2])

    def open(self, text: str, **extra: Any) -> socket.socket:
        """A connection on which one chat request has been sent and nothing read."""
        body = json.dumps(self.body(text, **extra)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: f\r\ncontent-length: {len(body)}\r\n\r\n"
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(5)
        raw.connect(str(self.socket))
        raw.sendall(head.encode() + body)
        return raw

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    running = Fake("--chunks", "4", "--max-model-len", "200").started()
    yield running
    running.stop()


@pytest.fixture
def launch() -> Iterator[Callable[..., Fake]]:
    running: list[Fake] = []

    def start(*arguments: str) -> Fake:
        running.append(Fake(*arguments))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def _events(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_chat_answer_has_vllms_fields(fake: Fake) -> None:
    answer = fake.ask("hello").json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "t0 t1 t2 t3 "
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": 2,
        "total_tokens": 6,
        "completion_tokens": 4,
        "prompt_tokens_details": None,
    }


def test_a_chat_stream_opens_with_the_role_and_ends_with_done(fake: Fake) -> None:
    first, *tokens, done = _events(fake.ask("hello", stream=True))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(e["choices"][0]["delta"]["content"] for e in tokens) == "t0 t1 t2 t3 "
    assert [e["choices"][0]["finish_reason"] for e in tokens] == [None, None, None, "stop"]
    assert done == "[DONE]"


def test_the_usage_event_comes_only_when_asked_for(fake: Fake) -> None:
    asked = _events(fake.ask("hello", stream=True, stream_options={"include_usage": True}))
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["completion_tokens"] == 4
    assert all("usage" not in event for event in _events(fake.ask("hello", stream=True))[:-1])


def test_completions_stream_text_without_a_role(fake: Fake) -> None:
    path = "/v1/completions"
    assert fake.ask("hello", path=path).json()["choices"][0]["text"] == "t0 t1 t2 t3 "
    events = _events(fake.ask("hello", path=path, stream=True))
    assert [e["choices"][0]["text"] for e in events[:-1]] == ["t0 ", "t1 ", "t2 ", "t3 "]


def test_several_choices_are_told_apart_by_index(fake: Fake) -> None:
    assert [c["index"] for c in fake.ask("hello", n=3).json()["choices"]] == [0, 1, 2]
    events = _events(fake.ask("hello", n=2, stream=True))[:-1]
    assert sorted({e["choices"][0]["index"] for e in events}) == [0, 1]


def test_max_tokens_ends_with_length(fake: Fake) -> None:
    choice = fake.ask("hello", max_tokens=2).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("t0 t1 ", "length")


def test_given_text_comes_back_whole_and_streamed(fake: Fake) -> None:
    text = 'New Delhi, "नई दिल्ली"'
    question = f"[[set:text={text}]]"
    assert fake.ask(question).json()["choices"][0]["message"]["content"] == text
    deltas = [e["choices"][0]["delta"]["content"] for e in _events(fake.ask(question, stream=True))[:-1]]
    assert "".join(deltas) == text


def test_too_long_a_prompt_is_refused_with_both_numbers(fake: Fake) -> None:
    refused = fake.ask("x" * 4000)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("BadRequestError", "input_tokens", 400)
    assert "maximum context length is 200 tokens" in error["message"] and "1001 input tokens" in error["message"]


def test_models_name_the_context(fake: Fake) -> None:
    card = fake.client.get("/v1/models").json()["data"][0]
    assert (card["id"], card["owned_by"], card["max_model_len"]) == ("fake", "vllm", 200)
    assert fake.client.post("/v1/chat/completions", json={"model": "other", "messages": []}).status_code == 404


def test_the_last_request_can_be_read_back(fake: Fake) -> None:
    fake.ask("remember [[set:id=back]]", cache_salt="s1")
    last = fake.client.get("/debug/last").json()
    assert last["body"]["cache_salt"] == "s1"
    assert last["path"] == "/v1/chat/completions"
    assert last["seen"]["back"] == 1


def test_a_fault_can_be_limited_to_the_first_requests(fake: Fake) -> None:
    question = "[[fault:status=503]][[set:first=2]][[set:id=limited]]"
    assert [fake.ask(question).status_code for _ in range(3)] == [503, 503, 200]


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"oom_exit"}))
@pytest.mark.parametrize("streamed", [False, True])
def test_every_fault_leaves_the_engine_answering_others(fake: Fake, fault: str, streamed: bool) -> None:
    value = {"status": "=500", "redirect": "=http://example.invalid/", "slow_drip": "=1", "huge_line": "=100000"}
    with closing(fake.open(f"[[fault:{fault}{value.get(fault, '')}]]", stream=streamed)) as raw:
        if fault in ("hang", "connect_hang"):
            wait_until(lambda: fake.metric("vllm:num_requests_running") == 1, 5, "the request hangs")
        else:
            assert bool(raw.recv(100)) is (fault != "drop")
    wait_until(lambda: fake.metric("vllm:num_requests_running") == 0, 5, "the caller that left is forgotten")
    assert fake.ask("hello").status_code == 200


def test_a_caller_that_leaves_is_counted_as_cancelled(fake: Fake) -> None:
    before = fake.metric("fake:cancelled_total")
    raw = fake.open("[[set:chunks=1000]][[set:chunk_ms=20]]", stream=True)
    wait_until(lambda: fake.metric("vllm:num_requests_running") == 1, 5, "the stream runs")
    raw.close()
    wait_until(lambda: fake.metric("vllm:num_requests_running") == 0, 5, "the stream was given up")
    assert fake.metric("fake:cancelled_total") == before + 1


def test_pipelined_requests_are_answered_in_order(fake: Fake) -> None:
    def request(text: str) -> bytes:
        body = json.dumps(fake.body(text)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: f\r\ncontent-length: %d\r\n" % len(body)
        return head + (b"connection: close\r\n" if text.endswith("second]]") else b"") + b"\r\n" + body

    with closing(fake.open("[[set:text=zero]]")) as raw:
        raw.sendall(request("[[set:text=first]][[set:ttft_ms=50]]") + request("[[set:text=second]]"))
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert [received.count(w) for w in (b'"zero"', b'"first"', b'"second"')] == [1, 1, 1]
    assert received.index(b'"first"') < received.index(b'"second"')


def test_requests_beyond_the_running_limit_wait(launch: Callable[..., Fake]) -> None:
    small = launch("--max-num-seqs", "1").started()
    with closing(small.open("[[fault:hang]]")) as running:
        wait_until(lambda: small.metric("vllm:num_requests_running") == 1, 5, "one runs")
        with closing(small.open("hello")) as waiting:
            wait_until(lambda: small.metric("vllm:num_requests_waiting") == 1, 5, "one waits")
            running.close()
            assert waiting.recv(15) == b"HTTP/1.1 200 OK"


def test_transcribe_answers_like_the_whisper_host(fake: Fake) -> None:
    params = {"language": "hi", "prompt": "[[set:text=namaste duniya]]", "word_timestamps": True, "stream": False}
    headers = {"x-appliance-params": json.dumps(params)}
    result = fake.client.post("/v1/transcribe", content=b"\0" * 64000, headers=headers).json()
    assert (result["language"], result["text"], result["duration_s"]) == ("hi", "namaste duniya", 2.0)
    assert [w["word"] for w in result["words"]] == ["namaste", "duniya"]
    headers = {"x-appliance-params": json.dumps({**params, "stream": True})}
    lines = fake.client.post("/v1/transcribe", content=b"\0" * 64000, headers=headers).text.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["delta", "delta", "done"]
    assert json.loads(lines[-1])["result"] == result


def test_no_audio_is_refused(fake: Fake) -> None:
    refused = fake.client.post("/v1/transcribe", content=b"", headers={"x-appliance-params": "{}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_audio")


def test_oom_exit_ends_the_process_with_the_message(launch: Callable[..., Fake]) -> None:
    dying = launch().started()
    with closing(dying.open("[[fault:oom_exit=2]]", stream=True)) as raw:
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b"[DONE]" not in received
    assert dying.process.wait(5) == 1
    assert dying.process.stderr is not None
    assert b"CUDA out of memory" in dying.process.stderr.read()


@pytest.mark.parametrize(("fault", "said"), [("crash_loop", b"RuntimeError"), ("oom_start", b"CUDA out of memory")])
def test_faults_that_end_the_start(launch: Callable[..., Fake], fault: str, said: bytes) -> None:
    dead = launch("--fault", fault)
    assert dead.process.wait(10) == 1
    assert dead.process.stderr is not None
    assert said in dead.process.stderr.read()
    assert not dead.socket.exists()


def test_slow_start_listens_later(launch: Callable[..., Fake]) -> None:
    assert launch("--fault", "slow_start=0.2").started().client.get("/health").status_code == 200


def test_never_ready_answers_503(launch: Callable[..., Fake]) -> None:
    sick = launch("--fault", "never_ready").started()
    assert sick.client.get("/health").status_code == 503
    assert sick.ask("hello").status_code == 503


def test_a_hung_engine_is_healthy_and_answers_nothing(launch: Callable[..., Fake]) -> None:
    hung = launch("--fault", "hang").started()
    assert hung.client.get("/health").status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        hung.client.post("/v1/chat/completions", json=hung.body("hello"), timeout=0.2)
    with closing(hung.open("hello")):
        wait_until(lambda: hung.metric("vllm:num_requests_running") == 1, 5, "it counts as running")
        assert hung.metric("vllm:iteration_tokens_total_count") == 0


def test_a_frozen_process_accepts_and_never_answers(launch: Callable[..., Fake]) -> None:
    frozen = launch("--fault", "connect_hang").started()
    with pytest.raises(httpx.ReadTimeout):
        frozen.client.get("/health", timeout=0.2)


def test_sigterm_ends_it_cleanly(launch: Callable[..., Fake]) -> None:
    running = launch().started()
    running.process.terminate()
    assert running.process.wait(5) == 0
    assert not running.socket.exists()


def test_it_needs_somewhere_to_listen() -> None:
    done = subprocess.run([sys.executable, "-m", "appliance.hosts.fake"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--socket PATH or --port N" in done.stderr
