"""Engines for a search, each in an appliance of its own, and the measurement of one configuration under load.

What it is: ``Rig`` makes a private home (models linked, nothing else shared), starts ``appliance engine run`` with a
configuration's arguments, warms it, offers load, and reads how it ended where it did not serve. On a machine without a
GPU the last few engines stay up beside each other, idle, so that finalists can take turns.
What it refuses to be: a user of the appliance's modules. It knows the command line, ``run/NAME.json`` and HTTP.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from appliance_bench import arrivals, drive, knobs, quality
from appliance_bench.records import RecordError
from appliance_bench.sample import Sample, broken, summarise
from appliance_bench.search import Config
from appliance_bench.slo import Target
from appliance_bench.wire import Client, Unanswered
from appliance_bench.workloads import Workload

KINDS = {"chat": "vllm", "translate": "translate", "transcribe": "whisper"}
MODELS = {"chat": "smollm2-135m-instruct", "translate": "indictrans2-embedded", "transcribe": "whisper-base"}
_READY_WITHIN_S = 600.0
_STOP_WITHIN_S = 40.0
# how many times the limit a load lasts at least, and with how many requests at most
_SPAN, _MOST_REQUESTS = 8, 3000
WARM = {"chat": 8, "translate": 48, "transcribe": 8}
_PREEMPTIONS = re.compile(rb"^vllm:num_preemptions_total\S* ([0-9.e+]+)$", re.MULTILINE)


class Engine:
    """One engine that serves. ``address``: its socket."""

    def __init__(self, home: Path, task: str, process: subprocess.Popen[bytes], address: str) -> None:
        self.home, self.task, self.process, self.address = home, task, process, address
        self.warm = False

    def stop(self) -> None:
        """End it and remove its home."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()  # its guard takes the engine down
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Rig:
    """Measures configurations of ``task``'s engine with ``model`` under ``workload``; use as a context manager."""

    def __init__(
        self, task: str, model: str, workload: Workload, targets: Sequence[Target], *, keep: int = 1, seed: int = 0,
        models_dir: Path | None = None, held_out: Workload | None = None,
    ) -> None:  # fmt: skip
        self.task, self.model, self.workload, self.targets = task, model, workload, tuple(targets)
        self._held_out = held_out or workload
        self._keep, self._seed = keep, seed
        home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser()
        self._models = models_dir or home / "models"
        self._engines: OrderedDict[Config, Engine] = OrderedDict()
        self._probes = 0

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        while self._engines:
            self._engines.popitem()[1].stop()

    def __call__(self, which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample:
        """See ``search.Measure``."""
        began = time.monotonic()
        try:
            engine = self._engine(which)
        except CannotServe as e:
            return broken(e.word, time.monotonic() - began, rate)
        self._probes += 1
        workload = self._held_out if held_out else self.workload
        # for less than a few times the limit, any load at all is answered in time: the queue ends before it is long
        enough = math.ceil(rate * _SPAN * self._limit_ms / 1000)
        jobs = workload.jobs(self.model, held_out, max(requests, min(enough, _MOST_REQUESTS)), tag=f"{self._probes}")
        load, preemptions = asyncio.run(self._load(engine, jobs, rate, workload))
        if engine.process.poll() is not None:
            self._engines.pop(which)
            word = how_it_ended(engine.home, self.task)
            engine.stop()
            return broken(word, time.monotonic() - began, rate)
        return summarise(
            load.took,
            self.targets,
            offered_per_s=rate or (len(load.took) / load.duration_s),
            duration_s=load.duration_s,
            spent_s=time.monotonic() - began,
            saturated=load.overrun,
            quality=self._quality(workload, jobs, load, requests),
            preemptions=preemptions,
            rates=rates_of(jobs, load),
        )

    def throughput(self, which: Config, requests: int) -> tuple[float, float]:
        """Requests a second with many callers at once, and the seconds until the engine was ready.

        Raises RecordError.
        """
        began = time.monotonic()
        try:
            engine = self._engine(which)
        except CannotServe as e:
            raise RecordError(f"the {self.task} engine does not start with its defaults: {e}") from None
        start_s = time.monotonic() - began
        load = asyncio.run(self._together(engine, self.workload.jobs(self.model, False, requests, tag="speed")))
        good = sum(1 for took in load.took if not took.failed)
        if not good:
            why = next((t.failed for t in load.took), "nothing came back")
            raise RecordError(f"the {self.task} engine answers nothing that is of use ({why}); see `appliance logs`")
        return good / load.duration_s, start_s

    async def _together(self, engine: Engine, jobs: Sequence[drive.Job]) -> drive.Load:
        client = Client(engine.address)
        try:
            return await drive.together(client, jobs, 16)
        finally:
            await client.close()

    async def _load(
        self, engine: Engine, jobs: Sequence[drive.Job], rate: float, workload: Workload
    ) -> tuple[drive.Load, int]:
        client = Client(engine.address)
        try:
            if not engine.warm:
                warm = self.workload.jobs(self.model, False, WARM[self.task], tag="warm")
                await drive.together(client, warm, 8)
                engine.warm = True
            before = await _preemptions(client) if self.task == "chat" else 0
            if rate:
                rng = random.Random(self._seed * 1000 + self._probes)
                due_s = arrivals.arrivals(workload.sheet.arrivals, rate, len(jobs), rng)
                load = await drive.offer(client, jobs, due_s, self._limit_ms)
            else:
                load = await drive.alone(client, jobs)
            return load, (await _preemptions(client) - before) if self.task == "chat" else 0
        finally:
            await client.close()

    @property
    def _limit_ms(self) -> float:
        return max((t.limit_ms for t in self.targets if t.metric != "tpot"), default=10_000.0)

    def _quality(
        self, workload: Workload, jobs: Sequence[drive.Job], load: drive.Load, requests: int
    ) -> dict[str, float]:
        """Of the first ``requests``, which are the same at every load."""
        name = workload.sheet.quality
        if not name or load.overrun or any(text is None for text in load.texts):
            return {}
        first = {id(job): n for n, job in reversed(list(enumerate(jobs[:requests])))}  # each job once
        texts = [load.texts[n] or "" for n in sorted(first.values())]
        return {name: round(quality.MEASURES[name](texts, [jobs[n].reference for n in sorted(first.values())]), 3)}

    def _engine(self, which: Config) -> Engine:
        """A running engine, the oldest stopped where there are too many. Raises CannotServe."""
        if which in self._engines:
            self._engines.move_to_end(which)
            return self._engines[which]
        while len(self._engines) >= self._keep:
            self._engines.popitem(last=False)[1].stop()
        engine = start(self.task, self.model, which, self._models)
        self._engines[which] = engine
        return engine


class CannotServe(Exception):
    """``word``: the class of its end."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail or word)
        self.word = word


def start(task: str, model: str, which: Config, models: Path) -> Engine:
    """An engine that is ready. Raises CannotServe."""
    home = Path(tempfile.mkdtemp(prefix="ab-"))
    home.chmod(0o700)
    (home / "models").symlink_to(models.resolve())
    extra = json.dumps(list(knobs.arguments(which)))
    lines = [f"[engines.{task}]", f'kind = "{KINDS[task]}"', f'task = "{task}"', f"model = {json.dumps(model)}"]
    lines += [f"extra_args = {extra}", *(f"{name} = {value}" for name, value in knobs.settings(which).items() if value)]
    (home / "appliance.toml").write_text("\n".join(lines) + "\n")
    env = {k: v for k, v in os.environ.items() if k not in ("APPLIANCE_RUN", "APPLIANCE_LEDGER_URL")}
    env["APPLIANCE_HOME"] = str(home)
    # the engine runs outside the checkout, so what is importable here has to be said
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    with (home / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "appliance", "engine", "run", task],
            cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    engine = Engine(home, task, process, "")
    try:
        engine.address = _ready(engine)
    except BaseException:
        engine.stop()
        raise
    return engine


def _ready(engine: Engine) -> str:
    give_up = time.monotonic() + _READY_WITHIN_S
    path = engine.home / "run" / f"{engine.task}.json"
    while time.monotonic() < give_up:
        state = _state(path)
        if state.get("phase") == "ready":
            return str(state["address"])
        if engine.process.poll() is not None:
            log = (engine.home / "supervisor.log").read_text(errors="replace").strip().splitlines()
            said = str(state.get("detail") or (log[-1] if log else ""))
            raise CannotServe(str(state.get("exit") or "crashed"), said)
        time.sleep(0.1)
    raise CannotServe("never_ready", f"no answer within {_READY_WITHIN_S:g} s")


def how_it_ended(home: Path, task: str) -> str:
    """The class of an engine's end, as its supervisor wrote it."""
    return str(_state(home / "run" / f"{task}.json").get("exit") or "crashed")


def _state(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def rates_of(jobs: Sequence[drive.Job], load: drive.Load) -> dict[str, float]:
    """What was done a second, of what was answered."""
    if not load.duration_s:
        return {}
    found = {}
    if seconds := sum(job.seconds for job, text in zip(jobs, load.texts, strict=True) if text is not None):
        found["rtfx"] = round(seconds / load.duration_s, 3)
    if characters := sum(job.characters for job, text in zip(jobs, load.texts, strict=True) if text is not None):
        found["characters_per_s"] = round(characters / load.duration_s, 3)
    if load.tokens:
        found["output_tokens_per_s"] = round(load.tokens / load.duration_s, 3)
    return found


async def _preemptions(client: Client) -> int:
    try:
        _, text = await client.get("/metrics")
    except Unanswered:
        return 0
    return int(sum(float(match) for match in _PREEMPTIONS.findall(text)))


def strangers() -> list[str]:
    """Processes on this machine's GPUs, as nvidia-smi names them; none where there is no GPU."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-compute-apps=pid,process_name,used_gpu_memory", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip() and done.returncode == 0]
