"""Continuous batching of an encoder-decoder search: sentences join while others decode, and leave when they are done.

What it is: ``Runner``. ``add`` queues a sentence, ``turn`` does one round: those that fit are encoded into free slots,
every sentence under way gets one token more, and what has come to its end is handed out. On a GPU rounds are CUDA
graphs and the host is a round behind the device: it launches the next one before it looks at the last, and copies of
results travel meanwhile, so that neither waits for the other.
What it refuses to be: a thread, a clock or a text processor; token ids in, token ids out.
What it costs: the pool (``indictrans_pool.size``). A sentence that has ended computes one round more for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from appliance.hosts.indictrans_graphs import Graphs
from appliance.hosts.indictrans_pool import Ended, Pool, Room
from appliance.hosts.indictrans_schedule import LENGTHS, MOST_TOKENS, ROWS, TOGETHER, Waiting, at_least
from appliance.hosts.indictrans_step import Decoder

if TYPE_CHECKING:
    from appliance_models.indictrans2.model import IndicTrans

# Groups encoded before the others get their next token: a burst fills the slots soon, and nobody stands still for long.
JOINS = 4


class Sentence:
    """A source with its end, how much may be written, how many hypotheses are wanted. Told apart by identity."""

    __slots__ = ("ids", "most", "slot", "wanted")

    def __init__(self, ids: Sequence[int], most: int, wanted: int = 1) -> None:
        self.ids, self.most, self.wanted = tuple(ids), most, wanted
        self.slot = -1


class Translated(NamedTuple):
    """A sentence and its hypotheses, best first: ids without start and end, and the normalised log-probability."""

    sentence: Sentence
    hypotheses: list[tuple[tuple[int, ...], float]]


class _Copies(NamedTuple):
    """Tensors on their way to the host, and what there is to wait for."""

    tensors: list[Tensor]
    arrived: Any

    def get(self) -> list[Any]:
        """As nested lists, once they are here."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return [tensor.tolist() for tensor in self.tensors]


class Runner:
    """A model, its pool and its queue. All methods are for one thread.

    ``ahead``: rounds of the sizes that graphs have, launched before the last one is looked at; what a GPU needs, and
    what a test without one can ask for.
    """

    def __init__(
        self, model: IndicTrans, room: Room, most_tokens: int = MOST_TOKENS, *, ahead: bool | None = None
    ) -> None:
        head = model.lm_head.weight
        config = model.config
        if room.longest > config.max_target_positions or room.source > config.max_source_positions:
            raise ValueError(f"the model has {config.max_target_positions} positions: ask for no more")
        self.room, self._config = room, config
        self._device = head.device.type
        self._eos = config.eos_token_id
        self._stream = None if self._device == "cpu" else torch.cuda.Stream(head.device)
        self._ahead = self._stream is not None if ahead is None else ahead
        with self._running():
            self._pool = Pool(config, room, str(head.device), head.dtype)
            self._decoder = Decoder(model, self._pool)
            self._graphs = Graphs(str(head.device) if self._stream else "cpu", self._stream)
        self._waiting: Waiting[Sentence] = Waiting(room.source, most_tokens)
        self._free = list(range(room.slots))[::-1]
        # in their slots, and how many tokens each has at least written
        self._under_way: dict[int, Sentence] = {}
        self._steps: dict[int, int] = {}
        self.joined = 0
        self._flags: tuple[list[int], list[Sentence], _Copies] | None = None
        self._results: list[tuple[list[Sentence], _Copies]] = []

    @property
    def waiting(self) -> int:
        """Sentences without a slot."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether ``turn`` has anything to do."""
        return bool(self._waiting or self._under_way or self._flags or self._results)

    @property
    def free(self) -> int:
        """Slots that hold nobody."""
        return len(self._free)

    def check(self, sentence: Sentence) -> None:
        """Raises ValueError for a sentence that no slot has room for."""
        if not 0 < len(sentence.ids) <= self.room.source or not 0 < sentence.most <= self.room.longest:
            raise ValueError(
                f"a slot holds {self.room.source} tokens and writes {self.room.longest}, not {len(sentence.ids)} and"
                f" {sentence.most}"
            )

    def add(self, sentence: Sentence, now: float, patience: float = 0.0) -> None:
        """Queue ``sentence``. Raises what ``check`` raises."""
        self.check(sentence)
        self._waiting.add(sentence, len(sentence.ids), now, patience)

    def drop(self, sentence: Sentence) -> None:
        """Forget ``sentence``, wherever it is; its slot is free at once. Nothing happens where it has left."""
        if not self._waiting.cancel(sentence) and self._under_way.get(sentence.slot) is sentence:
            self._leave(sentence)

    def turn(self) -> list[Translated]:
        """One round; what has come to its end since the last one. ``joined`` is how many were taken in."""
        self.joined = 0
        with self._running():
            for _ in range(JOINS):
                if not self._join():
                    break
            launched = self._step() if self._under_way else None
            if not self._ahead:
                if launched is not None:
                    self._look(*launched)
                return self._take_results()
            # results that were sent for a round ago, then the flags of the round before this one
            arrived = self._take_results()
            before, self._flags = self._flags, launched
            if before is not None:
                self._look(*before)
            return arrived

    def warm(self) -> int:
        """Make every graph there is (on a GPU); how many there are."""
        if self._stream is None:
            return 0
        with self._running():
            for rows in self._sizes(ROWS):
                self._launch_step([self._pool.scratch] * rows, self.room.longest, self.room.source)
            for together in self._sizes(TOGETHER):
                for length in self._lengths():
                    self._launch_join([], length, together)
        return len(self._graphs)

    def _running(self) -> _Modes:
        return _Modes(self._stream)

    def _sizes(self, sizes: tuple[int, ...]) -> list[int]:
        below = [size for size in sizes if size < self.room.slots]
        return [*below, self.room.slots] if sizes is ROWS else [*below, at_least(self.room.slots, sizes, sizes[-1])]

    def _lengths(self) -> list[int]:
        return [*(length for length in LENGTHS if length < self.room.source), self.room.source]

    def _join(self) -> bool:
        """Encode the next group, if there is one and room for it."""
        length, group = self._waiting.take(len(self._free))
        if not group:
            return False
        self.joined += len(group)
        for sentence in group:
            sentence.slot = self._free.pop()
            self._under_way[sentence.slot] = sentence
            self._steps[sentence.slot] = 1
        together = at_least(len(group), TOGETHER, TOGETHER[-1]) if self._ahead else len(group)
        self._launch_join(group, length, together)
        return True

    def _launch_join(self, group: Sequence[Sentence], length: int, together: int) -> None:
        pad, spare = self._config.pad_token_id, together - len(group)
        # a row of nothing but padding would attend to nothing, which is no number
        nobody = [self._eos] + [pad] * (length - 1)
        ids = [list(s.ids) + [pad] * (length - len(s.ids)) for s in group]
        filled: list[Any] = [[nobody] * together, [self._pool.scratch] * together, [1] * together, [0] * together]
        self._graphs(
            ("join", together, length),
            self._decoder.join,
            [
                ids + [nobody] * spare,
                [s.slot for s in group] + [self._pool.scratch] * spare,
                [len(s.ids) for s in group] + [1] * spare,
                [s.most for s in group] + [0] * spare,
            ],
            filled,
        )

    def _step(self) -> tuple[list[int], list[Sentence], _Copies]:
        """Launch a token more for all; which slots and sentences that were, and the flags that say who goes on."""
        slots = list(self._under_way)
        sentences = list(self._under_way.values())
        rows = at_least(len(slots), ROWS, self.room.slots) if self._ahead else len(slots)
        upto, sources = self.room.longest, self.room.source
        if self._stream is None:  # plain torch reads what it is given to the end; the kernel stops by itself
            upto = min(upto, 2 + max(self._steps.values()))
            sources = max(len(sentence.ids) for sentence in sentences)
        flags = self._launch_step(slots + [self._pool.scratch] * (rows - len(slots)), upto, sources)
        for slot in slots:
            self._steps[slot] += 1
        return slots, sentences, self._to_host([flags])

    def _launch_step(self, slots: list[int], upto: int, sources: int) -> Tensor:
        def work(given: Tensor) -> Tensor:
            return self._decoder.step(given, upto, sources)

        return self._graphs(("step", len(slots)), work, [slots], [[self._pool.scratch] * len(slots)])

    def _look(self, slots: list[int], sentences: list[Sentence], flags: _Copies) -> None:
        """Send for the results of those that have ended, and free their slots: what joins later is launched later."""
        done = [
            sentence
            for slot, sentence, goes_on in zip(slots, sentences, flags.get()[0], strict=False)
            if not goes_on and self._under_way.get(slot) is sentence
        ]
        if not done:
            return
        pool = self._pool
        at = torch.tensor([sentence.slot for sentence in done], device=pool.keys.device)
        upto = max(self._steps[sentence.slot] for sentence in done)
        found = [each[at] for each in (pool.ended, pool.end_score, pool.end_length, pool.end_beam, pool.end_token)]
        found += [each[at][:, :, :upto] for each in (pool.tokens, pool.came)]
        self._results.append((done, self._to_host(found)))
        for sentence in done:
            self._leave(sentence)

    def _take_results(self) -> list[Translated]:
        """What was sent for; ahead, that was in the round before, and it has had the time to come."""
        taken, self._results = self._results, []
        return [
            Translated(sentence, Ended(*ended).best(sentence.wanted))
            for sentences, copies in taken
            for sentence, ended in zip(sentences, zip(*copies.get(), strict=True), strict=True)
        ]

    def _leave(self, sentence: Sentence) -> None:
        del self._under_way[sentence.slot], self._steps[sentence.slot]
        self._free.append(sentence.slot)

    def _to_host(self, tensors: list[Tensor]) -> _Copies:
        if self._stream is None:
            return _Copies(tensors, None)
        pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
        for target, source in zip(pinned, tensors, strict=True):
            target.copy_(source, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(self._stream)
        return _Copies(pinned, arrived)


class _Modes:
    """Without gradients, and on the runner's own stream where there is one."""

    def __init__(self, stream: Any) -> None:
        self._modes: list[AbstractContextManager[Any]] = [
            torch.inference_mode(),
            nullcontext() if stream is None else torch.cuda.stream(stream),
        ]

    def __enter__(self) -> None:
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *raised: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*raised)
