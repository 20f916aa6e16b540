"""IndicConformer on ONNX Runtime behind one function: a batch of windows in, what they say out.

What it is: the published graphs as sessions on CPU, CUDA or TensorRT; windows of any languages in one batch, each under
its own mask, each as long as ``encoded_lengths`` says.
What it refuses to be: a scheduler, or an identifier of languages: the model has none.
Cost: 2.5 GB for the encoder in float32. Time on the real weights was never measured here (docs/speech.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from appliance.hosts import conformer_ctc, conformer_rnnt
from appliance.hosts.conformer_features import FRAMES_PER_S, MELS, log_mel
from appliance.hosts.conformer_files import CTC, RNNT, ModelUnusable, read_layout
from appliance.hosts.conformer_text import Decoded, Spoken, read
from appliance.hosts.conformer_windows import LONGEST_S, bucket
from appliance.hosts.voice import Voice

Decoding = Literal["greedy", "beam", "rnnt"]
Provider = Literal["cpu", "cuda", "tensorrt"]
_PROVIDER = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(eq=False)
class Window:
    """One window to decode: ``features`` [80, frames], its ``language`` as the vocabulary calls it, words to expect."""

    features: NDArray[np.float32]
    language: str
    hotwords: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int]:
        """Windows with equal keys can share a batch: the frames it is padded to."""
        return (bucket(self.features.shape[1]),)


class Speech(Protocol):
    """What the rest of the host needs of a model; the tests' stand-in is another."""

    languages: tuple[str, ...]

    def hear(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Speech probability of each 32 ms."""
        ...

    def features(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Log-mel features of a window."""
        ...

    def run(self, batch: list[Window]) -> list[Decoded | Exception]:
        """Decode windows of one key."""
        ...


def providers(provider: Provider, device: int, cache: Path) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers in order, with options; what one cannot run the next one does.

    ``cache``: where TensorRT keeps the engines it builds, which takes minutes.
    """
    chosen: list[tuple[str, dict[str, str]]] = []
    if provider == "tensorrt":
        chosen.append((_PROVIDER["tensorrt"], _tensorrt(device, cache)))
    if provider in ("cuda", "tensorrt"):
        # Searching for a convolution algorithm, and not padding 1-D convolutions to 2-D, costs 50 s for every length
        # that was not seen before.
        options = {"cudnn_conv_algo_search": "DEFAULT", "cudnn_conv1d_pad_to_nc1d": "1"}
        chosen.append((_PROVIDER["cuda"], {"device_id": str(device), **options}))
    chosen.append((_PROVIDER["cpu"], {}))
    return chosen


def _tensorrt(device: int, cache: Path) -> dict[str, str]:
    def shapes(batch: int, seconds: float) -> str:
        return f"audio_signal:{batch}x{MELS}x{bucket(round(seconds * FRAMES_PER_S))},length:{batch}"

    return {
        "device_id": str(device),
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_profile_min_shapes": shapes(1, 1.0),
        "trt_profile_opt_shapes": shapes(8, 8.0),
        "trt_profile_max_shapes": shapes(64, LONGEST_S + 1.0),
    }


def usable(
    provider: Literal["auto", "cpu", "cuda", "tensorrt"], available: Sequence[str], visible: str | None = None
) -> Provider:
    """The provider to use: as asked, or CUDA where it is there. Raises ModelUnusable.

    ``visible``: CUDA_VISIBLE_DEVICES. ONNX Runtime lists a provider that is built in, whether it has a device or not,
    and an engine that the plan put into RAM sees none.
    """
    if provider == "auto":
        return "cuda" if _PROVIDER["cuda"] in available and visible not in ("", "-1") else "cpu"
    if _PROVIDER[provider] not in available:
        raise ModelUnusable(
            f"ONNX Runtime has no {provider} here; install the GPU set (APPLIANCE_SET=gpu make setup), where plain"
            " onnxruntime must not be installed beside onnxruntime-gpu, or run with --device cpu"
        )
    return provider


class ConformerSpeech:
    """A directory of IndicConformer, loaded. Thread-safe: ONNX Runtime's sessions are.

    Raises ModelUnusable. ``threads`` 0: ONNX Runtime's own choice.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        provider: Provider = "cpu",
        device: int = 0,
        threads: int = 0,
        decoding: Decoding = "greedy",
        cache: Path | None = None,
    ) -> None:
        self._layout = read_layout(model_dir, rnnt=decoding == "rnnt")
        self._decoding = decoding
        self._voice = Voice()
        self.languages = self._layout.languages
        heavy = providers(provider, device, cache or model_dir)
        light = providers("cuda" if provider == "tensorrt" else provider, device, model_dir)
        self._sessions = {"encoder": self._open("encoder", heavy, threads)}
        self._sessions |= {name: self._open(name, light, threads) for name in CTC[1:]}
        self._singly = False
        if decoding == "rnnt":
            # three calls a frame on a few kilobytes: sending them to a GPU and back costs more than they do
            here = providers("cpu", 0, model_dir)
            names = [*RNNT, *map(self._layout.post_net, self._layout.languages)]
            self._sessions |= {name: self._open(name, here, 1) for name in names}
            second = next(i for i in self._sessions["rnnt_decoder"].get_inputs() if i.name == "onnx::Slice_3")
            self._singly = second.shape[1] == 1

    @property
    def on(self) -> str:
        """What the encoder really runs on; ONNX Runtime falls back without an error."""
        return str(self._sessions["encoder"].get_providers()[0]).removesuffix("ExecutionProvider")

    def hear(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Silero's speech probability of each 32 ms."""
        return self._voice.hear(samples)

    def features(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """[80, 100 a second], normalised over this window alone."""
        return log_mel(samples)

    def run(self, batch: list[Window]) -> list[Decoded | Exception]:
        """Encode all together; read each in its language."""
        encoded, lengths = self._encode(batch)
        heard = self._heard(encoded, lengths, batch)
        return [
            read(spoken, self._layout.vocabulary[w.language], _frame_s(w, int(length)))
            for spoken, w, length in zip(heard, batch, lengths, strict=True)
        ]

    def _encode(self, batch: list[Window]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        frames = np.array([w.features.shape[1] for w in batch], np.int64)
        signal = np.zeros((len(batch), MELS, bucket(int(frames.max()))), np.float32)
        for row, window in zip(signal, batch, strict=True):
            row[:, : window.features.shape[1]] = window.features
        inputs: dict[str, NDArray[Any]] = {"audio_signal": signal, "length": frames}
        outputs, lengths = self._call("encoder", inputs, ("outputs", "encoded_lengths"))
        return outputs, np.minimum(lengths, outputs.shape[2])

    def _heard(
        self, encoded: NDArray[np.float32], lengths: NDArray[np.int64], batch: list[Window]
    ) -> list[list[Spoken]]:
        """By the host's decoding; windows with hotwords by the beam, which alone knows what to do with them."""
        by_rnnt = [n for n, w in enumerate(batch) if self._decoding == "rnnt" and not w.hotwords]
        by_ctc = [n for n in range(len(batch)) if n not in by_rnnt]
        heard: list[list[Spoken]] = [[] for _ in batch]
        for rows, decode in ((by_ctc, self._ctc), (by_rnnt, self._rnnt)):
            if rows:
                found = decode(encoded[rows], lengths[rows], [batch[n] for n in rows])
                for n, spoken in zip(rows, found, strict=True):
                    heard[n] = spoken
        return heard

    def _ctc(self, encoded: NDArray[np.float32], lengths: NDArray[np.int64], batch: list[Window]) -> list[list[Spoken]]:
        logprobs = self._call("ctc_decoder", {"encoder_output": encoded}, ("logprobs",))[0]
        return [
            self._path(conformer_ctc.masked(one, int(length), self._layout.columns[w.language]), w)
            for one, length, w in zip(logprobs, lengths, batch, strict=True)
        ]

    def _path(self, scores: NDArray[np.float32], window: Window) -> list[Spoken]:
        if not window.hotwords and self._decoding == "greedy":
            return conformer_ctc.greedy(scores)
        hot = conformer_ctc.Hotwords(window.hotwords, self._layout.vocabulary[window.language])
        return conformer_ctc.beam(scores, hot if window.hotwords else None)

    def _rnnt(
        self, encoded: NDArray[np.float32], lengths: NDArray[np.int64], batch: list[Window]
    ) -> list[list[Spoken]]:
        languages = [w.language for w in batch]
        return conformer_rnnt.greedy(self._call, encoded, lengths, languages, singly=self._singly)

    def _call(self, name: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        result: list[NDArray[Any]] = self._sessions[name].run(list(outputs), dict(inputs))
        return result

    def _open(self, name: str, chosen: list[tuple[str, dict[str, str]]], threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = self._layout.graph(name)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=chosen)
        except Exception as e:  # ONNX Runtime has a class for each of its status codes and no common one
            reason = str(e).strip().splitlines()[0][:300] if str(e).strip() else type(e).__name__
            raise ModelUnusable(f"ONNX Runtime does not load {path} ({reason}); fetch the model again") from None


def _frame_s(window: Window, length: int) -> float:
    """Seconds an encoder frame lasts, by the lengths of this window."""
    return float(window.features.shape[1] / FRAMES_PER_S / max(1, length))
