"""Dividing a machine between engines under mixed traffic: on engines that are not there, whose times are known."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from appliance_bench import division, drive, fingerprint, knobs, profiles, records, rig, shared, split, tune
from appliance_bench.records import RecordError
from appliance_bench.sample import Sample
from appliance_bench.search import SHIPPED, Config, config
from appliance_bench.slo import Took


class Process:
    """Lives."""

    def poll(self) -> int | None:
        return None


class Stub(rig.Engine):
    """An engine that is only a name; ``stopped`` holds the names of those that were stopped."""

    stopped: ClassVar[list[tuple[str, Config]]] = []

    def __init__(self, task: str, model: str, which: Config, models: Path) -> None:
        super().__init__(models, task, Process(), task)  # type: ignore[arg-type]
        self.which, self.warm = which, True

    def stop(self) -> None:
        self.stopped.append((self.task, self.which))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Stub, "stopped", [])
    monkeypatch.setattr(rig, "start", lambda *_: pytest.fail("an engine was started"))
    return tmp_path / "home"


@pytest.fixture
def parts(own_home: Path) -> list[division.Part]:
    return division.parts_of("mixed", own_home / "none.toml", cores=4, gpu=False)


def test_the_mix_comes_from_a_suite_and_its_shares_are_one(parts: list[division.Part]) -> None:
    assert sorted(part.task for part in parts) == ["chat", "transcribe", "translate"]
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert all(part.base == knobs.knobs(part.task, 4, False).shipped for part in parts)


@pytest.mark.parametrize(
    ("suite", "said"),
    [("chat", "has no cell with a mix of two engines; --workload mixed"), ("mixd", "did you mean mixed?")],
)
def test_a_suite_that_is_no_mix_is_refused(suite: str, said: str, own_home: Path) -> None:
    with pytest.raises(RecordError, match=said):
        division.parts_of(suite, own_home / "none.toml", 2, False)


def test_what_is_of_one_engine_is_refused() -> None:
    with pytest.raises(RecordError, match="--model and --slo are of one engine"):
        tune.main(["--engine", "split", "--slo", "e2e_p95_ms=5"])


def test_cores_are_divided_as_threads_and_workers(parts: list[division.Part]) -> None:
    its = division.divisions(parts, 4, 0, mps=False)
    assert its.space == {
        "chat.threads": (1, 2, 3, 4), "translate.workers": (1, 2, 4), "transcribe.workers": (1, 2, 4)
    }  # fmt: skip
    assert dict(its.shipped) == {"chat.threads": 3, "translate.workers": 4, "transcribe.workers": 4}
    assert its.shipped not in its.hints and len(set(its.hints)) == len(its.hints) == 3
    chat = next(part for part in parts if part.task == "chat")
    which = dict(its.hints[0])
    assert dict(division.engine_config(its.hints[0], chat)) == {**dict(chat.base), "threads": which["chat.threads"]}


@pytest.mark.parametrize("mps", [True, False])
def test_a_gpu_is_divided_by_memory_and_with_mps_by_multiprocessors(parts: list[division.Part], mps: bool) -> None:
    its = division.divisions(parts, 16, 143_771, mps)
    assert its.space["chat.kv_cache_bytes"][:2] == (0, 43_131 << 20)
    assert ("transcribe.gpu_percent" in its.space) is mps
    assert set(dict(its.shipped).values()) == {0}
    assert all(set(dict(hint)) == set(its.space) for hint in its.hints) and its.hints
    chat = next(part for part in parts if part.task == "chat")
    own = division.engine_config(its.hints[-1], chat)
    assert knobs.settings(own)["kv_cache_bytes"] == its.space["chat.kv_cache_bytes"][2]
    assert not any("kv" in argument for argument in knobs.arguments(own))


def test_engines_that_a_division_shares_stay_up_and_no_more_than_so_many(parts: list[division.Part]) -> None:
    two = {"translate.workers": 1, "transcribe.workers": 1}
    a, b, c = (config(**{"chat.threads": n, **two}) for n in (1, 2, 3))
    with shared.Shared(parts, keep=2, start=Stub) as engines:
        first = engines._up(a)
        again = engines._up(b)
        assert again["translate"] is first["translate"] and again["chat"] is not first["chat"]
        assert Stub.stopped == []
        engines._up(a)
        engines._up(c)  # the one of b was used longest ago
        assert [dict(which)["threads"] for task, which in Stub.stopped] == [2]
        assert engines._up(a)["chat"] is first["chat"]
    Stub.stopped.clear()
    with shared.Shared(parts, keep=1, start=Stub) as engines:
        engines._up(a)
        engines._up(b)
        assert [(task, dict(which)["threads"]) for task, which in Stub.stopped if task == "chat"] == [("chat", 1)]
        assert len(engines._engines) == 3
    assert len(Stub.stopped) == 4


def sample(task: str, parts: Sequence[division.Part], good: bool) -> Sample:
    part = next(part for part in parts if part.task == task)
    over = {t.name: 0 if good else 5 for t in part.workload.targets}
    return Sample(1.0, 20, 0, 20 if good else 15, over, {t.name: 9.0 for t in part.workload.targets}, 20.0, 21.0)


def test_all_have_to_meet_their_own_targets(parts: list[division.Part]) -> None:
    good = {part.task: sample(part.task, parts, True) for part in parts}
    whole = shared.together(3.0, good, parts, 21.0)
    assert whole.meets(()) and whole.requests == 60 and whole.goodput_per_s == 3.0
    assert whole.figures["translate.e2e_p95_ms"] == 9.0
    bad = shared.together(3.0, {**good, "transcribe": sample("transcribe", parts, False)}, parts, 21.0)
    assert not bad.meets(()) and bad.saturated


def test_the_budget_is_checked_first() -> None:
    with pytest.raises(RecordError, match=r"too few: .* two divisions and 3 rounds take about 36 min; write --budget"):
        split.plan(600.0, 60.0, 40.0, 0, keeps=True)
    planned, said = split.plan(3600.0, 45.0, 40.0, 0, keeps=True)
    assert planned.configurations == 8 and planned.finalists == 1 and "45 s" in said[0]


class Machine:
    """Four cores: the mix is served the faster the nearer chat has two threads and the others one worker each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = random.Random(1)

        async def offer(
            _: shared.Shared, asked: Sequence[tuple[division.Part, Stub]], rate: float, seconds: float, held_out: bool
        ) -> list[tuple[list[drive.Job], drive.Load]]:
            return [self.load(part, rate, seconds, len(asked)) for part, _ in asked]

        monkeypatch.setattr(shared.Shared, "_offer", offer)
        monkeypatch.setattr(shared.Shared, "speed", lambda shared, which: (8.0, 1.0))
        monkeypatch.setattr(shared.Shared, "_up", lambda shared, which: self.up(shared, which))

    def up(self, engines: shared.Shared, which: Config) -> dict[str, Any]:
        self.which = dict(which)
        return {part.task: Stub(part.task, part.model, which, Path()) for part in engines.parts}

    def load(
        self, part: division.Part, rate: float, seconds: float, together: int
    ) -> tuple[list[drive.Job], drive.Load]:
        away = abs(int(self.which["chat.threads"]) - 2) + sum(
            int(self.which[f"{task}.workers"]) - 1 for task in ("translate", "transcribe")
        )
        most = 12.0 / (1 + 0.25 * away) * (2 if together == 1 else 1)
        count = max(10, round(rate * part.weight * seconds))
        slow = part.limit_ms * (0.5 if rate <= most else 3.0)
        took = [
            Took(n / (rate or 1), slow * self.rng.uniform(0.9, 1.0), ttft_ms=slow * 0.9, tpot_ms=10.0)
            for n in range(count)
        ]
        jobs = [drive.Job("/", b"", str) for _ in took]
        texts: list[str | None] = [""] * len(took)
        return jobs, drive.Load(took, texts, duration_s=count / (rate * part.weight) if rate else 1.0)


def arguments(tmp_path: Path) -> list[str]:
    return ["--engine", "split", "--budget", "300m", "--out", str(tmp_path / "out"), "--profiles", str(tmp_path / "p")]


def test_the_best_division_is_found_written_down_and_kept(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(fingerprint, "fingerprint", _fingerprint)
    assert tune.main(arguments(tmp_path)) == 0
    (path,) = (tmp_path / "out").glob("tune-split-*.json")
    run = records.read_run(path)
    chosen = run.config["knobs"]
    assert chosen == {"chat.threads": 2, "translate.workers": 1, "transcribe.workers": 1}
    names = {result.config_name for result in run.results}
    name = run.config["chosen"]
    assert {
        SHIPPED,
        name,
        f"{name}, chat in the mix",
        f"{name}, translate alone",
        f"{SHIPPED}, chat in the mix",
    } <= names
    assert run.slo["translate.e2e_p95_ms"] == 200
    told = capsys.readouterr().out
    assert "alone," in told and "in the mix" in told and "against shipped default" in told
    (profile,) = (tmp_path / "p").glob("*.toml")
    tables = tomllib.loads(profile.read_text())["models"]
    chat = tables[rig.MODELS["chat"]]
    assert (chat["threads"], chat["knobs"]["threads"], chat["evidence"]) == (2, 2, [run.id])
    assert tables[rig.MODELS["translate"]]["args"][-2:] == ["--workers", "1"]
    assert machine.which


def test_targets_that_no_division_meets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(fingerprint, "fingerprint", _fingerprint)
    as_it_is = machine.load

    def slow(part: division.Part, *rest: Any) -> tuple[list[drive.Job], drive.Load]:
        jobs, load = as_it_is(part, *rest)
        if part.task == "translate":
            load.took = [Took(one.due_s, 900.0) for one in load.took]
        return jobs, load

    monkeypatch.setattr(machine, "load", slow)
    with pytest.raises(RecordError, match=r"no division meets .* \(translate e2e_p95_ms 900 of 200\)"):
        tune.main(arguments(tmp_path))
    assert not (tmp_path / "p").exists() or not list((tmp_path / "p").glob("*.toml"))


def _fingerprint(models: Any = None) -> dict[str, Any]:
    hardware = {"cpu": "made up", "cores": 4, "memory_gib": 16, "gpus": []}
    return {"hardware": hardware, "driver": "", "models": dict(models or {}), "versions": {"ctranslate2": "4.8.5"}}


def test_what_an_engine_was_tuned_to_is_what_it_is_divided_from(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "fingerprint", _fingerprint)
    model = rig.MODELS["translate"]
    table = {"revision": "", "versions": {"ctranslate2": "4.8.5"}, "knobs": {"beams": 3, "workers": 2}}
    table |= {"evidence": ["tune-1"], "coefficients": {"character_ns": 5.0}}
    path = profiles.write(own_home / "profiles", model, table)
    translate = next(part for part in division.parts_of("mixed", path, 4, False) if part.task == "translate")
    assert dict(translate.base) == {"beams": 3, "workers": 2}
    assert translate.tuned["evidence"] == ["tune-1"]
    profiles.write(own_home / "profiles", model, {**table, "versions": {"ctranslate2": "1"}})
    other = next(part for part in division.parts_of("mixed", path, 4, False) if part.task == "translate")
    assert (other.base, other.tuned) == (knobs.knobs("translate", 4, False).shipped, {})
