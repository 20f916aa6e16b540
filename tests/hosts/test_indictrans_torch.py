"""The queue in front of the runner, as the host uses it: answers, deadlines, callers who leave, stopping, failing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from appliance.errors import DeadlineExceeded, EngineUnavailable
from appliance.hosts import translate_serve
from appliance.hosts.indictrans_torch import Continuous, TorchDirection
from appliance.hosts.translate_job import Job
from appliance.hosts.translate_model import Direction, Line
from appliance.hosts.translate_wire import Ask, Item
from appliance_models.indictrans2.processor import prepare

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/appliance_models/embedded/indictrans2-embedded/en-indic"
TEXTS = ["Open the file.", "Print 3 pages", "Row height", "Insert a new sheet before the current one", "Cancel"]


@pytest.fixture(scope="module")
def loaded() -> TorchDirection:
    torch.set_num_threads(1)
    return TorchDirection(MODEL, "en-indic", "small", slots=4, most_written=64)


@pytest.fixture
def direction(loaded: TorchDirection) -> TorchDirection:
    while loaded.runner.busy:  # what a test before this one left behind
        loaded.runner.turn()
    return loaded


def line(direction: Any, text: str, tag: str = "hin_Deva", alternatives: int = 0) -> Line:
    return Line(direction.pieces(prepare(text, "eng_Latn", tag).lines[0]), alternatives)


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.joined: list[int] = []
        self.drops: list[str] = []

    def queued(self, depth: int) -> None:
        assert depth >= 0

    def dispatched(self, key: object, size: int) -> None:
        self.joined.append(size)

    def dropped(self, why: str) -> None:
        self.drops.append(why)


@asynccontextmanager
async def running(direction: TorchDirection, heard: Heard | None = None) -> AsyncIterator[Continuous]:
    queue = Continuous(direction, observer=heard)
    queue.start()
    try:
        yield queue
    finally:
        await queue.close()


def gated(direction: TorchDirection, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A runner whose rounds wait until the event is set."""
    gate = threading.Event()
    turn = direction.runner.turn

    def held() -> Any:
        assert gate.wait(60)
        return turn()

    monkeypatch.setattr(direction.runner, "turn", held)
    return gate


async def test_lines_of_all_lengths_get_their_own_translations(direction: TorchDirection) -> None:
    lines = [line(direction, text, tag, n % 3) for n, text in enumerate(TEXTS) for tag in ("hin_Deva", "tam_Taml")]
    alone = [direction.run([each])[0] for each in lines]
    heard = Heard()
    async with running(direction, heard) as queue:
        found = await asyncio.gather(*(queue.submit(each, key=None) for each in lines))
        assert queue.running == 0 and queue.steps > 0 and queue.alive
    assert [each.texts for each in found] == [each.texts for each in alone]
    assert [len(each.texts) for each in found] == [1 + each.alternatives for each in lines]
    assert sum(heard.joined) == len(lines) and not heard.drops
    for each, of in zip(found, lines, strict=True):
        assert each.read == len(of.pieces) and 0 < each.probability <= 1 and not each.cut


def test_it_says_what_ctranslate2_says(direction: TorchDirection) -> None:
    """Of the same file; CTranslate2 computes in int8, so not every word has to agree."""
    theirs = Direction(MODEL, "en-indic", "small", compute_type="float32", most_written=64)
    lines = [line(direction, text, tag) for text in TEXTS for tag in ("hin_Deva", "tam_Taml", "ben_Beng")]
    ours, wanted = direction.run(lines), theirs.run(lines)
    assert sum(a.texts == b.texts for a, b in zip(ours, wanted, strict=True)) >= len(lines) - 1
    for a, b in zip(ours, wanted, strict=True):
        assert a.read == b.read and a.cut == b.cut
        if a.texts == b.texts:
            assert a.probability == pytest.approx(b.probability, abs=0.02) and a.written == b.written


async def test_a_caller_who_leaves_frees_the_slot(direction: TorchDirection, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, heard = gated(direction, monkeypatch), Heard()
    async with running(direction, heard) as queue:
        tasks = [asyncio.ensure_future(queue.submit(line(direction, text), key=None)) for text in TEXTS]
        await asyncio.sleep(0)
        assert queue.running == len(TEXTS)
        tasks[0].cancel()
        tasks[4].cancel()
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False, False, False, True]
        await queue.submit(line(direction, "Save"), key=None)
        assert queue.running == 0
    assert heard.drops == ["cancelled", "cancelled"]
    assert not direction.runner.busy and direction.runner.free == 4


async def test_a_deadline_that_has_passed_is_said(direction: TorchDirection, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, heard = gated(direction, monkeypatch), Heard()
    async with running(direction, heard) as queue:
        with pytest.raises(DeadlineExceeded):
            await queue.submit(line(direction, TEXTS[0]), key=None, deadline=0.0)
        gate.set()
        later = queue._clock() + 600
        assert (await queue.submit(line(direction, TEXTS[1]), key=None, deadline=later)).texts[0]
    assert heard.drops == ["deadline"]


async def test_stopping_refuses_what_is_not_answered(
    direction: TorchDirection, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, heard = gated(direction, monkeypatch), Heard()
    async with running(direction, heard) as queue:
        task = asyncio.ensure_future(queue.submit(line(direction, TEXTS[0]), key=None))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(queue.close())
        with pytest.raises(EngineUnavailable):
            await task
        gate.set()
        await closing
        with pytest.raises(EngineUnavailable):
            await queue.submit(line(direction, TEXTS[1]), key=None)
    assert heard.drops == ["closed"] and not queue.alive


async def test_a_device_that_fails_takes_health_along(
    direction: TorchDirection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(direction.runner, "turn", lost)
    async with running(direction) as queue:
        found = await asyncio.gather(
            *(queue.submit(line(direction, text), key=None) for text in TEXTS[:2]), return_exceptions=True
        )
        assert all(isinstance(each, RuntimeError) for each in found)
        queue._thread.join(60)
        assert not queue.alive
        with pytest.raises(EngineUnavailable):
            await queue.submit(line(direction, TEXTS[0]), key=None)


async def test_a_line_that_no_slot_holds_harms_nobody_else(direction: TorchDirection) -> None:
    async with running(direction) as queue:
        with pytest.raises(ValueError, match="a slot holds"):
            await queue.submit(Line(("x",) * 161), key=None)
        assert queue.running == 0
        assert (await queue.submit(line(direction, TEXTS[2]), key=None)).texts[0]


def test_types_that_torch_has_not_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="leave --compute-type int8 out"):
        TorchDirection(MODEL, "en-indic", "small", compute_type="int8")


async def test_the_host_loads_it_where_it_is_named(tmp_path: Path) -> None:
    """Two models in one host, one on each: a direction comes from whichever was named first."""
    both = [f"{name}={path}" for name, path in (("en-indic-a", MODEL), ("indic-en-b", MODEL.parent / "indic-en"))]
    argv = ["--socket", str(tmp_path / "s"), "--model", both[0], "--model", both[1], "--torch", "en-indic-a"]
    args = translate_serve.parser().parse_args([*argv, "--device", "cpu", "--threads", "1", "--max-batch", "2"])
    have, how, models = translate_serve.load(args)
    assert isinstance(have["en-indic"], TorchDirection) and isinstance(have["indic-en"], Direction)
    assert have["en-indic"].runner.room.slots == 2
    host = translate_serve.build(have, how, models=models, max_wait_s=0.0)
    assert isinstance(host.job, Job) and host.work.running == 0
    for batcher in host.batchers.values():
        batcher.start()
    try:
        ask = Ask(items=[Item("फ़ाइल खोलें", "hin_Deva")], target="tam_Taml")
        result = await host.translate(ask, lambda _: None)
    finally:
        for batcher in host.batchers.values():
            await batcher.close()
    assert result.translations[0].via == ["indic-en-b", "en-indic-a"] and result.usage.sentences == 2
    assert 'appliance_translate_batch_size_sum{direction="en-indic"} 1.0' in host.metrics.text().decode()
