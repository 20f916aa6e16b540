"""One direction of IndicTrans2 on CTranslate2: prepared lines in, lines with their probability out, a batch at a time.

What it is: ``Direction`` over a converted directory, and ``directions_in`` that finds them in a model's directory: the
directory itself, or one a direction below it. The learned transliterator has the same layout and is a direction too.
What it refuses to be: a queue or a text processor.
What it costs: the weights; 0.3 s to load the official vocabularies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

Way = Literal["en-indic", "indic-en", "indic-indic", "latn-indic"]
WAYS: tuple[Way, ...] = ("en-indic", "indic-en", "indic-indic", "latn-indic")
NEEDED = ("model.bin", "model.SRC", "model.TGT", "dict.SRC.json", "dict.TGT.json")
_WAY = re.compile("|".join(("indic-indic", "en-indic", "indic-en", "latn-indic")))
# Pieces of a sentence at most, tags included. The official models have 256 positions; what stands in such a sentence
# was nearly never in training, so longer ones are cut before.
LONGEST_PIECES = 160
# Written pieces at most: translations are rarely three times as long, and a model that repeats itself never ends.
_TIMES, _MORE = 3, 24
MOST_WRITTEN = 256


class Line(Struct, frozen=True):
    """A line for the model, as pieces. ``alternatives`` other hypotheses are wanted beside the best."""

    pieces: tuple[str, ...]
    alternatives: int = 0

    @property
    def most(self) -> int:
        """Pieces that may be written."""
        return _TIMES * len(self.pieces) + _MORE


class Written(Struct, frozen=True):
    """What came of a line, best first, with the mean probability of the best one's pieces."""

    texts: tuple[str, ...]
    probability: float
    read: int
    written: int
    cut: bool


class Translates(Protocol):
    """What a job needs of a direction."""

    way: Way
    model: str

    def pieces(self, line: str) -> tuple[str, ...]:
        """A prepared line's pieces."""
        ...

    def run(self, lines: Sequence[Line]) -> list[Written]:
        """Translate a batch; safe in several threads."""
        ...


class Queue(Protocol):
    """What a host needs of ``Batcher``, or of ``indictrans_torch.Continuous`` in its place."""

    @property
    def alive(self) -> bool: ...
    @property
    def running(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def longest_step_s(self) -> float: ...

    def start(self) -> None:
        """Begin; call once, on the running loop."""
        ...

    async def close(self) -> None:
        """Refuse what waits, and end."""
        ...

    async def submit(
        self, item: Line, *, key: Hashable, cost: float = 1.0, deadline: float = math.inf, patience_s: float = 0.0
    ) -> Written:
        """The translation of ``item``."""
        ...


class Direction:
    """One converted directory. Any number of threads may use it; ``workers`` batches run at once."""

    def __init__(
        self,
        directory: Path,
        way: Way,
        model: str,
        *,
        device: str = "cpu",
        compute_type: str = "int8",
        workers: int = 1,
        threads: int = 1,
        beams: int = 5,
        most_written: int = MOST_WRITTEN,
    ) -> None:
        import ctranslate2

        from appliance_models.indictrans2.tokenizer import Tokenizer

        self.way, self.model = way, model
        self._beams = beams
        self._most_written = most_written
        self._tokenizer = Tokenizer(directory)
        self._translator: Any = ctranslate2.Translator(
            str(directory), device=device, compute_type=compute_type, inter_threads=workers, intra_threads=threads
        )

    def pieces(self, line: str) -> tuple[str, ...]:
        """A prepared line's pieces, the two tags first."""
        return tuple(self._tokenizer.source_pieces(line))

    def run(self, lines: Sequence[Line]) -> list[Written]:
        """Translate a batch; blocks. All lines of one batch ask for the same number of alternatives."""
        wanted = 1 + lines[0].alternatives
        most = min(max(line.most for line in lines), self._most_written)
        results = self._translator.translate_batch(
            [list(line.pieces) for line in lines],
            beam_size=max(self._beams, wanted),
            num_hypotheses=wanted,
            max_decoding_length=most,
            return_scores=True,
            disable_unk=True,
        )
        return [self._written(line, result, most) for line, result in zip(lines, results, strict=True)]

    def _written(self, line: Line, result: Any, most: int) -> Written:
        join = self._tokenizer.target.join
        best = result.hypotheses[0]
        return Written(
            tuple(join(pieces) for pieces in result.hypotheses),
            min(1.0, math.exp(result.scores[0])),
            len(line.pieces),
            len(best),
            len(best) >= most,
        )


def directions_in(name: str, directory: Path) -> dict[Way, Path]:
    """The converted directories of model ``name``. Raises ValueError with one sentence where there is none."""
    if (directory / "model.bin").is_file():
        found = {_way(name): directory}
    else:
        found = {_way(path.parent.name): path.parent for path in sorted(directory.glob("*/model.bin"))}
    for path in found.values():
        absent = [file for file in NEEDED if not (path / file).is_file()]
        if absent:
            raise ValueError(f"{path} has no {', '.join(absent)}; run `appliance models pull {name}`")
    if not found:
        raise ValueError(f"{directory} holds no converted model; run `appliance models pull {name}`")
    return found


def _way(name: str) -> Way:
    match = _WAY.search(name)
    if match is None:
        raise ValueError(f"{name!r} does not say which way it translates; its name has to contain {', '.join(WAYS)}")
    return next(way for way in WAYS if way == match[0])
