"""The parts of ``make bench-hearing`` that need no model."""

from __future__ import annotations

import http.server
import json
import threading
import wave
from pathlib import Path
from typing import Any

import av
import pytest

from appliance_bench import wer
from appliance_bench.hearing import compared, invented, joined, parser, repeated, score, server_of
from appliance_bench.hearing_corpora import SENTENCES, directory
from appliance_bench.hearing_hours import encoded
from appliance_bench.speech_corpus import Clip, NoCorpus
from appliance_bench.speech_sides import Run


def clip(path: Path, name: str, text: str, seconds: float = 1.0) -> Clip:
    with wave.open(str(path / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(int(16000 * seconds)))
    (path / f"{name}.txt").write_text(text, encoding="utf-8")
    return Clip(name, text, path / f"{name}.wav", seconds)


def test_letters_are_counted_without_spaces() -> None:
    assert wer.letter_errors("my order", "myorder") == wer.Errors(0, 0, 0, 7)
    assert wer.letter_errors("मेरा नाम", "मेरे नाम").total == 1


def test_speed_and_both_error_rates_of_a_side_and_of_two(tmp_path: Path) -> None:
    clips = [clip(tmp_path, "a", "one two"), clip(tmp_path, "b", "three four", 3.0)]
    ours = Run({"a": "one two", "b": "three for"}, wall_s=1.0, cpu_s=2.0)
    theirs = Run({"a": "one", "b": "three for"}, wall_s=4.0, cpu_s=2.0)
    assert score(clips, ours) == {"wer": 25.0, "cer": 6.67, "wall_s": 1.0, "cpu_s": 2.0, "rtfx": 4.0}
    both = compared(clips, ours, theirs)
    assert both["speed_ratio"] == 4.0
    assert both["points"]["wer"]["difference"] == -25.0
    assert both["points"]["wer"]["low"] <= -25.0 <= both["points"]["wer"]["high"] <= 0.0


def test_one_long_file_is_heard_by_both_sides_in_turns(tmp_path: Path) -> None:
    order: list[str] = []

    class Side:
        def __init__(self, name: str, text: str, walls: list[float]) -> None:
            self.name, self.text, self.walls = name, text, walls

        def at_once(self, concurrency: int) -> Side:
            assert concurrency == 1
            return self

        def transcribe(self, clips: list[Clip], language: str) -> Run:
            order.append(self.name)
            return Run({one.name: self.text for one in clips}, self.walls.pop(0), 1.0)

    one = clip(tmp_path, "a", "one two", 12.0)
    ours, theirs = Side("ours", "one two", [1.0, 2.0, 3.0]), Side("theirs", "one", [2.0, 2.0, 9.0])
    found = repeated(one, "en", theirs, ours, 3)  # type: ignore[arg-type]
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert found["host"]["1"]["walls_s"] == [1.0, 2.0, 3.0] and found["host"]["1"]["rtfx"] == 6.0
    assert found["host"]["1"]["speed_ratios"] == [2.0, 1.0, 3.0] and found["host"]["1"]["speed_ratio"] == 2.0
    assert (found["baseline"]["wer"], found["host"]["1"]["wer"]) == (50.0, 0.0)


def test_words_where_nobody_speaks(tmp_path: Path) -> None:
    clips = [clip(tmp_path, "a", ""), clip(tmp_path, "b", ""), clip(tmp_path, "c", "")]
    found = invented(clips, Run({"a": "", "b": " Thanks for watching!", "c": " ."}))
    assert (found["clips_with_words"], found["words"], found["texts"]) == (1, 3, {"b": "Thanks for watching!"})


def test_a_directory_and_one_recording_of_it(tmp_path: Path) -> None:
    with pytest.raises(NoCorpus, match=r"NAME\.txt"):
        directory(tmp_path)
    clip(tmp_path, "b", "two\n", 2.0)
    clip(tmp_path, "a", "one\n")
    clips = directory(tmp_path)
    assert [(c.name, c.text, c.seconds) for c in clips] == [("a", "one", 1.0), ("b", "two", 2.0)]
    one = joined(clips, tmp_path / "joined.wav")
    assert (one.text, one.seconds) == ("one two", 5.0)


def test_a_sentence_for_each_of_fifteen_languages() -> None:
    assert len(SENTENCES) == 15
    assert all(5 <= len(wer.normalise(text)) <= 12 for text in SENTENCES.values())


class Recogniser(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        known = self.headers["authorization"] == "Bearer secret" and self.path == "/v1/audio/transcriptions"
        text = "a" if b'filename="a.wav"' in body and b"their-model" in body else "b"
        answer = json.dumps({"text": text}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def test_another_server_is_the_other_side(tmp_path: Path) -> None:
    clips = [clip(tmp_path, "a", "a"), clip(tmp_path, "b", "b")]
    (tmp_path / "key").write_text("secret\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recogniser)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1/"
        args = parser().parse_args(
            ["--against", url, "--against-model", "their-model", "--against-key", str(tmp_path / "key")]
        )
        other = server_of(args)
        assert other is not None
        assert other.transcribe(clips, "en").texts == {"a": "a", "b": "b"}
        args.against_key = ""
        with pytest.raises(RuntimeError, match="answered 401"):  # which is how a language without a token is told
            server_of(args).transcribe(clips, "en")  # type: ignore[union-attr]
    finally:
        server.shutdown()
        server.server_close()
    assert server_of(parser().parse_args([])) is None


def test_a_recording_of_hours_is_the_clip_again_and_again(tmp_path: Path) -> None:
    one = clip(tmp_path, "a", "a", 2.0)
    out = encoded(one.path, 3, tmp_path / "long.ogg")
    with av.open(str(out)) as container:
        frames = list(container.decode(audio=0))
        assert container.streams.audio[0].codec_context.name == "opus"
    seconds = sum(frame.samples / frame.sample_rate for frame in frames)
    assert seconds == pytest.approx(6.0, abs=0.1)
    assert encoded(one.path, 3, out) == out
