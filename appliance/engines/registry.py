"""Which engines there are, and which of them can take a request now.

What it is: a reader of the state files that ``engine run`` writes to ``run/NAME.json`` (4 times a second),
and a prober of ``kind = "openai"`` engines that run elsewhere (every 2 s, ``GET /v1/models``).
What it refuses to be: a supervisor. It starts, stops and restarts nothing.
What it costs: one directory listing and a stat an engine, 4 times a second (about 30 µs each round).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.engines import Engine
from appliance.engines.address import Network, parse_address
from appliance.engines.chat import ChatEngine
from appliance.engines.transcribe import OpenAITranscribeEngine, TranscribeEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.settings import EngineSettings, Settings, SettingsError
from appliance.types import EngineState, Task

READ_EVERY_S = 0.25
PROBE_EVERY_S = 2.0
_LIVING = ("starting", "ready", "stopping")
_log = logging.getLogger("appliance.engines")
_state_decoder = msgspec.json.Decoder(EngineState)


class Entry:
    """One engine: its last known state, its adapter, and how many requests are in it."""

    def __init__(self, state: EngineState, engine: Engine, pool: Pool, salted: bool) -> None:
        self.state = state
        self.engine = engine
        self.pool = pool
        self.salted = salted
        self.in_flight = 0


class Registry:
    """All engines of this appliance by name."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(n) for n in settings.site.networks)
        self._seen: dict[str, tuple[int, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.entries: dict[str, Entry] = {}

    def start(self) -> None:
        """Read the state files once, then keep reading and probing in the background."""
        self.read_states()
        self._tasks.append(asyncio.create_task(self._read_forever()))
        for name, engine in self._settings.engines.items():
            if engine.kind == "openai":
                self._tasks.append(asyncio.create_task(self._probe_forever(name, engine)))

    async def close(self) -> None:
        """Stop the background tasks and close idle connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self.entries.values():
            entry.pool.close()

    # engines with a state file

    async def _read_forever(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                self.read_states()
            except Exception:  # out of descriptors, say: this task must outlive it, or no change is ever seen again
                _log.exception("the engines' state files could not be read; trying again")

    def read_states(self) -> None:
        """One round over the configured engines' state files."""
        for name, engine in self._settings.engines.items():
            if engine.kind != "openai":
                self._read_state(name, self._settings.run / f"{name}.json")

    def _read_state(self, name: str, path: Path) -> None:
        try:
            stat = path.stat()
            if self._seen.get(name) != (stat.st_mtime_ns, stat.st_ino):
                self._put(_state_decoder.decode(path.read_bytes()), salted=True)
                self._seen[name] = (stat.st_mtime_ns, stat.st_ino)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            self._seen.pop(name, None)
            self._drop(name)
            return
        entry = self.entries.get(name)
        if entry is None:  # a file that speaks of another engine
            return
        if entry.state.phase in _LIVING and not _alive(entry.state.supervisor_pid):
            self._put(
                msgspec.structs.replace(entry.state, phase="failed", detail="its supervisor is gone"), salted=True
            )

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

    def _entry(self, state: EngineState, salted: bool) -> Entry:
        pool = Pool(
            parse_address(state.address),
            self._networks,
            _authorization(self._settings.engines.get(state.name)),
            self._settings.server.engine_silence_s,
        )
        engine: Engine
        if state.task == "chat":
            engine = ChatEngine(pool)
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
        except (ApplianceError, msgspec.DecodeError, UnicodeDecodeError) as e:
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

    def model_names(self) -> list[str]:
        """Every model an engine serves or is about to serve, sorted."""
        return sorted({m for e in self.entries.values() for m in e.state.models} | self._configured_models())

    def _configured_models(self) -> set[str]:
        return {e.model for e in self._settings.engines.values() if e.model is not None}

    def resolve(self, model: str) -> str:
        """The model an alias stands for, or the name itself."""
        return self._settings.aliases.get(model, model)

    def task_of(self, model: str) -> Task | None:
        """What ``model`` is for, None when nobody serves it."""
        for entry in self.entries.values():
            if model in entry.state.models:
                return entry.state.task
        for engine in self._settings.engines.values():
            if engine.model == model:
                return engine.task
        return None


class _ModelCard(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_ModelCard]


def _authorization(engine: EngineSettings | None) -> str:
    if engine is None or engine.api_key_file is None:
        return ""
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
