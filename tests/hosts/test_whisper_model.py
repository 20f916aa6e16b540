"""What a batch still computes for windows that nobody waits for any more. CTranslate2 is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from appliance.hosts.whisper_model import WhisperSpeech, Window


class Encoder:
    """Counts what it encodes; ``during`` happens while it does."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.encoded = 0
        self._during = during

    def encode(self, features: Any, to_cpu: bool) -> Any:
        self.encoded += 1
        self._during()
        return np.zeros((1, 5, 2), np.float32)


def speech(model: Encoder) -> tuple[WhisperSpeech, list[Window]]:
    """One without a model of its own, and the windows that it decodes."""
    decoded: list[Window] = []
    one = object.__new__(WhisperSpeech)
    one._model, one._singly = model, True  # type: ignore[assignment]

    def decode(batch: list[Window]) -> list[Any]:
        decoded.extend(batch)
        return [f"text {len(decoded)}"] * len(batch)

    one._decode = decode  # type: ignore[method-assign]
    return one, decoded


def windows(count: int) -> list[Window]:
    return [Window(np.zeros((2, 10), np.float32), 1.0, "en") for _ in range(count)]


def test_a_window_that_was_left_in_the_queue_is_not_encoded() -> None:
    model = Encoder()
    one, decoded = speech(model)
    batch = windows(3)
    batch[1].left = True
    results = one.run(batch)
    assert model.encoded == 2 and decoded == [batch[0], batch[2]]
    assert results[0] == results[2] == "text 2" and isinstance(results[1], RuntimeError)


def test_one_that_is_left_while_it_is_encoded_is_not_decoded() -> None:
    batch = windows(1)

    def leave() -> None:
        batch[0].left = True

    one, decoded = speech(Encoder(leave))
    (result,) = one.run(batch)
    assert isinstance(result, RuntimeError) and not decoded
