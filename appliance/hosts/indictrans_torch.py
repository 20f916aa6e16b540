"""IndicTrans2 on PyTorch as the translation host sees it: a direction, and a queue that never has to fill a batch.

What it is: ``TorchDirection`` over the same converted directory that CTranslate2 reads, and ``Continuous``, which
stands where ``Batcher`` stands and keeps one thread turning ``Runner``. The catalogue chooses it by
``engine = "torch-cuda"``; docs/translation.md says when that is worth it.
What it refuses to be: the default before a GPU has been seen to gain by it, or a place for int8: it computes in float16
(float32 on a CPU, where it is for tests).
What it costs: the weights in that type, and a pool of 0.05 to 0.1 GB for each sentence at once.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.errors import DeadlineExceeded, EngineUnavailable
from appliance.hosts.batcher import NoObserver, Observer
from appliance.hosts.indictrans_pool import Room
from appliance.hosts.indictrans_runner import Runner, Sentence
from appliance.hosts.indictrans_schedule import MOST_TOKENS
from appliance.hosts.translate_model import LONGEST_PIECES, MOST_WRITTEN, Line, Way, Written

TYPES = ("float16", "bfloat16", "float32")


class TorchDirection:
    """One converted directory on PyTorch. The runner is for one thread: ``Continuous``'s, once that has started."""

    def __init__(
        self,
        directory: Path,
        way: Way,
        model: str,
        *,
        device: str = "cpu",
        compute_type: str = "float32",
        slots: int = 32,
        beams: int = 5,
        most_written: int = MOST_WRITTEN,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        import torch

        from appliance_models.indictrans2 import dequantize
        from appliance_models.indictrans2.tokenizer import Tokenizer

        if compute_type not in TYPES:
            raise ValueError(f"PyTorch computes in {', '.join(TYPES)} here; leave --compute-type {compute_type} out")
        self.way, self.model = way, model
        self._tokenizer = Tokenizer(directory)
        module = dequantize.load(directory).to(device=device, dtype=getattr(torch, compute_type))
        longest = min(most_written, module.config.max_target_positions)
        source = min(LONGEST_PIECES + 1, module.config.max_source_positions)
        self.runner = Runner(module, Room(slots, beams, longest, source), most_tokens)
        self.runner.warm()

    def pieces(self, line: str) -> tuple[str, ...]:
        """A prepared line's pieces, the two tags first."""
        return tuple(self._tokenizer.source_pieces(line))

    def sentence(self, line: Line) -> Sentence:
        """What the runner takes. Of more alternatives than there are beams it finds as many as there are."""
        ids = self._tokenizer.source.to_ids([*line.pieces, "</s>"])
        return Sentence(ids, min(line.most, self.runner.room.longest), 1 + line.alternatives)

    def written(self, line: Line, hypotheses: Sequence[tuple[tuple[int, ...], float]]) -> Written:
        """What the host takes."""
        ids, score = hypotheses[0]
        texts = tuple(self._tokenizer.target.text(each) for each, _ in hypotheses)
        most = min(line.most, self.runner.room.longest)
        return Written(texts, min(1.0, math.exp(score)), len(line.pieces), len(ids), len(ids) >= most)

    def queue(self, observer: Observer) -> Continuous:
        """The queue in front of it; from its start on the runner is that one's."""
        return Continuous(self, observer=observer, name=self.way)

    def run(self, lines: Sequence[Line]) -> list[Written]:
        """Translate ``lines`` and nothing else, in this thread: before ``Continuous`` has started."""
        sentences = [self.sentence(line) for line in lines]
        for sentence in sentences:
            self.runner.add(sentence, 0.0)
        found: dict[Sentence, Any] = {}
        while self.runner.busy:
            found |= {each.sentence: each.hypotheses for each in self.runner.turn()}
        return [self.written(line, found[sentence]) for line, sentence in zip(lines, sentences, strict=True)]


@dataclass(eq=False)
class _Entry:
    """A line, and who waits for it."""

    line: Line
    sentence: Sentence
    patience_s: float
    future: asyncio.Future[Written]
    dropped: bool = field(default=False)


class Continuous:
    """``await submit(line)`` on the loop, behind it one thread that turns the runner; used like ``Batcher``."""

    def __init__(
        self,
        direction: TorchDirection,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        name: str = "torch",
    ) -> None:
        self._direction, self._clock = direction, clock
        self._observer: Observer = observer or NoObserver()
        self._inbox: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._entries: dict[Sentence, _Entry] = {}  # the thread's own
        self._unanswered: set[_Entry] = set()  # the loop's own
        self._thread = threading.Thread(target=self._turn_on, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self.steps = 0
        self.longest_step_s = 0.0

    @property
    def running(self) -> int:
        """Lines unanswered."""
        return len(self._unanswered)

    @property
    def depth(self) -> int:
        """Lines that have no slot yet."""
        return self._direction.runner.waiting + self._inbox.qsize()

    @property
    def alive(self) -> bool:
        """True between ``start`` and ``close`` while the thread runs."""
        return self._thread.is_alive() and not self._closing

    def start(self) -> None:
        """Begin; call once, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def submit(
        self,
        item: Line,
        *,
        key: Hashable = None,
        cost: float = 1.0,
        deadline: float = math.inf,
        patience_s: float = 0.0,
    ) -> Written:
        """The translation of ``item``. ``deadline`` is a point on the clock; ``key`` and ``cost`` are of no account.

        Raises DeadlineExceeded once it has passed, EngineUnavailable when this is closing or its thread has failed.
        Cancelling the awaiting task frees the line's slot.
        """
        if not self.alive:
            raise _stopping()
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        entry = _Entry(item, self._direction.sentence(item), patience_s, future)
        self._direction.runner.check(entry.sentence)
        self._unanswered.add(entry)
        self._inbox.put(entry)
        self._observer.queued(self.depth)
        left_s = None if deadline == math.inf else max(0.0, deadline - self._clock())
        try:
            async with asyncio.timeout(left_s):
                return await future
        except TimeoutError:
            self._drop(entry, "deadline")
            raise DeadlineExceeded(
                "the request's deadline passed before its work was done; send less or wait longer"
            ) from None
        except asyncio.CancelledError:
            self._drop(entry, "cancelled")
            raise
        finally:
            self._unanswered.discard(entry)

    async def close(self) -> None:
        """Refuse what has not been answered, and wait for the thread. May be called twice."""
        self._closing = True
        for entry in list(self._unanswered):
            if not entry.future.done():
                self._observer.dropped("closed")
                entry.future.set_exception(_stopping())
        self._inbox.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _drop(self, entry: _Entry, why: str) -> None:
        self._observer.dropped(why)
        entry.dropped = True
        self._inbox.put(entry)

    # in the thread

    def _turn_on(self) -> None:
        runner = self._direction.runner
        try:
            while True:
                if not self._read_inbox(wait=not runner.busy):
                    return
                if not runner.busy:
                    continue
                began = self._clock()
                done = [(self._entries.pop(each.sentence), each.hypotheses) for each in runner.turn()]
                self.longest_step_s = max(self.longest_step_s, self._clock() - began)
                self.steps += 1
                if done or runner.joined:
                    answers = [(entry, self._direction.written(entry.line, found)) for entry, found in done]
                    self._on_loop(self._answer, answers, runner.joined)
        except Exception as e:  # the device may be lost: nothing that is under way can be trusted, and health says so
            self._on_loop(self._fail, e)

    def _read_inbox(self, wait: bool) -> bool:
        """Take what has come; False when it is time to stop."""
        while True:
            try:
                entry = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            if entry is None:
                return False
            if not entry.dropped:
                self._entries[entry.sentence] = entry
                self._direction.runner.add(entry.sentence, self._clock(), entry.patience_s)
            elif self._entries.pop(entry.sentence, None) is not None:
                self._direction.runner.drop(entry.sentence)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            pass  # the loop has ended, and with it everybody who waited

    # back on the loop

    def _answer(self, answers: list[tuple[_Entry, Written]], joined: int) -> None:
        if joined:
            self._observer.dispatched(None, joined)
        self._observer.queued(self.depth)
        for entry, written in answers:
            if not entry.future.done():
                entry.future.set_result(written)

    def _fail(self, why: Exception) -> None:
        for entry in self._unanswered:
            if not entry.future.done():
                entry.future.set_exception(why)


def load(directory: Path, way: Way, model: str, args: argparse.Namespace) -> TorchDirection:
    """A direction as the host's command line says. Raises ValueError, RuntimeError or OSError."""
    import torch

    cuda = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    if not cuda:
        torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    try:
        return TorchDirection(
            directory,
            way,
            model,
            device="cuda" if cuda else "cpu",
            compute_type=args.compute_type or ("float16" if cuda else "float32"),
            slots=args.max_batch or (64 if cuda else 8),
            beams=args.beams,
            most_written=args.most_written,
            most_tokens=args.max_tokens or MOST_TOKENS,
        )
    except ImportError as e:
        raise ValueError(f"PyTorch cannot run it here ({e}); leave --torch {model} out") from None


def _stopping() -> EngineUnavailable:
    return EngineUnavailable("the engine is stopping; try again when it is back")
