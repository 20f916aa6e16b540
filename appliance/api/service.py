"""What the routes share: settings, ledger, registry, pipeline, metrics, clocks, built once by ``app``.

What it is: the one object that routes are handed, and the few questions that several of them ask.
What it refuses to be: a global.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from appliance.api import auth
from appliance.api.http import Exchange, upload_too_slow
from appliance.api.policing import Policing
from appliance.api.vouched import Vouched
from appliance.engines.registry import Registry
from appliance.errors import BadRequest, EngineUnavailable, Forbidden, NotFound, UploadTooSlow
from appliance.ledger import HexPool, Ledger, new_id
from appliance.metrics import Metrics
from appliance.pipeline import Pipeline, Sink, Work
from appliance.pipeline.deciding import Decider
from appliance.pipeline.leaving import Exit
from appliance.pipeline.shadowing import Shadows
from appliance.pipeline.vocabulary import Vocabulary
from appliance.settings import Settings
from appliance.types import Admission, Endpoint, Idempotency, Key, Request, Task, Turn

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.ledger.stores.glossaries import Loaded

# a restart takes a few seconds until the gateway answers again
_RETRY_STOPPED = "5"
# the fewest bytes a second that speech is compressed to, for the most it may cost
_BYTES_A_SECOND = 1000
_ENDPOINT_OF: dict[Task, str] = {
    "chat": "/v1/chat/completions",
    "transcribe": "/v1/audio/transcriptions",
    "translate": "/v1/translate",
}


class Service:
    """The rooms behind the routes. ``clock`` gives Unix seconds, ``monotonic`` seconds for durations."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        make_pipeline: Callable[..., Pipeline] = Pipeline,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.metrics = Metrics()
        self.registry = Registry(settings, clock)
        self._clock = clock
        self._random_hex = HexPool()
        self.monotonic = monotonic
        self.decider = Decider(self.registry, lambda: ledger.tariff, clock, monotonic)
        self.registry.queued = lambda: self.decider.active
        self.decider.max_output_tokens = lambda name: self.settings.engines[name].hosted.max_output_tokens
        self.policing = Policing(lambda: self.settings, self.decider, clock, self._ended)
        self.live = Vouched(settings.run)
        self._pipeline = make_pipeline(
            ledger,
            self.registry,
            self.metrics,
            monotonic,
            lambda: self.settings.server.swap_wait_s,
            self.decider,
            Exit(self.policing.signer, clock, lambda: self._random_hex(16)),
        )
        self._pipeline.vocabulary = Vocabulary(self.store, lambda: ledger.version, self.now_ms)
        self.shadows = self._pipeline.shadows = Shadows(self._pipeline, ledger, self.new_id, self.now_ms, monotonic)
        self.running = 0
        self.draining = False
        self.since_unix_s = clock()
        self._store: Engine | None = None
        self._store_lock = threading.Lock()
        self._glossaries: Loaded | None = None

    def new_id(self) -> str:
        """A request id that sorts by time."""
        return new_id("req", int(self._clock() * 1000), self._random_hex)

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(self._clock() * 1000)

    def take_settings(self, settings: Settings) -> None:
        """From now on these. Only what ``api.reload`` allows may differ from the ones before."""
        self.settings = settings
        self.registry.take_settings(settings)

    def store(self) -> Engine:
        """The ledger for everything that is not on a request's way. Call it in a thread: it loads SQLAlchemy."""
        with self._store_lock:
            if self._store is None:
                from appliance.ledger.core import engine

                self._store = engine(self.settings.ledger_where)
            return self._store

    def _ended(self, since_ms: int) -> Iterator[tuple[str, str, bool, int]]:
        from appliance.ledger.stores.ended import ended

        return ended(self.store(), since_ms)

    @property
    def glossaries(self) -> Loaded:
        """Every tenant's glossaries, in memory once they were asked for. Use it in a thread: it loads SQLAlchemy."""
        from appliance.ledger.stores.glossaries import Loaded

        if self._glossaries is None:
            self._glossaries = Loaded(self.store)
        return self._glossaries

    def authenticate(self, exchange: Exchange) -> Key:
        """The caller's key. Raises Unauthorized."""
        return auth.authenticate(exchange, self.ledger)

    def model_for(self, asked: str, task: Task, key: Key, endpoint: Endpoint) -> str:
        """The model behind the asked name or alias, if ``key`` may use it here.

        Raises NotFound (lists the known), BadRequest or Forbidden (lists the allowed).
        """
        self.check_endpoint(key, endpoint)
        model = self.registry.resolve(asked)
        found = self.registry.task_of(model)
        if found is None:
            raise self.unknown_model(asked, key)
        if not allowed(key, asked, model):
            raise Forbidden(
                f"this key may not use the model {asked[:200]!r}; it may use {', '.join(key.models)}",
                code="model_not_allowed",
                param="model",
            )
        if found != task:
            raise BadRequest(f"the model {asked!r} is served at {_ENDPOINT_OF[found]}", param="model")
        return model

    def check_endpoint(self, key: Key, endpoint: Endpoint) -> None:
        """Whether ``key`` may be used here. Raises Forbidden, which lists where it may."""
        if key.endpoints and endpoint not in key.endpoints:
            raise Forbidden(
                f"this key may not use {endpoint}; it may use {', '.join(key.endpoints)}", code="endpoint_not_allowed"
            )

    def names(self, key: Key) -> list[str]:
        """Every name ``key`` may use: models that are served or about to be, then aliases."""
        models = self.registry.model_names()
        aliases = sorted(a for a in self.settings.aliases if self.registry.resolve(a) in models)
        return [name for name in (*models, *aliases) if allowed(key, name, self.registry.resolve(name))]

    def context_of(self, model: str) -> int:
        """The longest context an engine serves ``model`` with, in tokens; 0 where none says."""
        entries = self.registry.entries.values()
        return max((e.state.context_tokens for e in entries if model in e.state.models), default=0)

    def unknown_model(self, asked: str, key: Key) -> NotFound:
        """The error that lists the known ones."""
        known = ", ".join(self.names(key)) or "none"
        return NotFound(
            f"the model {asked[:200]!r} is not served here; known: {known}", code="model_not_found", param="model"
        )

    def request(self, exchange: Exchange, key: Key, endpoint: Endpoint, model: str, stream: bool) -> Request:
        """The admitted request's value."""
        return Request(exchange.request_id, key, endpoint, model, stream, int(self._clock() * 1000))

    def job_request(self, request_id: str, key: Key, endpoint: Endpoint, model: str) -> Request:
        """The value of a request that nobody waits for."""
        return Request(request_id, key, endpoint, model, False, self.now_ms())

    def speech_ceiling(self, audio_bytes: int, models: Iterable[str], at_ms: int) -> int:
        """The most an upload may cost on the dearest of ``models``, in nano-dollars."""
        seconds = audio_bytes / _BYTES_A_SECOND
        return max(self.ledger.tariff.ceiling("local", model, 0, 0, seconds, at_ms) for model in models)

    def admission(
        self,
        request: Request,
        turn: Turn,
        nusd: int,
        tokens: int,
        idempotency: Idempotency | None,
        hosted_nusd: int = 0,
    ) -> Admission:
        """What the ledger is asked; ``nusd`` and ``tokens`` are held back while it runs, ``hosted_nusd`` if it can."""
        conversation_id = new_id("conv", request.at_ms, self._random_hex)
        return Admission(request, turn, conversation_id, nusd, tokens, idempotency, hosted_nusd)

    def slot(self) -> Slot:
        """One of ``server.max_in_flight`` places, to be held by ``with`` before a body is read.

        Raises EngineUnavailable where none is left, and while the appliance drains.
        """
        return Slot(self)

    @asynccontextmanager
    async def upload_time(self) -> AsyncIterator[None]:
        """Bounds how long a request may take to arrive. Raises UploadTooSlow."""
        try:
            async with asyncio.timeout(self.settings.server.request_deadline_s):
                yield
        except TimeoutError:
            raise UploadTooSlow(upload_too_slow(self.settings.server.request_deadline_s)) from None

    async def run(self, admission: Admission, work: Work, sink: Sink) -> None:
        """Run through the pipeline."""
        await self._pipeline.run(admission, work, sink)


class Slot:
    """A place among the requests that are worked on at once, while its block runs."""

    __slots__ = ("_service",)

    def __init__(self, service: Service) -> None:
        self._service = service

    def __enter__(self) -> None:
        service = self._service
        if service.draining:
            raise EngineUnavailable(
                "the appliance is stopping and takes no new requests; try again shortly",
                code="shutting_down",
                headers={"retry-after": _RETRY_STOPPED, "connection": "close"},
            )
        limit = service.settings.server.max_in_flight
        if service.running >= limit:
            raise EngineUnavailable(
                f"{limit} requests are being worked on; try again in a second, or raise server.max_in_flight",
                code="overloaded",
                headers={"retry-after": "1"},
            )
        service.running += 1

    def __exit__(self, *error: object) -> None:
        self._service.running -= 1


def allowed(key: Key, name: str, model: str) -> bool:
    """Whether ``key`` may use ``model``, called ``name``."""
    return not key.models or name in key.models or model in key.models
