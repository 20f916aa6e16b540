"""One upload's way through IndicConformer: hear, cut windows in pauses, decode each, join.

What it is: the composer of the host. Windows of all uploads and languages meet in the batcher; of one upload at most
``in_flight`` wait there at a time. What the voice detector calls silence is not decoded, so it cannot become words.
What it refuses to be: a guesser of languages. The model has no way to tell them; the gateway asks Whisper.
It costs 2 bytes a sample for the upload; features exist only for windows in flight.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.errors import BadRequest
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher
from appliance.hosts.conformer_model import Speech, Window
from appliance.hosts.conformer_text import Decoded
from appliance.hosts.conformer_windows import plan
from appliance.hosts.transcript import Written, heard_in_pieces, in_order, nobody_asked, share_done
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_text import compression_ratio
from appliance.hosts.whisper_windows import FRAMES_PER_S, Span, spans
from appliance.hosts.whisper_wire import Params, Result, Segment, Word
from appliance.languages import UnknownLanguage, language_of, resolve

P = ParamSpec("P")
V = TypeVar("V")
# Between words this far apart one segment ends and the next begins.
_PAUSE_S = 0.8


class ConformerTranscriber:
    """``transcribe`` for any number of uploads at once. ``cpu`` runs features and voice detection."""

    def __init__(
        self,
        speech: Speech,
        batcher: Batcher[Window, Decoded],
        cpu: Executor,
        metrics: Metrics,
        *,
        in_flight: int = 4,
    ) -> None:
        self._speech = speech
        self._batcher = batcher
        self._cpu = cpu
        self._metrics = metrics
        self._in_flight = in_flight

    def language(self, code: str | None) -> str:
        """The vocabulary's name for what the caller gave. Raises BadRequest."""
        if code is None:
            raise BadRequest(
                "this model cannot tell languages apart; give 'language', or ask a model that detects it",
                code="language_required",
                param="language",
            )
        try:
            known = language_of(resolve(code, "language").tag).bcp47
        except UnknownLanguage:
            known = ""
        if known not in self._speech.languages:
            raise BadRequest(
                f"language {code[:40]!r} is not one this model knows; use one of: {', '.join(self._speech.languages)}",
                code="unknown_language",
                param="language",
            )
        return known

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
        duration_s = len(samples) / RATE
        probabilities = await heard_in_pieces(
            lambda piece: self._off_loop(self._speech.hear, piece), samples, on_progress
        )
        windows = plan(spans(probabilities, duration_s), probabilities)
        written = Written(on_text)
        words: list[Word] = []
        hotwords = tuple(params.hotwords)
        patience_s = params.patience_s
        jobs = (partial(self._window, samples, span, language, hotwords, deadline, patience_s) for span in windows)
        async with aclosing(in_order(jobs, self._in_flight)) as results:
            async for span, decoded in results:
                timed = _shifted(decoded.words, span, duration_s)
                written.add(_segments(decoded, timed, span))
                words += timed
                on_progress(share_done(span.end, duration_s))
        self._metrics.audio.inc(duration_s)
        return Result(
            language=language,
            language_probability=1.0,
            duration_s=round(duration_s, 3),
            text=written.text,
            segments=written.segments,
            words=words if params.word_timestamps else None,
        )

    async def _window(
        self,
        samples: NDArray[np.int16],
        span: Span,
        language: str,
        hotwords: tuple[str, ...],
        deadline: float,
        patience_s: float,
    ) -> tuple[Span, Decoded]:
        cut = samples[int(span.start * RATE) : int(span.end * RATE)]
        window = Window(await self._off_loop(self._speech.features, cut), language, hotwords)
        decoded = await self._batcher.submit(window, key=window.key, deadline=deadline, patience_s=patience_s)
        return span, decoded

    async def _off_loop(self, function: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V:
        return await asyncio.get_running_loop().run_in_executor(self._cpu, lambda: function(*args, **kwargs))


def _shifted(words: Sequence[Word], span: Span, duration_s: float) -> list[Word]:
    """Words of a window on the upload's time line."""
    end = min(span.end, duration_s)
    return [
        Word(w.word, round(min(end, span.start + w.start), 2), round(min(end, span.start + w.end), 2), w.confidence)
        for w in words
    ]


def _segments(decoded: Decoded, words: Sequence[Word], span: Span) -> list[Segment]:
    """The window's words, parted at pauses."""
    edges = [n for n in range(1, len(words)) if words[n].start - words[n - 1].end >= _PAUSE_S]
    found = []
    for a, b in zip([0, *edges], [*edges, len(words)], strict=True):
        if a == b:
            continue
        text = " " + " ".join(w.word for w in words[a:b])
        sure = [math.log(max(w.confidence or 0.0, 1e-9)) for w in words[a:b]]
        found.append(
            Segment(
                id=0,  # numbered when the upload's windows are joined
                seek=int(span.start * FRAMES_PER_S),
                start=words[a].start,
                end=words[b - 1].end,
                text=text,
                tokens=[token for tokens in decoded.spelled[a:b] for token in tokens],
                temperature=0.0,
                avg_logprob=round(sum(sure) / len(sure), 4),
                compression_ratio=compression_ratio(text),
                no_speech_prob=0.0,
            )
        )
    return found
