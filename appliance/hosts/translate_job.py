"""What happens to an ask: the way from language to language, sentence after sentence, and the text that comes of it.

What it is: ``steps`` (which models and rules lead from a source to a target) and ``Job``, which sends every sentence
through them and keeps the rest of the text as it is. Sentences of one ask run beside each other, so that batches fill;
at most ``IN_FLIGHT`` at once, so that a megabyte of text costs no more memory than a page.
What it refuses to be: silent. A sentence that was cut short, came back as it was or lost what it had to keep is named.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec
from msgspec import Struct

from appliance.errors import BadRequest, NotBuilt
from appliance.hosts import translate_html
from appliance.hosts.translate_model import LONGEST_PIECES, Line, Queue, Translates, Way, Written
from appliance.hosts.translate_pieces import MARKDOWN_SPANS, Piece, halves, pieces
from appliance.hosts.translate_wire import Ask, Delta, Issue, Item, Mode, Result, Translation, Usage
from appliance.languages import LANGUAGES
from appliance.transliterate import transliterate

IN_FLIGHT = 64
# A bulk sentence waits as if it had come so much later: what people wait for goes first, and bulk still goes.
BULK_LATER_S = 2.0
RULES = "transliteration-rules"
_STAND_IN = re.compile(r"<x(\d+)/>")
ENGLISH = "eng_Latn"
_INSTALL: Mapping[Way, str] = {
    "en-indic": "indictrans2-en-indic-dist-200m",
    "indic-en": "indictrans2-indic-en-dist-200m",
    "indic-indic": "indictrans2-indic-indic-dist-320m",
    "latn-indic": "indictrans2-embedded",
}


class NotInstalled(NotBuilt):
    """501: a direction that no model here has."""

    code = "not_installed"


class Step(Struct, frozen=True):
    """From ``source`` to ``target`` by one model; ``way`` None is rules between the scripts of one language."""

    way: Way | None
    source: str
    target: str


Have = Mapping[Way, Translates]
Queues = Mapping[Way, Queue]


def steps(source: str, target: str, have: Have) -> list[Step]:
    """The way; empty where there is none to go. ``hin_Latn`` is romanised Hindi. Raises BadRequest, NotInstalled."""
    if source == target:
        return []
    found: list[Step] = []
    if source[4:] == "Latn" and source != ENGLISH:
        native = target if target[:3] == source[:3] else _native(source)
        found.append(Step("latn-indic", source, native))
        source = native
    if source == target:
        pass
    elif source[:3] == target[:3]:
        found.append(Step(None, source, target))
    elif source == ENGLISH:
        found.append(Step("en-indic", source, target))
    elif target == ENGLISH:
        found.append(Step("indic-en", source, target))
    elif "indic-indic" in have:
        found.append(Step("indic-indic", source, target))
    else:
        found += [Step("indic-en", source, ENGLISH), Step("en-indic", ENGLISH, target)]
    for step in found:
        if step.way is not None and step.way not in have:
            raise NotInstalled(
                f"no model that translates {step.source} to {step.target} is served here; install one"
                f" (`appliance models pull {_INSTALL[step.way]}`) and name it in [engines.translate]",
                param="target",
            )
    return found


def _native(tag: str) -> str:
    """The tag of a romanised language's own script."""
    for language in LANGUAGES:
        if language.tags[0][:3] == tag[:3]:
            return language.tags[0]
    raise BadRequest(f"{tag} is no language that is translated here", param="source")


class _Sum:
    """What one ask has cost so far."""

    def __init__(self) -> None:
        self.sentences = self.read = self.written = 0
        self.logs: list[tuple[float, int]] = []

    def add(self, line: Written) -> None:
        self.sentences += 1
        self.read += line.read
        self.written += line.written


class _Said(Struct, frozen=True):
    """A piece's translation."""

    text: str
    others: tuple[str, ...] = ()
    probability: float | None = None
    weight: int = 0
    lost: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()


class Job:
    """The models of a host and their queues; one for all asks."""

    def __init__(self, have: Have, queues: Queues, clock: Callable[[], float]) -> None:
        self.have = have
        self._queues = queues
        self._clock = clock

    async def run(self, ask: Ask, send: Callable[[Delta], None]) -> Result:
        """Translate everything. Raises ApplianceError."""
        deadline = self._clock() + ask.deadline_s
        ways = [[] if item.source is None else steps(item.source, ask.target, self.have) for item in ask.items]
        total = sum(len(item.text) for item in ask.items) or 1
        done, sums = 0, _Sum()
        translations = []
        for index, (item, way) in enumerate(zip(ask.items, ways, strict=True)):

            def heard(piece: Piece, text: str, index: int = index) -> None:
                nonlocal done
                done += len(piece.text)
                if ask.stream and text:
                    send(Delta(index, text, round(done / total, 4)))

            translations.append(await self._item(item, way, ask, deadline, sums, heard))
        usage = Usage(sum(len(item.text) for item in ask.items), sums.sentences, sums.read, sums.written)
        return Result(translations, usage)

    async def _item(
        self,
        item: Item,
        way: Sequence[Step],
        ask: Ask,
        deadline: float,
        sums: _Sum,
        heard: Callable[[Piece, str], None],
    ) -> Translation:
        if not way:
            heard(Piece(item.text, False), item.text)
            return Translation("" if ask.stream else item.text, item.source, None, [])
        parts: list[str] = []
        lost: list[str] = []
        issues: set[Issue] = set()
        weighted, weight = 0.0, 0
        single: _Said | None = None
        count = 0
        async for piece, said in self._pieces(item.text, way, ask, deadline, sums):
            heard(piece, said.text)
            if not ask.stream:
                parts.append(said.text)
            if piece.translate and piece.text.strip():
                count, single = count + 1, said
            lost += said.lost
            issues |= set(said.issues)
            if said.probability is not None:
                weighted, weight = weighted + said.probability * said.weight, weight + said.weight
        if lost:
            issues.add("entities_lost")
        others = list(single.others) if single is not None and count == 1 else []
        confidence = round(weighted / weight, 4) if weight else None
        via = [RULES if step.way is None else self.have[step.way].model for step in way]
        return Translation("".join(parts), item.source, confidence, via, others, sorted(issues), lost)

    async def _pieces(
        self, text: str, way: Sequence[Step], ask: Ask, deadline: float, sums: _Sum
    ) -> AsyncIterator[tuple[Piece, _Said]]:
        """Pieces in order with what became of them, ``IN_FLIGHT`` running."""
        running: deque[tuple[Piece, asyncio.Task[_Said]]] = deque()
        todo: Iterator[Piece] = pieces(text, ask.mode)
        try:
            while True:
                for piece in islice(todo, IN_FLIGHT - len(running)):
                    running.append((piece, asyncio.ensure_future(self._piece(piece, way, ask, deadline, sums))))
                if not running:
                    return
                piece, task = running[0]
                said = await task
                running.popleft()
                yield piece, said
        finally:
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    async def _piece(self, piece: Piece, way: Sequence[Step], ask: Ask, deadline: float, sums: _Sum) -> _Said:
        if not piece.translate or not piece.text.strip():
            return _Said(piece.text)
        kept: list[str] = []
        text = piece.text
        if ask.mode == "markdown":  # inline code, marks and link targets stand as tags, which the processor protects

            def stand_in(match: re.Match[str]) -> str:
                kept.append(match[0])
                return f"<x{len(kept)}/>"

            text = MARKDOWN_SPANS.sub(stand_in, text)
        said = await self._through(text, way, ask, deadline, sums)
        if said.lost:
            return await self._around(piece.text, way, ask, deadline, sums)
        restored = _STAND_IN.sub(lambda match: kept[int(match[1]) - 1], said.text) if kept else said.text
        return msgspec.structs.replace(said, text=restored)

    async def _around(self, text: str, way: Sequence[Step], ask: Ask, deadline: float, sums: _Sum) -> _Said:
        """What stands between entities, each by itself: a worse sentence, but every entity in its place."""
        out: list[_Said] = []
        start = 0
        for begin, end in [*_kept(text, ask.mode), (len(text), len(text))]:
            if between := text[start:begin]:
                worth = any(c.isalpha() for c in between)
                out.append(await self._through(between, way, ask, deadline, sums) if worth else _Said(between))
            out.append(_Said(text[begin:end]))
            start = end
        return _joined(out)

    async def _through(self, text: str, way: Sequence[Step], ask: Ask, deadline: float, sums: _Sum) -> _Said:
        """One sentence through all steps."""
        said = _Said(text)
        for n, step in enumerate(way):
            last = n == len(way) - 1
            if step.way is None:
                digits = {"native": "native", "ascii": "ascii"}.get(ask.digits, "keep")
                changed = transliterate(said.text, step.source, step.source[4:], step.target[4:], digits=digits)  # type: ignore[arg-type]
                said = msgspec.structs.replace(said, text=changed, others=())
                continue
            before = said
            said = await self._step(before.text, step, ask, deadline, sums, ask.alternatives if last else 0)
            product = said.probability if before.probability is None else before.probability * (said.probability or 1.0)
            said = msgspec.structs.replace(
                said, probability=product, lost=before.lost + said.lost, issues=before.issues + said.issues
            )
        if ask.mode == "html":
            said = msgspec.structs.replace(said, text=translate_html.safe(said.text))
        return said

    async def _step(self, text: str, step: Step, ask: Ask, deadline: float, sums: _Sum, others: int) -> _Said:
        from appliance_models.indictrans2 import processor

        assert step.way is not None
        model = self.have[step.way]
        # the transliterator reads Latin letters as IndicTrans2 reads English
        source = ENGLISH if step.way == "latn-indic" else step.source
        prepared = processor.prepare(text, source, step.target)
        lines = [model.pieces(line) for line in prepared.lines]
        if any(len(line) > LONGEST_PIECES for line in lines):
            cut = halves(text, _spans(text))
            if cut is not None:
                left, right = await asyncio.gather(
                    *(self._step(half, step, ask, deadline, sums, 0) if half.strip() else _same(half) for half in cut)
                )
                return _joined([left, right])
            return _Said(text, issues=("untranslated",))
        if not lines:
            return _Said(processor.finish(prepared, [], ask.digits).text)
        written = await asyncio.gather(
            *(self._line(step.way, Line(line, others), ask.bulk, deadline) for line in lines)
        )
        for one in written:
            sums.add(one)
        done = processor.finish(prepared, [one.texts[0] for one in written], ask.digits)
        alternatives = tuple(
            processor.finish(prepared, [one.texts[min(k, len(one.texts) - 1)] for one in written], ask.digits).text
            for k in range(1, 1 + others)
        )
        weight = sum(one.written for one in written) or 1
        probability = sum(one.probability * max(one.written, 1) for one in written) / weight
        issues: tuple[Issue, ...] = ("truncated",) if any(one.cut for one in written) else ()
        return _Said(done.text, alternatives, min(probability, 1.0), weight, done.lost, issues)

    async def _line(self, way: Way, line: Line, bulk: bool, deadline: float) -> Written:
        # lengths of about the same size share a batch: padding is computed and thrown away
        size = len(line.pieces).bit_length()
        return await self._queues[way].submit(
            line,
            key=(size, line.alternatives),
            cost=len(line.pieces),
            deadline=deadline,
            patience_s=BULK_LATER_S if bulk else 0.0,
        )


async def _same(text: str) -> _Said:
    return _Said(text)


def _joined(parts: Sequence[_Said]) -> _Said:
    weight = sum(part.weight for part in parts)
    known = [part for part in parts if part.probability is not None]
    return _Said(
        "".join(part.text for part in parts),
        (),
        sum((part.probability or 0.0) * part.weight for part in known) / weight if weight else None,
        weight,
        tuple(lost for part in parts for lost in part.lost),
        tuple(issue for part in parts for issue in part.issues),
    )


def _kept(text: str, mode: Mode) -> Iterator[tuple[int, int]]:
    """What must come through, in order; what overlaps is one."""
    spans = list(_spans(text))
    if mode == "markdown":
        spans = sorted([*spans, *(match.span() for match in MARKDOWN_SPANS.finditer(text))])
    at = 0
    for begin, end in spans:
        if begin >= at:
            yield begin, end
            at = end


def _spans(text: str) -> Iterator[tuple[int, int]]:
    from appliance_models.indictrans2 import entities

    return ((start, end) for start, end, _ in entities.spans(text))
