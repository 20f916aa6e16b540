"""A tiny ``Speech``: loud samples are speech, and a script says how each decode turns out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.whisper_job import Transcriber
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import Window
from appliance.hosts.whisper_text import Decode
from appliance.hosts.whisper_wire import Word

RATE = 16000
BEGIN = 1000
"""Token of the timestamp 0.00; below it, a token is the letter of that code point."""


def sound(*parts: tuple[float, bool]) -> np.ndarray:
    """int16 samples: (seconds, spoken?) after one another."""
    return np.concatenate([np.full(int(s * RATE), 8000 if loud else 0, np.int16) for s, loud in parts])


def stamp(seconds: float) -> int:
    return BEGIN + round(seconds / 0.02)


def spoken(text: str, start: float, end: float) -> tuple[int, ...]:
    return (stamp(start), *map(ord, text), stamp(end))


def decode(window: Window, tokens: tuple[int, ...], **changes: object) -> Decode:
    """A decode that can be believed, unless ``changes`` say otherwise."""
    text = "".join(chr(t) for t in tokens if t < BEGIN)
    good = Decode(tokens, text, window.temperature, -0.3, 0.1, 1.0, False, window.language or "hi", 0.75)
    return replace(good, **changes)  # type: ignore[arg-type]


class StandIn:
    """``script(window) -> Decode | Exception``; by default says its length in words of the bucket."""

    languages = ("en", "hi", "ta")
    timestamp_begin = BEGIN

    def __init__(self, script: Callable[[Window], Decode | Exception] | None = None) -> None:
        self.script = script or self.length_as_text
        self.windows: list[Window] = []
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.called = threading.Semaphore(0)

    @staticmethod
    def length_as_text(window: Window) -> Decode:
        return decode(window, spoken(f" {window.length_s:.1f}s", 0.0, window.length_s))

    def hear(self, samples: np.ndarray) -> np.ndarray:
        frames = np.zeros(-(-len(samples) // 512) * 512, np.int16)
        frames[: len(samples)] = samples
        return (np.abs(frames.reshape(-1, 512)).max(axis=1) > 1000).astype(np.float32)

    def features(self, samples: np.ndarray, window_s: int) -> np.ndarray:
        return np.zeros((2, window_s * 100), np.float32)

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode_tokens(self, tokens: Sequence[int]) -> str:
        return "".join(chr(t) for t in tokens if t < BEGIN)

    def run(self, batch: list[Window]) -> list[Decode | Exception]:
        self.windows.extend(batch)
        self.batches.append(len(batch))
        assert len({window.key for window in batch}) == 1
        self.called.release()
        assert self.go.wait(10)
        return [self.script(window) for window in batch]

    def align(self, window: Window, decode: Decode) -> Decode:
        words = tuple(Word(w, 0.5 * i, 0.5 * i + 0.4) for i, w in enumerate(decode.text.split()))
        return replace(decode, words=words)


@contextmanager
def transcriber(speech: StandIn, *, in_flight: int = 4) -> Iterator[tuple[Transcriber, Batcher[Window, Decode]]]:
    """A transcriber around ``speech`` whose batcher dispatches at once; started, to be closed by the test."""
    metrics = Metrics()
    batcher: Batcher[Window, Decode] = Batcher(speech.run, Limits(8, 0.0), observer=metrics)
    batcher.start()
    with ThreadPoolExecutor(2) as cpu:
        yield Transcriber(speech, batcher, cpu, metrics, in_flight=in_flight), batcher
