"""Which engines there are, and which of them can take a request now.

What it is: a reader of the state files that ``engine run`` writes to ``run/NAME.json`` (4 times a second),
a prober of ``kind = "openai"`` engines that run elsewhere (every 2 s, ``GET /v1/models``), and, where ``queued`` says
so, of vLLM's queues (``queues``).
What it refuses to be: a supervisor. It starts, stops and restarts nothing.
What it costs: one directory listing and a stat an engine, 4 times a second (about 30 µs each round).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.engines import Engine
from appliance.engines.address import Network, parse_address
from appliance.engines.chat import ChatEngine
from appliance.engines.entry import Entry
from appliance.engines.hosted import HostedEngine
from appliance.engines.queues import LOOK_EVERY_S, look
from appliance.engines.transcribe import OpenAITranscribeEngine, TranscribeEngine
from appliance.engines.translate import TranslateEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.settings import EngineSettings, Settings, SettingsError
from appliance.types import EngineState, Task

READ_EVERY_S = 0.25
PROBE_EVERY_S = 2.0
_LIVING = ("starting", "ready", "swapping", "stopping")
_log = logging.getLogger("appliance.engines")
_state_decoder = msgspec.json.Decoder(EngineState)


class Registry:
    """All engines of this appliance by name."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(n) for n in settings.site.networks)
        self._seen: dict[str, tuple[int, int]] = {}
        self._round = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self.queued: Callable[[], bool] = lambda: False  # whether anybody asks how long an answer would take
        self._probers: dict[str, asyncio.Task[None]] = {}
        self.entries: dict[str, Entry] = {}

    def start(self) -> None:
        """Read the state files once, then keep reading and probing in the background."""
        self.read_states()
        self._reader = asyncio.create_task(self._read_forever())
        self._looker = asyncio.create_task(self._look_forever())
        for name, engine in self._settings.engines.items():
            self._start_probing(name, engine)

    def _start_probing(self, name: str, engine: EngineSettings) -> None:
        if engine.kind == "openai":
            self._probers[name] = asyncio.create_task(self._probe_forever(name, engine))

    async def close(self) -> None:
        """Stop the background tasks and close idle connections."""
        tasks = [*self._probers.values(), *(task for task in (self._reader, self._looker) if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for entry in self.entries.values():
            entry.pool.close()

    def take_settings(self, settings: Settings) -> None:
        """Engines that are new appear, those that are gone or have changed are let go of; answers under way finish."""
        old, self._settings = self._settings, settings
        self._networks = tuple(ipaddress.ip_network(n) for n in settings.site.networks)
        everywhere = old.site != settings.site or old.server.engine_silence_s != settings.server.engine_silence_s
        for name in {*old.engines, *settings.engines}:
            before, now = old.engines.get(name), settings.engines.get(name)
            if before == now and not everywhere:
                continue
            if (prober := self._probers.pop(name, None)) is not None:
                prober.cancel()
            self._seen.pop(name, None)
            # an engine of this machine keeps what its supervisor says of it: that it changes with its next start
            if now is None or everywhere or "openai" in (now.kind, before.kind if before is not None else ""):
                self._drop(name)
            if now is not None:
                self._start_probing(name, now)
        self.read_states()

    # engines with a state file

    async def _read_forever(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                self.read_states()
                self._round.set()  # wakes all who wait for a change; the next round is a new one
                self._round = asyncio.Event()
            except Exception:  # out of descriptors, say: this task must outlive it, or no change is ever seen again
                _log.exception("the engines' state files could not be read; trying again")

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self.queued():
                    await look(list(self.entries.values()))
            except Exception:
                _log.exception("the engines' queues could not be looked at; trying again")

    def read_states(self) -> None:
        """One round over the configured engines' state files."""
        for name, engine in self._settings.engines.items():
            if engine.kind != "openai":
                self._read_state(name, self._settings.state_file(name))

    def _read_state(self, name: str, path: Path) -> None:
        try:
            stat = path.stat()
            if self._seen.get(name) != (stat.st_mtime_ns, stat.st_ino):
                self._take(name, _state_decoder.decode(path.read_bytes()))
                self._seen[name] = (stat.st_mtime_ns, stat.st_ino)
        except (FileNotFoundError, PermissionError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._seen.pop(name, None)
            self._drop(name)
            return
        entry = self.entries.get(name)
        if entry is None:  # a file that speaks of another engine
            return
        if entry.state.phase in _LIVING and not _alive(entry.state.supervisor_pid):
            self._take(name, msgspec.structs.replace(entry.state, phase="failed", detail="its supervisor is gone"))

    def _take(self, name: str, state: EngineState) -> None:
        """A state that was read. What is configured as hosted is hosted, whatever a file says, and the reverse."""
        hosted = self._settings.engines[name].kind == "hosted"
        if hosted != (state.kind == "hosted"):
            state = msgspec.structs.replace(state, phase="failed", detail="it was started as an engine of another kind")
        # cache_salt is vllm's
        self._put(state, salted=not hosted)

    def _drop(self, name: str) -> None:
        entry = self.entries.pop(name, None)
        if entry is not None:
            entry.pool.close()

    def _put(self, state: EngineState, salted: bool) -> None:
        old = self.entries.get(state.name)
        if old is not None and old.state.address == state.address and old.salted == salted:
            old.state = state
            return
        self._drop(state.name)
        self.entries[state.name] = self._entry(state, salted)
        if old is not None:  # requests on the old connections still end there, but its hours are this engine's
            self.entries[state.name].busy = old.busy
            self.entries[state.name].breaker = old.breaker

    def _entry(self, state: EngineState, salted: bool) -> Entry:
        pool = Pool(
            parse_address(state.address),
            self._networks,
            _authorization(self._settings.engines.get(state.name)),
            self._settings.server.engine_silence_s,
        )
        engine: Engine
        configured = self._settings.engines.get(state.name)
        if state.kind == "hosted" or (configured is not None and configured.kind == "hosted"):
            engine = HostedEngine(pool)
        elif state.task == "chat":
            engine = ChatEngine(pool)
        elif state.task == "translate":
            engine = TranslateEngine(pool)
        elif state.kind == "openai":
            engine = OpenAITranscribeEngine(pool)
        else:
            engine = TranscribeEngine(pool)
        return Entry(state, engine, pool, salted)

    # engines that run elsewhere

    async def _probe_forever(self, name: str, engine: EngineSettings) -> None:
        address = str(engine.url or engine.socket)
        pool = Pool(parse_address(address), self._networks, _authorization(engine), silence_s=5.0)
        while True:
            try:
                await self._probe(name, engine, address, pool)
            except Exception:
                _log.exception("engine %s could not be probed; trying again", name)
            await asyncio.sleep(PROBE_EVERY_S)

    async def _probe(self, name: str, engine: EngineSettings, address: str, pool: Pool) -> None:
        try:
            async with await pool.request("GET", "/v1/models") as response:
                body = await response.read()
                if response.status != 200:
                    raise ApplianceError(f"GET /v1/models answered {response.status}")
            cards = msgspec.json.decode(body, type=_Models).data
        except (ApplianceError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            # what it served is remembered: callers get "try again" for its models, not "no such model"
            old = self.entries.get(name)
            models = engine.models or (old.state.models if old is not None else ())
            self._put(self._state(name, engine, address, "failed", models, str(e)), self._salted(name))
            return
        models = engine.models or tuple(card.id for card in cards)
        context = max((card.max_model_len or 0 for card in cards), default=0)
        # cache_salt is vllm's; a server that is not vllm may refuse a parameter it does not know
        salted = any(card.owned_by == "vllm" for card in cards)
        self._put(self._state(name, engine, address, "ready", models, "", context), salted)

    def _salted(self, name: str) -> bool:
        entry = self.entries.get(name)
        return entry is not None and entry.salted

    def _state(
        self,
        name: str,
        engine: EngineSettings,
        address: str,
        phase: str,
        models: tuple[str, ...],
        detail: str,
        context: int = 0,
    ) -> EngineState:
        old = self.entries.get(name)
        since = old.state.since_unix_s if old is not None and old.state.phase == phase else self._clock()
        return EngineState(
            name=name,
            kind="openai",
            task=engine.task,
            phase="ready" if phase == "ready" else "failed",
            address=address,
            models=models,
            detail=detail,
            since_unix_s=since,
            supervisor_pid=0,
            engine_pid=0,
            context_tokens=context,
        )

    # what the rest of the gateway asks

    def take_busy(self) -> list[tuple[str, int, int]]:
        """Each engine with its busy and its ready nanoseconds since the last call."""
        result = []
        for name, entry in self.entries.items():
            busy_ns, elapsed_ns = entry.busy.take()
            if busy_ns or entry.state.phase == "ready":
                result.append((name, busy_ns, elapsed_ns))
        return result

    def model_names(self) -> list[str]:
        """Every model an engine serves or is about to serve, sorted."""
        return sorted({m for e in self.entries.values() for m in e.state.models} | self._configured_models())

    def _configured_models(self) -> set[str]:
        """Of engines that have not said yet what they serve; one that was swapped serves something else."""
        return {e.model for n, e in self._settings.engines.items() if e.model is not None and n not in self.entries}

    def resolve(self, model: str) -> str:
        """The model an alias stands for, or the name itself. An alias follows its engine through a swap."""
        target = self._settings.aliases.get(model)
        if target is None:
            return model
        if any(target in entry.state.models for entry in self.entries.values()):
            return target
        for name, engine in self._settings.engines.items():
            if engine.model == target and (entry := self.entries.get(name)) is not None and entry.state.models:
                return entry.state.models[0]
        return target

    def swapping(self, model: str) -> bool:
        """Whether ``model`` is being loaded in another's place right now."""
        return any(e.state.phase == "swapping" and model in e.state.models for e in self.entries.values())

    async def swapped_in(self, model: str, within_s: float) -> None:
        """Wait until ``model`` is no longer being loaded in another's place, for better or worse."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.swapping(model):
                    await self.next_round()

    async def next_round(self) -> None:
        """Wait until the state files have been read once more."""
        await self._round.wait()

    def task_of(self, model: str) -> Task | None:
        """What ``model`` is for, None when nobody serves it."""
        for entry in self.entries.values():
            if model in entry.state.models:
                return entry.state.task
        for name, engine in self._settings.engines.items():
            if model in engine.served and name not in self.entries:
                return engine.task
        return None


class _ModelCard(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_ModelCard]


def _authorization(engine: EngineSettings | None) -> str:
    if engine is None or engine.api_key_file is None or engine.kind == "hosted":
        return ""  # a hosted engine's key is its host's, and the gateway may not even read it
    return "Bearer " + Path(engine.api_key_file).expanduser().read_text(encoding="utf-8").strip()


def check_attached(settings: Settings) -> None:
    """Addresses and key files of the engines that run elsewhere. Raises SettingsError naming the engine."""
    for name, engine in settings.engines.items():
        if engine.kind == "openai":
            try:
                parse_address(str(engine.url or engine.socket))
                _authorization(engine)
            except (ValueError, OSError) as e:
                raise SettingsError(f"engines.{name}: {e}") from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process, as in production: it exists
        return True
    return True
