"""RNNT greedy decoding for a batch, over the published decoder and joint networks.

What it is: the loop of the published code for many windows and languages at once: the prediction network runs only for
windows that have just said something, the last joint network once for each language in the batch.
What it refuses to be: the default. CTC reads a window in one call; this makes three to four calls a frame.
The prediction network is fed local ids (0 to 255) and begins with 5632, as the published code does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.hosts.conformer_files import BLANK, GLOBAL_TOKENS
from appliance.hosts.conformer_text import Spoken

Array = NDArray[np.float32]
Run = Callable[[str, Mapping[str, NDArray[np.generic]], Sequence[str]], list[Array]]
LAYERS, WIDTH = 2, 640
MAX_SYMBOLS = 10


class Prediction:
    """The prediction network's memory of each window: its output ``[B, 640]`` and LSTM states ``[2, B, 640]``.

    ``singly``: an export whose second state has room for one window only.
    """

    def __init__(self, run: Run, size: int, singly: bool) -> None:
        self._run = run
        self._singly = singly
        self._states = np.zeros((2, LAYERS, size, WIDTH), np.float32)
        self.projected = np.zeros((size, WIDTH), np.float32)
        self.said(np.arange(size), np.full(size, GLOBAL_TOKENS))

    def said(self, rows: NDArray[np.intp], tokens: NDArray[np.intp]) -> None:
        """The windows ``rows`` have just said ``tokens``."""
        for some in np.split(np.arange(len(rows)), len(rows)) if self._singly and len(rows) > 1 else [slice(None)]:
            self._step(rows[some], tokens[some])

    def _step(self, rows: NDArray[np.intp], tokens: NDArray[np.intp]) -> None:
        inputs: dict[str, NDArray[np.generic]] = {
            "targets": tokens.astype(np.int32)[:, np.newaxis],
            "target_length": np.ones(len(rows), np.int32),
            "states.1": self._states[0][:, rows],
            "onnx::Slice_3": self._states[1][:, rows],
        }
        outputs, hidden, cell = self._run("rnnt_decoder", inputs, ("outputs", "states", "162"))
        self._states[0][:, rows], self._states[1][:, rows] = hidden, cell
        projected = self._run("joint_pred", {"input": outputs.transpose(0, 2, 1)}, ("output",))[0]
        self.projected[rows] = projected[:, -1]


def greedy(
    run: Run, encoded: Array, lengths: NDArray[np.int64], languages: Sequence[str], *, singly: bool = False
) -> list[list[Spoken]]:
    """What each window of ``encoded`` ``[B, 1024, T]`` says in its language."""
    heard: list[list[Spoken]] = [[] for _ in languages]
    frames = run("joint_enc", {"input": encoded.transpose(0, 2, 1)}, ("output",))[0]
    said = Prediction(run, len(languages), singly)
    for frame in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > frame)
        for _ in range(MAX_SYMBOLS):
            joint = (frames[rows, frame] + said.projected[rows])[:, np.newaxis]
            logits = _logits(run, joint, [languages[row] for row in rows])
            tokens = logits.argmax(axis=1)
            speaking = tokens != BLANK
            for row, token, logprob in zip(
                rows[speaking], tokens[speaking], _logprobs(logits[speaking], tokens[speaking]), strict=True
            ):
                heard[row].append(Spoken(int(token), frame, frame, float(logprob)))
            rows = rows[speaking]
            if not len(rows):
                break
            said.said(rows, tokens[speaking])
    return heard


def _logits(run: Run, joint: Array, languages: Sequence[str]) -> Array:
    """``[rows, 257]``; rows of one language go through its network together."""
    hidden = run("joint_pre_net", {"input": joint}, ("output",))[0]
    logits = np.empty((len(languages), BLANK + 1), np.float32)
    spoken = np.array(languages)
    for language in sorted(set(languages)):
        rows = np.flatnonzero(spoken == language)
        out = run(f"joint_post_net_{language}", {"input": hidden[rows]}, ("output",))[0]
        logits[rows] = out.reshape(len(rows), BLANK + 1)
    return logits


def _logprobs(logits: Array, tokens: NDArray[np.intp]) -> Array:
    top = logits.max(axis=1, initial=-np.inf)
    whole = np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1)) + top
    picked: Array = logits[np.arange(len(tokens)), tokens] - whole
    return picked
