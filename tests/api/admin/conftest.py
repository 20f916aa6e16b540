"""The application in this process over a ledger with two tenants, in each of the two databases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledger.conftest import Values, postgres_server, postgres_template, template, url  # noqa: F401 (fixtures)
from starlette.applications import Starlette

from appliance.app import create_app
from appliance.ledger.core import engine
from appliance.ledger.ids import new_id
from appliance.ledger.stores import keys, tenants
from appliance.ledger.stores.changes import Actor
from appliance.settings import EngineSettings, LedgerSettings, Settings
from appliance.types import Channel, Turn

AT_MS = 1_764_000_000_000
_LONG_AGO = Actor("test", lambda: 1_000.0)
USER = "asha"


class World:
    """Callers by name with their secrets; the ids of what each tenant has."""

    def __init__(self, app: Starlette, where: Path | str) -> None:
        self.app = app
        self.where = where
        self.engine = engine(where)
        self.secrets: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.conversations: dict[str, str] = {}
        self.requests: dict[str, str] = {}
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")

    def make_keys(self) -> None:
        actor = Actor("test")
        for tenant in ("acme", "bodega"):
            tenants.create(self.engine, actor, tenant, store_text=True, translation_memory=True)
        for caller, role, tenant in (
            ("client", "client", "acme"),
            ("operator", "operator", "acme"),
            ("other client", "client", "bodega"),
            ("other operator", "operator", "bodega"),
            ("admin", "admin", "default"),
            ("revoked", "admin", "acme"),
            ("spare", "client", "acme"),
        ):
            made = keys.create(self.engine, actor, caller, role, tenant)
            self.secrets[caller], self.keys[caller] = made.secret, made.key.id
        keys.revoke(self.engine, actor, self.keys["revoked"])
        made = keys.create(self.engine, _LONG_AGO, "expired", "admin", "acme", expires_ms=1_000_001)
        self.secrets["expired"] = made.secret
        self.secrets["unknown"] = "ak-" + "x" * 43

    async def talk(
        self, caller: str, name: str | None = None, at_ms: int = AT_MS, channel: Channel = "api", **outcome: Any
    ) -> tuple[str, str]:
        """One answered request; the ids of its conversation and of itself."""
        ledger = self.app.state.service.ledger
        key = ledger.authenticate(self.secrets[caller])
        assert key is not None
        turn = Turn(conversation_id=name, subject=None, channel=channel)
        admission = Values().admission(key, new_id("req", at_ms), at_ms, turn=turn)
        admitted = await ledger.admit(admission)
        await ledger.settle(admission, admitted, Values().outcome(admission.request.id, **outcome))
        return admitted.conversation_id, admission.request.id

    async def ask(self, caller: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {} if caller is None else {"authorization": f"Bearer {self.secrets[caller]}"}
        return await self.client.request(method, path, headers={**headers, **more.pop("headers", {})}, **more)

    async def get(self, caller: str, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        response = await self.ask(caller, "GET", path, params=query)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, template: tuple[Path, str]) -> Iterator[Path | str]:  # noqa: F811
    # a short path: the run directory's sockets live beside it
    home = Path(tempfile.mkdtemp(prefix="ap-"))
    if request.param == "sqlite":
        yield Path(shutil.copy(template[0], home / "ledger.db"))
    else:
        yield request.getfixturevalue("url")
    shutil.rmtree(home)


@asynccontextmanager
async def running(where: Path | str) -> AsyncIterator[World]:
    """The application over ``where``, with both tenants' keys, a conversation and a request each."""
    home = where.parent if isinstance(where, Path) else Path(tempfile.mkdtemp(prefix="ap-"))
    settings = Settings(
        home=home,
        run=home / "run",
        ledger=LedgerSettings() if isinstance(where, Path) else LedgerSettings(url=where),
        engines={"chat": EngineSettings(kind="fake", model="fake")},
    )
    app = create_app(settings)
    made = World(app, where)
    made.make_keys()
    ledger = app.state.service.ledger
    async with app.router.lifespan_context(app):
        ledger._keys.refresh(ledger._journal.db)
        for caller in ("client", "other client"):
            talked = await made.talk(caller, f"conv-of-{caller[:5]}", hosted_nusd=7)
            made.conversations[caller], made.requests[caller] = talked
        yield made
        await made.client.aclose()
        made.engine.dispose()
    if not isinstance(where, Path):
        shutil.rmtree(home)


@pytest.fixture
async def world(where: Path | str) -> AsyncIterator[World]:
    """In each of the two databases."""
    async with running(where) as made:
        yield made


@pytest.fixture
async def sqlite_world(template: tuple[Path, str]) -> AsyncIterator[World]:  # noqa: F811
    """For what the database has no part in."""
    home = Path(tempfile.mkdtemp(prefix="ap-"))
    async with running(Path(shutil.copy(template[0], home / "ledger.db"))) as made:
        yield made
    shutil.rmtree(home)
