"""One upload's way to its transcript: hear, plan windows, decode each, join.

What it is: the composer of the host. Windows of all uploads meet in the batcher; of one upload at most
``in_flight`` wait there at a time, so an hour of audio does not hold up a two-second question.
A window is decoded in its short bucket first; a text that looks wrong is decoded again at 30 s, then up the
temperature ladder, by Whisper's own thresholds. Windows do not see each other's text: that keeps them
independent, and a loop in one from spreading.
What it refuses to be: HTTP, or the model.
It costs 2 bytes a sample for the upload; features and encoder states exist only for windows in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.errors import BadRequest
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher
from appliance.hosts.transcript import Written, heard_in_pieces, in_order, nobody_asked, share_done
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import Speech, Window
from appliance.hosts.whisper_text import LADDER, Decode, Piece, best, split
from appliance.hosts.whisper_windows import (
    BUCKETS_S,
    FRAMES_PER_S,
    GATE,
    VAD_FRAME_S,
    Span,
    bucket_s,
    doubtful,
    plan,
    spans,
)
from appliance.hosts.whisper_wire import Detection, Params, Result, Segment, Word

P = ParamSpec("P")
V = TypeVar("V")
# Less than this after the last timestamp is the end of the window, not more speech.
_RESIDUE_S = 0.2


@dataclass(frozen=True)
class Heard:
    """What one window gave: segments (ids not final), words if asked for, and its language."""

    segments: list[Segment]
    words: list[Word]
    language: str
    language_probability: float


@dataclass(frozen=True)
class _Upload:
    samples: NDArray[np.int16]
    probabilities: NDArray[np.float32]
    prompt: tuple[int, ...]
    temperatures: tuple[float, ...]
    words: bool
    deadline: float
    hints: tuple[str, ...] = ()
    verbatim: bool = False
    patience_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE


class Transcriber:
    """``transcribe`` for any number of uploads at once. ``cpu`` runs features and voice detection."""

    def __init__(
        self,
        speech: Speech,
        batcher: Batcher[Window, Decode],
        cpu: Executor,
        metrics: Metrics,
        *,
        in_flight: int = 4,
        buckets: Sequence[int] = BUCKETS_S,
    ) -> None:
        self._speech = speech
        self._batcher = batcher
        self._cpu = cpu
        self._metrics = metrics
        self._in_flight = in_flight
        self._buckets = buckets

    def language(self, code: str | None) -> str | None:
        """Whisper's code for what the caller gave; raises BadRequest listing the known."""
        if code is None:
            return None
        known = self._speech.languages
        if code.strip().lower() not in known:
            raise BadRequest(
                f"language {code[:40]!r} is not one this model knows; use one of: {', '.join(sorted(known))}",
                code="unknown_language",
                param="language",
            )
        return code.strip().lower()

    async def transcribe(
        self,
        samples: NDArray[np.int16],
        params: Params,
        *,
        deadline: float,
        on_text: Callable[[str], None],
        on_progress: Callable[[float], None] = nobody_asked,
    ) -> Result:
        """The transcript of 16 kHz mono samples. ``on_text`` gets each segment's text once it is final, in order.

        ``deadline`` is a point on the batcher's clock. Raises DeadlineExceeded, EngineUnavailable, BadRequest.
        """
        language = self.language(params.language)
        upload = _Upload(
            samples=samples,
            probabilities=await self._heard(samples, on_progress),
            prompt=self._speech.encode_prompt(" ".join(filter(None, (", ".join(params.hotwords), params.prompt)))),
            temperatures=(params.temperature,) if params.temperature else LADDER,
            words=params.word_timestamps,
            deadline=deadline,
            hints=self.hints(params.languages),
            verbatim=params.verbatim,
            patience_s=params.patience_s,
        )
        speech = spans(upload.probabilities, upload.duration_s)
        windows = plan(speech, upload.duration_s, upload.probabilities, self._buckets)
        heard: list[Heard] = []
        written = Written(on_text)
        if windows and language is None:
            # The first window settles the language of the whole upload, as in openai/whisper.
            heard.append(await self._window(upload, windows.pop(0), None))
            written.add(heard[0].segments)
            language = heard[0].language
        jobs = (partial(self._window, upload, window, language) for window in windows)
        ends = deque(window.end for window in windows)
        async with aclosing(in_order(jobs, self._in_flight)) as results:
            async for one in results:
                heard.append(one)
                written.add(one.segments)
                on_progress(share_done(ends.popleft(), upload.duration_s))
        self._metrics.audio.inc(upload.duration_s)
        return Result(
            language=language,
            language_probability=heard[0].language_probability if heard else float(language is not None),
            duration_s=round(upload.duration_s, 3),
            text=written.text,
            segments=written.segments,
            words=[w for h in heard for w in h.words] if params.word_timestamps else None,
        )

    def hints(self, codes: Sequence[str]) -> tuple[str, ...]:
        """Whisper's codes for the caller's; raises BadRequest for one it has no token for."""
        return tuple(filter(None, map(self.language, codes)))

    async def detect(self, samples: NDArray[np.int16], params: Params, *, deadline: float) -> Detection:
        """What is spoken in the first window of speech, as a transcript without a language would find it."""
        hints = self.hints(params.languages)
        duration_s = len(samples) / RATE
        probabilities = await self._heard(samples)
        windows = plan(spans(probabilities, duration_s), duration_s, probabilities, self._buckets)
        if not windows:
            return Detection(None, 0.0, [], round(duration_s, 3))
        span = windows[0]
        cut = samples[int(span.start * RATE) : int(span.end * RATE)]
        features = await self._off_loop(self._speech.features, cut, bucket_s(span.length, self._buckets))
        window = Window(features, span.length, None, hints=hints, detect_only=True)
        found = await self._batcher.submit(window, key=window.key, deadline=deadline)
        likeliest = [(code, round(p, 4)) for code, p in found.languages[:10]]
        sure = round(found.language_probability, 4)
        return Detection(found.language, sure, likeliest, round(duration_s, 3), round(span.length, 3))

    async def _heard(
        self, samples: NDArray[np.int16], on_progress: Callable[[float], None] = nobody_asked
    ) -> NDArray[np.float32]:
        return await heard_in_pieces(lambda piece: self._off_loop(self._speech.hear, piece), samples, on_progress)

    async def _window(self, upload: _Upload, span: Span, language: str | None) -> Heard:
        """Decode one window; where the model stopped before the speech did, go on from there."""
        heard = Heard([], [], language or "", 1.0)
        while True:
            window, decode = await self._believed(upload, span, language)
            if language is None:
                language = decode.language
                heard = replace(heard, language=language, language_probability=decode.language_probability)
            if decode.silent or doubtful(upload.probabilities, span, decode.no_speech_prob):
                return heard
            pieces, reach = split(decode.tokens, timestamp_begin=self._speech.timestamp_begin, length_s=span.length)
            heard.segments.extend(self._segments(decode, pieces, span, upload.duration_s))
            if upload.words:
                timed = await self._off_loop(self._speech.align, window, decode)
                heard.words.extend(_shifted(timed.words or (), span, reach))
            rest = Span(span.start + reach, span.end)
            if reach <= 0 or rest.length < _RESIDUE_S or not _speech_in(upload.probabilities, rest):
                return heard
            span = rest

    async def _believed(self, upload: _Upload, span: Span, language: str | None) -> tuple[Window, Decode]:
        """The first decode that can be believed, from the short bucket up the ladder; else the best of them."""
        cut = upload.samples[int(span.start * RATE) : int(span.end * RATE)]
        sizes = sorted({bucket_s(span.length, self._buckets), BUCKETS_S[-1]})
        tried: list[tuple[Window, Decode]] = []
        for window_s in sizes:
            features = await self._off_loop(self._speech.features, cut, window_s)
            window = Window(
                features, span.length, language, upload.prompt, hints=upload.hints, verbatim=upload.verbatim
            )
            tried = []  # what a short window made up does not compete with the full one
            for temperature in upload.temperatures if window_s == sizes[-1] else upload.temperatures[:1]:
                window = replace(window, temperature=temperature)
                try:
                    decode = await self._batcher.submit(
                        window, key=window.key, deadline=upload.deadline, patience_s=upload.patience_s
                    )
                except asyncio.CancelledError:
                    window.left = True
                    raise
                if decode.believable:
                    return window, decode
                self._metrics.fallbacks.inc()
                tried.append((window, decode))
        chosen = best([decode for _, decode in tried])
        return next(pair for pair in tried if pair[1] is chosen)

    def _segments(self, decode: Decode, pieces: Sequence[Piece], span: Span, duration_s: float) -> list[Segment]:
        found = []
        for piece in pieces:
            text = self._speech.decode_tokens(piece.tokens).rstrip()
            start, end = span.start + piece.start, min(duration_s, span.start + piece.end)
            if not text.strip() or end <= start:
                continue
            found.append(
                Segment(
                    id=0,  # numbered when the upload's windows are joined
                    seek=int(span.start * FRAMES_PER_S),
                    start=round(start, 2),
                    end=round(end, 2),
                    text=text,
                    tokens=list(piece.tokens),
                    temperature=decode.temperature,
                    avg_logprob=decode.avg_logprob,
                    compression_ratio=decode.compression_ratio,
                    no_speech_prob=decode.no_speech_prob,
                )
            )
        return found

    async def _off_loop(self, function: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        return await asyncio.get_running_loop().run_in_executor(self._cpu, lambda: function(*args, **kwargs))


def _shifted(words: Sequence[Word], span: Span, reach: float) -> list[Word]:
    """Words of a window on the upload's time line; those past ``reach`` belong to the next window."""
    return [
        Word(w.word, round(span.start + w.start, 2), round(min(span.end, span.start + w.end), 2))
        for w in words
        if w.start < reach
    ]


def _speech_in(probabilities: NDArray[np.float32], span: Span) -> bool:
    first, last = int(span.start / VAD_FRAME_S), int(span.end / VAD_FRAME_S) + 1
    return bool((probabilities[first:last] >= GATE).any())
