"""The speech bench around its two sides: corpus, blocks, judgement. No network, no model."""

from __future__ import annotations

import gzip
import os
import wave
from pathlib import Path

import pytest

from appliance_bench import speech
from appliance_bench.speech_corpus import Clip, NoCorpus, digest, fetch, load, transcripts
from appliance_bench.speech_sides import Run, cpu_s


def clips(count: int, text: str = "press one") -> list[Clip]:
    return [Clip(f"c{i:03}", text, Path("unused"), 2.0) for i in range(count)]


def unpacked(root: Path, names: list[str], listing: str) -> Path:
    text = root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    text.parent.mkdir(parents=True)
    text.write_bytes(gzip.compress(listing.encode()))
    for name in names:
        path = root / "usr/share/asterisk/sounds/en_US_f_Allison" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(16000))
    return root


def test_transcripts_lose_remarks_and_speak_telephone_keys():
    listing = "; comment\n\nbeep: [a tone]\npress: press * or # (louder)\nat: at [@]: now\npress: again\n"
    assert transcripts(listing) == {"beep": "", "press": "press star or pound", "at": "at : now"}


def test_only_clips_with_a_recording_and_a_line_are_loaded(tmp_path: Path):
    root = unpacked(tmp_path, ["digits/1", "hello", "extra"], "hello: Hello.\ndigits/1: one\nmissing: gone\n")
    found = load(root)
    assert [(c.name, c.text, c.seconds) for c in found] == [("digits/1", "one", 1.0), ("hello", "Hello.", 1.0)]
    assert digest(found) != digest(found[:1])


def test_a_directory_without_the_packages_says_what_to_unpack(tmp_path: Path):
    with pytest.raises(NoCorpus, match="dpkg -x"):
        load(tmp_path)


def test_what_was_fetched_once_is_not_fetched_again(tmp_path: Path):
    unpacked(tmp_path / "unpacked", ["a"], "a: a\n")
    assert fetch(tmp_path) == tmp_path / "unpacked"


def test_without_apt_the_way_round_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCorpus, match="--corpus"):
        fetch(tmp_path / "cache")


def test_a_failing_fetch_names_what_to_check_and_leaves_nothing_half_done(tmp_path: Path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("apt-get", "dpkg"):
        (tools / name).write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(NoCorpus, match=r"apt-get download failed \(E: no such package\); run apt-get update"):
        fetch(tmp_path / "cache")
    assert not (tmp_path / "cache" / "unpacked").exists()


def test_a_limit_takes_clips_from_all_over_the_list():
    taken = speech.spread(clips(100), 10)
    assert [c.name for c in taken] == [f"c{i:03}" for i in range(0, 100, 10)]
    assert speech.spread(clips(5), 0) == clips(5)
    assert speech.spread(clips(5), 9) == clips(5)


def test_blocks_hold_every_clip_once():
    parts = speech.blocks(clips(10), 4)
    assert sorted(c.name for part in parts for c in part) == [c.name for c in clips(10)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert speech.blocks(clips(2), 8) == [[c] for c in clips(2)]


class Side:
    """Answers at once and notes its turn."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name = name
        self.turns = turns

    def transcribe(self, block: list[Clip], language: str) -> Run:
        self.turns.append(self.name)
        return Run({clip.name: self.name for clip in block}, wall_s=1.0, cpu_s=2.0)


def test_sides_alternate_and_so_does_who_begins():
    turns: list[str] = []
    theirs, ours = speech.measure(clips(8), Side("b", turns), Side("h", turns), 4)  # type: ignore[arg-type]
    assert turns == ["b", "h", "h", "b", "b", "h", "h", "b"]
    assert (theirs.wall_s, ours.cpu_s) == (4.0, 8.0)
    assert len(theirs.texts) == len(ours.texts) == 8


def test_the_judgement_holds_speed_and_quality_of_the_same_texts():
    spoken = clips(10)
    theirs = Run({c.name: "Press 1." for c in spoken}, wall_s=8.0, cpu_s=12.0)
    ours = Run({c.name: "press one" if i else "press" for i, c in enumerate(spoken)}, wall_s=2.0, cpu_s=3.0)
    result = speech.judge(spoken, theirs, ours)
    assert (result["speed_ratio"], result["cpu_ratio"]) == (4.0, 4.0)
    assert (result["baseline"]["wer"], result["host"]["wer"]) == (0.0, 5.0)
    assert result["host"]["rtfx"] == 10.0
    assert result["errors_per_clip"] == {"c000": [0, 1]}
    assert result["wer_difference"]["difference"] == 5.0
    fast, good = speech.verdict(result)
    assert fast.endswith("met")
    assert good.endswith("MISSED")


def test_words_where_nobody_speaks_are_counted():
    silent = clips(3, "")
    run = Run({"c000": " You", "c001": "", "c002": "bye bye"}, wall_s=1.0)
    assert speech.invented(silent, run) == {"words": 3, "clips": 2, "wall_s": 1.0}


def test_cpu_seconds_of_a_process_grow_with_its_work():
    before = cpu_s(os.getpid())
    while cpu_s(os.getpid()) - before < 0.02:
        sum(range(10_000))
    assert before >= 0


def test_a_missing_model_is_one_sentence(tmp_path: Path):
    with pytest.raises(SystemExit, match="run make models"):
        speech.main(["--model-dir", str(tmp_path)])
