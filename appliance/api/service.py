"""What the routes share: settings, ledger, registry, pipeline, metrics, clocks, built once by ``app``.

What it is: the one object that routes are handed, and the few questions that several of them ask.
What it refuses to be: a global.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from appliance.api import auth
from appliance.api.http import Exchange
from appliance.engines.registry import Registry
from appliance.errors import BadRequest, EngineUnavailable, NotFound, UploadTooSlow
from appliance.ledger import HexPool, Ledger, new_id
from appliance.metrics import Metrics
from appliance.pipeline import Pipeline, Sink, Work
from appliance.settings import Settings
from appliance.types import Endpoint, Key, Request, Task

_ENDPOINT_OF: dict[Task, str] = {"chat": "/v1/chat/completions", "transcribe": "/v1/audio/transcriptions"}


class Service:
    """The rooms behind the routes. ``clock`` gives Unix seconds, ``monotonic`` seconds for durations."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.metrics = Metrics()
        self.registry = Registry(settings, clock)
        self._clock = clock
        self._random_hex = HexPool()
        self._pipeline = Pipeline(ledger, self.registry, self.metrics, monotonic)
        self._running = 0

    def new_id(self) -> str:
        """A request id that sorts by time."""
        return new_id("req", int(self._clock() * 1000), self._random_hex)

    def authenticate(self, exchange: Exchange) -> Key:
        """The caller's key. Raises Unauthorized."""
        return auth.authenticate(exchange, self.ledger)

    def model_for(self, asked: str, task: Task) -> str:
        """The model behind the asked name or alias. Raises NotFound (lists the known) or BadRequest."""
        model = self.registry.resolve(asked)
        found = self.registry.task_of(model)
        if found is None:
            raise self.unknown_model(asked)
        if found != task:
            raise BadRequest(f"the model {asked!r} is served at {_ENDPOINT_OF[found]}", param="model")
        return model

    def names(self) -> list[str]:
        """Every name a caller may use: models that are served or about to be, then aliases."""
        models = self.registry.model_names()
        return [*models, *sorted(a for a, model in self.settings.aliases.items() if model in models)]

    def unknown_model(self, asked: str) -> NotFound:
        """The error that lists the known ones."""
        known = ", ".join(self.names()) or "none"
        return NotFound(
            f"the model {asked[:200]!r} is not served here; known: {known}", code="model_not_found", param="model"
        )

    def request(self, exchange: Exchange, key: Key, endpoint: Endpoint, model: str, stream: bool) -> Request:
        """The admitted request's value."""
        return Request(exchange.request_id, key, endpoint, model, stream, int(self._clock() * 1000))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One of ``server.max_in_flight`` places, taken before a body is read. Raises EngineUnavailable."""
        limit = self.settings.server.max_in_flight
        if self._running >= limit:
            raise EngineUnavailable(
                f"{limit} requests are being worked on; try again in a second, or raise server.max_in_flight",
                code="overloaded",
                headers={"retry-after": "1"},
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    @asynccontextmanager
    async def upload_time(self) -> AsyncIterator[None]:
        """Bounds how long a request may take to arrive. Raises UploadTooSlow."""
        try:
            async with asyncio.timeout(self.settings.server.request_deadline_s):
                yield
        except TimeoutError:
            raise UploadTooSlow(
                f"the request did not arrive within {self.settings.server.request_deadline_s:g} s; send less at a time"
            ) from None

    async def run(self, request: Request, work: Work, sink: Sink) -> None:
        """Run through the pipeline."""
        await self._pipeline.run(request, work, sink)
