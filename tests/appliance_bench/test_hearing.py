"""The parts of ``make bench-hearing`` that need no model."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from appliance_bench import wer
from appliance_bench.hearing import compared, invented, joined, score
from appliance_bench.hearing_corpora import SENTENCES, directory
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
