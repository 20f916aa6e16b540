"""The gateway in this event loop: the real application over fake engines, a fake translation and a fake Gemini.

``async with gateway() as g`` has two chat engines ("a" and "b", model "fake") on Unix sockets, and whatever else is
asked for; ``gemini_url`` is where Gemini is looked for instead of the fake. ``await g.ask("…")`` is one request through
the ASGI application, ``g.entry(request_id)`` what the ledger says of it. Nothing leaves the process but to loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from translation.fakes import Fake as FakeTranslation

from appliance.app import create_app
from appliance.hosts.fake_answers import FakeEngine, FakeOptions
from appliance.hosts.fake_gemini import Options, Running, fake_gemini
from appliance.hosts.fake_script import Script, plain, respond
from appliance.hosts.fake_server import Call, Counters, FakeProtocol
from appliance.ledger.admin_key import ensure_admin_key
from appliance.settings import Settings

GEMINI = "gemini-3.1-flash-lite"
HOSTED = f'[hosted]\nenabled = true\nmodel = "{GEMINI}"\n'
CHAT = "/v1/chat/completions"


class Gateway:
    """A running application and eyes on everything behind it."""

    def __init__(self, app: Any, home: Path, key: str) -> None:
        self.app = app
        self.home = home
        self.key = key
        self.service = app.state.service
        self.counters: dict[str, Counters] = {}
        self.translation = FakeTranslation()
        self.gemini: Running | None = None
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers={"authorization": f"Bearer {key}"}, timeout=30
        )

    async def ask(self, text: str | None = None, *, stream: bool = False, **more: Any) -> httpx.Response:
        """One chat request whose last user message is ``text``, its answer read whole."""
        headers = more.pop("headers", None)
        messages = more.pop("messages", None) or [{"role": "user", "content": text}]
        body = {"model": "fake", "messages": messages, "stream": stream, **more}
        return await self.client.post(CHAT, json=body, headers=headers)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What the ledger holds."""
        with closing(sqlite3.connect(f"file:{self.home}/ledger.db?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute(sql, values)]

    def entry(self, request_id: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        """The request's row, its attempts and its calls."""
        (request,) = self.rows("SELECT * FROM requests WHERE id = ?", request_id)
        attempts = self.rows("SELECT * FROM attempts WHERE request_id = ? ORDER BY ordinal", request_id)
        calls = self.rows("SELECT * FROM calls WHERE request_id = ? ORDER BY attempt_ordinal, ordinal", request_id)
        return request, attempts, calls

    def last(self, engine: str) -> dict[str, Any]:
        """The body that ``engine`` was given last."""
        call = self.counters[engine].last
        assert call is not None
        found: dict[str, Any] = json.loads(call.body)
        return found

    def set_policy(self, text: str | None) -> None:
        """Write policy.toml, or remove it, and have it read."""
        path = self.home / "policy.toml"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
        self.service.policing.look()

    def say(self, engine: str, **changes: Any) -> None:
        """Write an engine's state file anew, and have it read."""
        path = self.home / "run" / f"{engine}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        self.service.registry.read_states()


@asynccontextmanager
async def gateway(
    *,
    engines: dict[str, FakeOptions | None] | None = None,
    policy: str | None = None,
    hosted: bool = False,
    translation: bool = False,
    residency: str = "local_only",
    cap_nusd: int | None = None,
    store_text: bool = False,
    gemini: Options | None = None,
    gemini_url: str = "",
    server: dict[str, Any] | None = None,
) -> AsyncIterator[Gateway]:
    """Run it. An engine that is None says that it serves the model of its name, and nobody listens.

    ``residency`` is the tenant's; with ``hosted`` there is an engine "gemini" in region global.
    """
    engines = {"a": FakeOptions(), "b": FakeOptions()} if engines is None else engines
    home = Path(tempfile.mkdtemp(prefix="ap-"))
    (home / "run").mkdir(mode=0o700)
    try:
        async with AsyncExitStack() as stack:
            fake = await stack.enter_async_context(fake_gemini(gemini)) if hosted and not gemini_url else None
            if gemini_url:
                fake = Running(gemini_url, Counters())
            settings = _settings(home, engines, server, fake, translation)
            _, secret = ensure_admin_key(home / "ledger.db", home / "admin.key")
            _allow(home, residency, cap_nusd, store_text)
            if policy is not None:
                (home / "policy.toml").write_text(policy)
            counters = {name: Counters() for name in engines}
            for name, options in engines.items():
                if options is None:
                    _state(home, name, models=[name])
                else:
                    await stack.enter_async_context(_engine(home, name, options, counters[name]))
            if fake is not None:
                await stack.enter_async_context(_hosted(home, settings))
            app = create_app(settings)
            running = Gateway(app, home, secret or (home / "admin.key").read_text().strip())
            running.counters = counters
            running.gemini = fake
            if translation:
                await stack.enter_async_context(_translation(home, running.translation))
            await stack.enter_async_context(app.router.lifespan_context(app))
            try:
                yield running
            finally:
                await running.client.aclose()
    finally:
        shutil.rmtree(home)


def _settings(
    home: Path,
    fakes: Mapping[str, FakeOptions | None],
    server: dict[str, Any] | None,
    fake: Running | None,
    translation: bool,
) -> Settings:
    engines: dict[str, Any] = {
        name: {"kind": "fake", "model": name if options is None else "fake"} for name, options in fakes.items()
    }
    if fake is not None:
        (home / "gemini.key").write_text("AIza-test-key\n")
        section = {"region": "global", "other_address": True, "check": False}
        engines["gemini"] = {
            "kind": "hosted", "url": fake.url, "api_key_file": str(home / "gemini.key"), "hosted": section,
        }  # fmt: skip
    if translation:
        engines["translate"] = {"kind": "translate", "task": "translate", "model": "indic"}
    given = {"request_deadline_s": 5.0, "engine_silence_s": 2.0, **(server or {})}
    return Settings.model_validate({"home": home, "run": home / "run", "server": given, "engines": engines})


def _allow(home: Path, residency: str, cap_nusd: int | None, store_text: bool) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as ledger:
        ledger.execute(
            "UPDATE tenants SET residency = ?, regions = '[\"global\"]', cap_nusd = ?, store_text = ?",
            (residency, cap_nusd, store_text),
        )
        for unit, usd in (("prompt_token", "0.25"), ("cached_token", "0.025"), ("completion_token", "1.5")):
            ledger.execute(
                "INSERT OR REPLACE INTO prices (provider, model, unit, batch, effective_ms, usd_per_million, source)"
                " VALUES ('google', ?, ?, 0, 0, ?, 'test')",
                (GEMINI, unit, usd),
            )
        ledger.execute("UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = 'auth_version'")
        ledger.commit()


def _state(home: Path, name: str, **changes: Any) -> None:
    state = {
        "name": name, "kind": "fake", "task": "chat", "phase": "ready", "address": str(home / "run" / f"{name}.sock"),
        "models": ["fake"], "detail": "", "since_unix_s": 0.0, "supervisor_pid": os.getpid(), "engine_pid": os.getpid(),
    }  # fmt: skip
    (home / "run" / f"{name}.json").write_text(json.dumps({**state, **changes}))


@asynccontextmanager
async def _listening(home: Path, name: str, protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[None]:
    server = await asyncio.get_running_loop().create_unix_server(protocol, home / "run" / f"{name}.sock")
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def _engine(home: Path, name: str, options: FakeOptions, counters: Counters) -> AsyncIterator[None]:
    loop, engine = asyncio.get_running_loop(), FakeEngine(options, counters)
    _state(home, name)
    async with _listening(home, name, lambda: FakeProtocol(engine, counters, 1_000_000, loop)):
        yield


@asynccontextmanager
async def _translation(home: Path, fake: FakeTranslation) -> AsyncIterator[None]:
    """A translation host that changes every letter, so that tests see what was translated."""
    loop, counters = asyncio.get_running_loop(), Counters()

    def answer(call: Call) -> tuple[Script, bool]:
        asked = json.loads(call.body)
        if asked["items"] and asked["items"][0]["text"] == "[[fault]]":
            return plain(respond(429, b'{"error":{"message":"full"}}')), True
        texts = [
            i["text"] if i["source"] is None else fake._one(i["text"], i["source"], asked["target"])
            for i in asked["items"]
        ]
        for item in asked["items"]:
            fake.calls.append(([item["text"]], item["source"], asked["target"]))
        size = sum(len(i["text"]) for i in asked["items"])
        usage = {"characters": size, "sentences": len(texts), "prompt_tokens": 3, "completion_tokens": 4}
        done = zip(texts, asked["items"], strict=True)
        made = [{"text": text, "source": i["source"], "confidence": 0.9, "via": ["indic"]} for text, i in done]
        return plain(respond(200, msgspec.json.encode({"translations": made, "usage": usage}))), True

    _state(home, "translate", kind="translate", task="translate", models=["indic"])
    async with _listening(home, "translate", lambda: FakeProtocol(answer, counters, 1_000_000, loop)):
        yield


@asynccontextmanager
async def _hosted(home: Path, settings: Settings) -> AsyncIterator[None]:
    from appliance.hosts.hosted_app import create_app as hosted_app
    from appliance.hosts.hosted_serve import build
    from appliance.hosts.serving import listen

    host = build(settings, settings.engines["gemini"], {})
    server = uvicorn.Server(uvicorn.Config(hosted_app(host), http="httptools", access_log=False, log_config=None))
    task = asyncio.create_task(server.serve([listen(home / "run" / "gemini.sock", 0o660)]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    _state(home, "gemini", kind="hosted", models=[GEMINI], region="global")
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


def events_of(response: httpx.Response) -> list[Any]:
    """The events of a stream; ``[DONE]`` as a string."""
    lines = [line for line in response.text.split("\n\n") if line]
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def text_of(response: httpx.Response) -> str:
    """What a chat answer says, streamed or not."""
    if response.headers["content-type"].startswith("text/event-stream"):
        chunks = [e for e in events_of(response) if isinstance(e, dict) and e.get("choices")]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    return str(response.json()["choices"][0]["message"]["content"])
