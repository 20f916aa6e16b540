"""Where somebody speaks: Silero VAD on ONNX Runtime, without the library that carries it.

What it is: faster-whisper's file of Silero v6, opened by its path. Importing faster-whisper would bring CTranslate2
into a process that has no use for it; a test holds the two to the same probabilities.
What it refuses to be: a judge of what is speech enough; ``whisper_windows`` is.
Cost: 1.3 MB, about 2 ms of CPU a second of sound.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_FRAME = 512
_CONTEXT = 64
_CHUNK = _FRAME * 9375  # five minutes: bounds what is held at once


class Voice:
    """The detector, loaded. Thread-safe."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(_file()), options, providers=["CPUExecutionProvider"])

    def listening(self) -> Listening:
        """A fresh memory for one stream."""
        return Listening(self._session)

    def hear(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Speech probability of each 32 ms, five minutes at a time."""
        parts = [np.zeros(0, np.float32)]
        parts += [self._chunk(samples[at : at + _CHUNK]) for at in range(0, len(samples), _CHUNK)]
        return np.concatenate(parts)

    def _chunk(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        frames = np.zeros((-(-len(samples) // _FRAME), _FRAME), np.float32)
        frames.reshape(-1)[: len(samples)] = samples
        frames /= 32768.0
        # every frame comes with the end of the one before it
        before = np.zeros((len(frames), _CONTEXT), np.float32)
        before[1:] = frames[:-1, -_CONTEXT:]
        state = np.zeros((1, 1, 128), np.float32)
        inputs = {"input": np.concatenate([before, frames], axis=1), "h": state, "c": state}
        return np.asarray(self._session.run(None, inputs)[0], np.float32).reshape(-1)


class Listening:
    """The detector over one stream: it remembers what came before."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._before = np.zeros(_CONTEXT, np.float32)

    def frame(self, samples: NDArray[np.int16]) -> float:
        """Speech probability of the next 512 samples."""
        frame = samples.astype(np.float32) / 32768.0
        inputs = {"input": np.concatenate([self._before, frame])[np.newaxis], "h": self._h, "c": self._c}
        probability, self._h, self._c = self._session.run(None, inputs)
        self._before = frame[-_CONTEXT:]
        return float(np.asarray(probability).reshape(-1)[0])


def _file() -> Path:
    spec = find_spec("faster_whisper")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        path = Path(place) / "assets" / "silero_vad_v6.onnx"
        if path.is_file():
            return path
    raise OSError("faster-whisper, which carries the voice detector, is not installed; run `make setup`")
