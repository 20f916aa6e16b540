"""CTranslate2's Whisper behind one function: a batch of windows in, their decodes out.

What it is: log-mel features, the encoder, language detection, beam search or sampling, and word alignment,
for windows of one length with prompts of one length (CTranslate2 wants the start token at one position).
What it refuses to be: a scheduler or a judge; it decodes what it is given, once.
Costs on one CPU core, base int8: the encoder is cheaper one window at a time (0.09 s against 0.16 s a window of
10 s in a batch of 8, whose activations outgrow the cache), so on CPU windows are encoded singly and their
states joined; the decoder takes 0.06 s a short clip, alone or together. On a GPU both go as one batch.
The encoder's state stays with the window (1 MB for 10 s) for the next rung of the ladder.
CTranslate2 4.8.5 takes encoder inputs shorter than 3000 frames and refuses longer ones (checked by
``tests/real/test_whisper_host.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

from appliance.hosts.whisper_text import Decode, compression_ratio, time_words
from appliance.hosts.whisper_windows import FRAMES_PER_S, token_cap
from appliance.hosts.whisper_wire import Word

Features = NDArray[np.float32]
BEAM = 5
BEST_OF = 5
MAX_TOKENS = 448
# Silence after the sound that the 400-point FFT of its last frames reaches into.
_TAIL = 480
_READ_OUT = "%$£€₹+&"
_VAD_CHUNK = 512 * 9375  # five minutes: bounds what Silero holds at once


@dataclass(eq=False)
class Window:
    """One window to decode. ``features`` [mels, frames]; ``length_s`` of it is sound, the rest padding.

    ``language`` None: detect it, among ``hints`` where there are some; ``detect_only``: nothing else.
    ``verbatim``: numbers in words, because tokens with digits are not offered.
    ``encoded`` [1, frames / 2, width] is filled by the first decode. ``left``: nobody waits for it any more, so that a
    batch that runs spends no more on it.
    """

    features: Features
    length_s: float
    language: str | None
    prompt: tuple[int, ...] = ()
    temperature: float = 0.0
    encoded: NDArray[Any] | None = None
    hints: tuple[str, ...] = ()
    detect_only: bool = False
    verbatim: bool = False
    left: bool = False

    @property
    def key(self) -> tuple[int, float, int, bool, bool]:
        """Windows with equal keys can share a batch: frames, temperature, length of the prompt, what is wanted."""
        return (self.features.shape[1], self.temperature, len(self.prompt), self.detect_only, self.verbatim)


class Speech(Protocol):
    """What the rest of the host needs of a model; the tests' stand-in is another."""

    languages: tuple[str, ...]
    timestamp_begin: int

    def hear(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Speech probability of each 32 ms."""
        ...

    def features(self, samples: NDArray[np.int16], window_s: int) -> Features:
        """Log-mel features of a window."""
        ...

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Tokens of a caller's prompt, the last 223 of them."""
        ...

    def decode_tokens(self, tokens: Sequence[int]) -> str:
        """Text of tokens, timestamps left out."""
        ...

    def run(self, batch: list[Window]) -> list[Decode | Exception]:
        """Decode windows of one key."""
        ...

    def align(self, window: Window, decode: Decode) -> Decode:
        """``decode`` with its words timed, in seconds from the window's start."""
        ...


class WhisperSpeech:
    """A CTranslate2 Whisper directory, loaded. Thread-safe: ``workers`` batches run at a time."""

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str = "cpu",
        compute_type: str = "int8",
        workers: int = 1,
        threads: int = 0,
        beams: int = BEAM,
    ) -> None:
        self._model = ctranslate2.models.Whisper(
            str(model_dir), device=device, compute_type=compute_type, inter_threads=workers, intra_threads=threads
        )
        self._singly = device == "cpu"
        self._beams = beams
        self._hf = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._multilingual = bool(self._model.is_multilingual)
        self._extract = FeatureExtractor(feature_size=self._model.n_mels)
        self._vad = get_vad_model()
        self.languages = tuple(
            code for code in _LANGUAGE_CODES if self._multilingual and self._hf.token_to_id(f"<|{code}|>") is not None
        ) or ("en",)
        self._tokenizers: dict[str, Tokenizer] = {}
        self._with_digits: list[int] | None = None
        english = self._tokenizer("en")
        self.timestamp_begin = int(english.timestamp_begin)
        self._start_of_previous = int(english.sot_prev)
        self._suppressed = list(get_suppressed_tokens(english, [-1]))

    def hear(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Silero's speech probability of each 32 ms, five minutes at a time."""
        parts = [np.zeros(0, np.float32)]
        for begin in range(0, len(samples), _VAD_CHUNK):
            chunk = samples[begin : begin + _VAD_CHUNK]
            padded = np.zeros(-(-len(chunk) // 512) * 512, np.float32)
            padded[: len(chunk)] = chunk
            padded /= 32768.0
            parts.append(np.asarray(self._vad(padded), np.float32).reshape(-1))
        return np.concatenate(parts)

    def features(self, samples: NDArray[np.int16], window_s: int) -> Features:
        """[mels, 100 * window_s]; the same as padding the samples with silence, without computing it."""
        frames = window_s * FRAMES_PER_S
        sound = np.zeros(len(samples) + _TAIL, np.float32)
        sound[: len(samples)] = samples
        sound /= 32768.0
        mel = np.asarray(self._extract(sound), np.float32)[:, :frames]
        # Digital silence sits at the floor of the extractor's scale: 8 decades under the peak, at least 1e-10.
        floor = max(-10.0, float(mel.max()) * 4.0 - 12.0)
        out = np.full((mel.shape[0], frames), (floor + 4.0) / 4.0, np.float32)
        out[:, : mel.shape[1]] = mel
        return out

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Tokens of a caller's prompt: the last 223, as openai/whisper does."""
        tokens = self._tokenizer("en").encode(" " + text.strip()) if text.strip() else []
        return tuple(tokens[-(MAX_TOKENS // 2 - 1) :])

    def decode_tokens(self, tokens: Sequence[int]) -> str:
        """Text of tokens, timestamps left out."""
        return str(self._tokenizer("en").decode(list(tokens)))

    def run(self, batch: list[Window]) -> list[Decode | Exception]:
        """Encode what is not encoded, detect what has no language, decode all together."""
        self._encode(batch)
        wanted = [w for w in batch if not w.left]
        decodes = iter(self._decode(wanted) if wanted else [])
        return [next(decodes) if w in wanted else RuntimeError("whoever asked for the window left") for w in batch]

    def _decode(self, batch: list[Window]) -> list[Decode | Exception]:
        """Windows that are encoded."""
        state = _view(np.concatenate([_encoded(w) for w in batch]))
        found = self._languages(batch, state)
        if batch[0].detect_only:
            return [_detected(languages) for languages in found]
        languages = [each[0] for each in found]
        prompts = [self._prompt(w, code) for w, (code, _) in zip(batch, languages, strict=True)]
        room = MAX_TOKENS - len(prompts[0])
        cap = max(token_cap(w.length_s, room) for w in batch)
        results = self._model.generate(state, prompts, **self._options(batch[0], len(prompts[0]) + cap))
        return [
            self._read(window, result, language, cap)
            for window, result, language in zip(batch, results, languages, strict=True)
        ]

    def align(self, window: Window, decode: Decode) -> Decode:
        """``decode`` with its words timed, in seconds from the window's start."""
        tokenizer = self._tokenizer(decode.language)
        text = [t for t in decode.tokens if t < tokenizer.eot]
        words: tuple[Word, ...] = ()
        if text:
            frames = min(window.features.shape[1], max(2, int(window.length_s * FRAMES_PER_S)))
            result = self._model.align(_view(_encoded(window)), tokenizer.sot_sequence, [text], frames)[0]
            spelled, parts = tokenizer.split_to_word_tokens([*text, tokenizer.eot])
            words = time_words(spelled, parts, result.alignments)
        return replace(decode, words=words)

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            self._tokenizers[language] = Tokenizer(self._hf, self._multilingual, task="transcribe", language=language)
        return self._tokenizers[language]

    def _encode(self, batch: list[Window]) -> None:
        todo = [w for w in batch if w.encoded is None]
        if not todo:
            return
        groups = [[w] for w in todo] if self._singly else [todo]
        for group in groups:
            if all(w.left for w in group):
                continue
            states = self._model.encode(_view(np.stack([w.features for w in group])), to_cpu=True)
            for window, state in zip(group, np.array(states), strict=True):
                window.encoded = state[np.newaxis]

    def _languages(self, batch: list[Window], state: Any) -> list[list[tuple[str, float]]]:
        """Of each window its languages with their probabilities, likeliest first."""
        if not self._multilingual:
            return [[("en", 1.0)]] * len(batch)
        if all(w.language for w in batch):
            return [[(w.language or "en", 1.0)] for w in batch]
        guesses = self._model.detect_language(state)
        return [
            [(w.language, 1.0)] if w.language else among([(g[0][2:-2], float(g[1])) for g in guess], w.hints)
            for w, guess in zip(batch, guesses, strict=True)
        ]

    def _prompt(self, window: Window, language: str) -> list[int]:
        start = list(self._tokenizer(language).sot_sequence)
        return [self._start_of_previous, *window.prompt, *start] if window.prompt else start

    def _options(self, window: Window, max_length: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_length": max_length,
            "return_scores": True,
            "return_no_speech_prob": True,
            "suppress_blank": True,
            "suppress_tokens": [*self._suppressed, *self._numerals()] if window.verbatim else self._suppressed,
            "max_initial_timestamp_index": 50,
        }
        if window.temperature > 0:
            sampling = {"sampling_topk": 0, "sampling_temperature": window.temperature}
            return options | sampling | {"beam_size": 1, "num_hypotheses": BEST_OF}
        return options | {"beam_size": self._beams, "patience": 1}

    def _numerals(self) -> list[int]:
        """Tokens that hold a digit, of any script as far as a token spells one, or a sign that is read out."""
        if self._with_digits is None:
            end = int(self._tokenizer("en").eot)
            spelled = ((token, self._hf.decode([token])) for token in range(end))
            self._with_digits = [t for t, text in spelled if any(c.isdigit() or c in _READ_OUT for c in text)]
        return self._with_digits

    def _read(self, window: Window, result: Any, language: tuple[str, float], cap: int) -> Decode:
        tokens = tuple(result.sequences_ids[0])
        text = self.decode_tokens(tokens)
        return Decode(
            tokens=tokens,
            text=text,
            temperature=window.temperature,
            # CTranslate2's score is the mean without the end token; Whisper's thresholds count it.
            avg_logprob=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=compression_ratio(text),
            capped=len(tokens) >= cap,
            language=language[0],
            language_probability=language[1],
        )


def among(guesses: Sequence[tuple[str, float]], hints: Sequence[str]) -> list[tuple[str, float]]:
    """``guesses`` narrowed to ``hints``, their probabilities made to sum to one again; all of them without hints."""
    kept = [(code, p) for code, p in guesses if not hints or code in hints] or list(guesses)
    whole = sum(p for _, p in kept) if hints else 1.0
    return sorted(((code, p / (whole or 1.0)) for code, p in kept), key=lambda pair: -pair[1])


def _detected(languages: list[tuple[str, float]]) -> Decode:
    """A decode that tells the language and nothing else."""
    code, probability = languages[0]
    return Decode((), "", 0.0, 0.0, 0.0, 0.0, False, code, probability, languages=tuple(languages))


def _encoded(window: Window) -> NDArray[Any]:
    if window.encoded is None:
        raise RuntimeError("a window was decoded before it was encoded")
    return window.encoded


def _view(array: NDArray[Any]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
