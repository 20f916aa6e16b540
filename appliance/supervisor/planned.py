"""The plan of this machine, and the grant an engine is started with.

What it is: measures, asks the planner, and keeps ``run/grants/``: one file an engine that runs, written by its
supervisor before the engine starts. Whoever plans next takes those as given, also while the engines still load, so
two that are started at once cannot be given the same memory. A grant ends with the process that took it.
What it refuses to be: a daemon. Every ``appliance engine run`` plans for itself, one at a time (``plan.lock``).
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from appliance.settings import EngineSettings, Settings
from appliance.supervisor import files, hardware, history, processes
from appliance.supervisor.command import CannotStart
from appliance.supervisor.exits import Exit
from appliance.supervisor.granted import with_grant
from appliance.supervisor.hardware import Hardware, Unreadable
from appliance.supervisor.memory import PROFILES, Grant, Plan, Profile, Want
from appliance.supervisor.needs import want_of
from appliance.supervisor.plan import Own, plan
from appliance.supervisor.profiles import halved

if TYPE_CHECKING:
    from appliance_models.entry import Model

# These run elsewhere, or need nothing to speak of.
_UNPLANNED = ("openai", "hosted", "fake")
# what an engine that is being replaced is called beside the one that replaces it; no engine can be named so
_REPLACED = "the model it replaces"


class Held(Struct, frozen=True):
    """A grant with the supervisor that holds it; ``started`` tells its pid from a later process of the same number."""

    pid: int
    started: int
    grant: Grant


def measure(environ: Mapping[str, str], on_cpu: bool) -> Hardware:
    """This machine now. Without ``nvidia-smi``, and for the CPU build of vLLM, it has no GPU. Raises CannotStart."""
    try:
        found = hardware.parse(hardware.record("this machine"), environ.get("CUDA_VISIBLE_DEVICES"))
    except Unreadable as e:
        raise CannotStart(f"this machine's memory cannot be planned: {e}", Exit.BAD_ARGUMENTS) from None
    if on_cpu and found.gpus:
        note = "the installed vLLM is the build for CPUs, so no GPU is used; APPLIANCE_SET=gpu makes the other one"
        return msgspec.structs.replace(found, gpus=(), notes=(*found.notes, note))
    return found


def wants(settings: Settings, on_gpu: bool, models: Sequence[str] = ()) -> list[Want]:
    """The engines of ``settings`` that take memory here, or one for each of ``models`` instead. Raises CannotStart."""
    known = _catalogue(settings)
    if unknown := [name for name in models if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise CannotStart(f"the catalogue has no model {unknown[0]!r}; {hint}", Exit.MODEL_MISSING)
    if models:
        return [_candidate(settings, known[name], on_gpu) for name in models]
    return [
        want_of(name, engine, known.get(str(engine.model)), settings.models_dir / str(engine.model), on_gpu)
        for name, engine in settings.engines.items()
        if engine.kind not in _UNPLANNED
    ]


def _candidate(settings: Settings, entry: Model, on_gpu: bool) -> Want:
    """A model of the catalogue as an engine of its own."""
    kind = {"vllm": "vllm", "indicconformer": "conformer"}.get(entry.engine, "whisper")  # vllm's needs differ in kind
    engine = EngineSettings.model_validate({"kind": kind, "model": entry.name})
    want = want_of(entry.name, engine, entry, settings.models_dir / entry.name, on_gpu)
    return msgspec.structs.replace(want, task=entry.task)


def _catalogue(settings: Settings) -> dict[str, Model]:
    try:
        from appliance_models import catalogue
        from appliance_models.errors import StoreError
    except ModuleNotFoundError:  # a source tree of which only ./ is on the path; installed, both always are
        return {}
    try:
        return catalogue.load_all(own=settings.models_dir)
    except StoreError as e:
        raise CannotStart(str(e), Exit.BAD_ARGUMENTS) from None


def plan_machine(settings: Settings, found: Hardware, models: Sequence[str] = ()) -> Plan:
    """The whole plan of this machine, as its engines would be started now; or one for ``models`` on what is free.

    Engines that run keep what they hold; those that ran out of memory are a profile down, and swapped models stay.
    """
    if models:
        return _plan(settings, found, wants(settings, bool(found.gpus), models), {}, None)
    held = {each.grant.engine: each for each in holders(settings)}
    pasts = {name: history.read(settings, name) for name in settings.engines}
    engines = {
        name: engine.model_copy(update={"model": pasts[name].model}) if pasts[name].model else engine
        for name, engine in settings.engines.items()
    }
    profiles = {name: PROFILES[min(past.profile, len(PROFILES) - 1)] for name, past in pasts.items()}
    current = settings.model_copy(update={"engines": engines})
    return _plan(current, found, wants(current, bool(found.gpus)), held, profiles)


def plan_elsewhere(settings: Settings, found: Hardware, models: Sequence[str] = ()) -> Plan:
    """The plan for another machine, on which nothing of the appliance runs."""
    return _plan(settings, found, wants(settings, bool(found.gpus), models), {}, None)


def _plan(
    settings: Settings,
    found: Hardware,
    wanted: Sequence[Want],
    held: Mapping[str, Held],
    profiles: Mapping[str, Profile] | None,
) -> Plan:
    names = {want.engine for want in wanted}
    held = {engine: each for engine, each in held.items() if engine in names}  # what is no longer wanted is a stranger
    return plan(
        found,
        wanted,
        settings.memory.request_tokens,
        profiles=profiles,
        held={engine: each.grant for engine, each in held.items()},
        own=own_of(held.values()),
        catalogue=[_candidate(settings, entry, bool(found.gpus)) for entry in _catalogue(settings).values()],
    )


class Planned:
    """Grants by steps, as supervision asks for them: 0 is normal, and each out-of-memory is one down."""

    def __init__(self, environ: Mapping[str, str], on_cpu: bool) -> None:
        self._environ = environ
        self._on_cpu = on_cpu

    def __call__(self, settings: Settings, name: str, engine: EngineSettings, profile: int) -> EngineSettings | None:
        """``engine`` with what it gets ``profile`` steps down, held by this process from now on.

        None where there is no such step. Raises CannotStart where it has no room.
        """
        if engine.kind in _UNPLANNED:
            return halved(settings, name, engine, profile)
        if profile >= len(PROFILES):
            return None
        wanted = settings.model_copy(update={"engines": {**settings.engines, name: engine}})
        return with_grant(engine, plan_for(wanted, name, self._environ, self._on_cpu, PROFILES[profile]))


def plan_for(
    settings: Settings, name: str, environ: Mapping[str, str], on_cpu: bool, profile: Profile = "normal"
) -> Grant:
    """What engine ``name`` gets now, recorded as held by this process. Raises CannotStart where it has no room.

    The other engines that are configured get their part of the plan too, whether they run yet or not. A grant that
    this process holds for another model in the same place stays: that one serves until it is replaced.
    """
    settings.run.mkdir(parents=True, exist_ok=True)
    with _alone(settings.run / "plan.lock"):
        everybody = holders(settings)
        held = {each.grant.engine: each for each in everybody if each.grant.engine != name}
        found = measure(environ, on_cpu)
        wanted = wants(settings, bool(found.gpus))
        replaced = _replaced(settings, name, everybody)
        beside = [Want(_REPLACED, each.grant.model, "") for each in replaced.values()]
        whole = _plan(settings, found, [*wanted, *beside], held | replaced, {name: profile})
        if replaced and whole.grant(name) is None:  # in its place then: supervision sees whether both fit
            whole = _plan(settings, found, wanted, held, {name: profile})
        grant = whole.grant(name)
        if grant is None:
            raise CannotStart(_no_room(whole, name), Exit.BAD_ARGUMENTS)
        try:
            _hold(settings, grant)
        except OSError as e:
            raise CannotStart(f"what engine {name!r} gets cannot be written down: {e}", Exit.CRASHED) from None
    return grant


def _replaced(settings: Settings, name: str, everybody: Sequence[Held]) -> dict[str, Held]:
    """What this process holds for another model in the place of ``name``."""
    for each in everybody:
        grant = each.grant
        if grant.engine == name and each.pid == os.getpid() and grant.model != settings.engines[name].model:
            return {_REPLACED: msgspec.structs.replace(each, grant=msgspec.structs.replace(grant, engine=_REPLACED))}
    return {}


def _no_room(whole: Plan, name: str) -> str:
    out = next(each for each in whole.left_out if each.engine == name)
    running = ", ".join(grant.engine for grant in whole.grants)
    instead = f"; of its kind {' or '.join(out.instead)} would fit" if out.instead else ""
    beside = f" beside {running}" if running else ""
    return (
        f"engine {name!r} ({out.model}) has no room on this machine{beside}: it {out.why}{instead};"
        " `appliance plan` shows everything, and kv_cache_bytes in appliance.toml overrules it"
    )


# grants


def holders(settings: Settings) -> list[Held]:
    """Every grant whose supervisor lives; the others are removed.

    A supervisor that swaps models holds two for a while: its newest, and that of the model its state says it serves.
    """
    newest: dict[str, tuple[float, Path]] = {}
    found: dict[Path, Held] = {}
    for path in sorted((settings.run / "grants").glob("*.json")):
        try:
            written = path.stat().st_mtime
            held = msgspec.json.decode(path.read_bytes(), type=Held)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if started_ticks(held.pid) != held.started:
            path.unlink(missing_ok=True)
            continue
        found[path] = held
        newest[held.grant.engine] = max(newest.get(held.grant.engine, (0.0, path)), (written, path))
    for path, held in list(found.items()):
        engine = held.grant.engine
        if newest[engine][1] != path and held.grant.model not in _served(settings, engine):
            path.unlink(missing_ok=True)
            del found[path]
    return list(found.values())


def _served(settings: Settings, engine: str) -> tuple[str, ...]:
    state = files.read_state(settings.run / f"{engine}.json")
    return state.models if state is not None else ()


def _hold(settings: Settings, grant: Grant) -> None:
    directory = settings.run / "grants"
    directory.mkdir(mode=0o700, exist_ok=True)
    me = os.getpid()
    path = directory / f"{grant.engine}.{grant.model.replace('/', '_')}.{me}.json"
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(Held(me, started_ticks(me), grant)))
    part.replace(path)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def started_ticks(pid: int) -> int:
    """When ``pid`` began, in ticks since the kernel did; 0 when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])


def own_of(held: Iterable[Held]) -> Own:
    """What the processes of running engines hold."""
    pids: set[int] = set()
    ram = 0
    for each in held:
        mine = {each.pid, *processes.descendants(each.pid)}
        pids |= mine
        sizes = [resident_bytes(pid) for pid in mine]
        taken = sum(size for size in sizes if size is not None)
        # engines of other users, as in production: nothing can be read, so what they were granted counts
        unreadable = None in sizes
        ram += (each.grant.host_bytes if each.grant.gpus else each.grant.budget_bytes) if unreadable else taken
    return Own(frozenset(pids), ram)


def resident_bytes(pid: int) -> int | None:
    """RAM that goes back when ``pid`` ends: its part of what is no file. None where it may not be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(sizes) * 1024
