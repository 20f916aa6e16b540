"""The hosted process in this event loop, between a fake Gemini and the gateway's own adapter.

``async with fake_gemini() as fake, hosted_host(fake.url, directory) as host`` gives the adapter (``host.engine``) and
``host.permit(body)``; the client inside is the real google-genai.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from msgspec.structs import replace

from appliance.engines import Call
from appliance.engines.address import Address
from appliance.engines.hosted import HostedEngine
from appliance.engines.wire import Pool
from appliance.hosts.hosted_app import Host, create_app
from appliance.hosts.hosted_serve import build, now_ms
from appliance.hosts.serving import listen
from appliance.permit_keys import signing_key
from appliance.policy.egress import EgressPermit, Leaving, Offer, grant, seal
from appliance.policy.gate import Asked
from appliance.settings import Settings
from appliance.types import Data, End

MODEL = "gemini-3.1-flash-lite"
CHAT = "/v1/chat/completions"
ALLOWED = Asked(residency="hosted_allowed", regions=("global",), personal_data="allow")
OFFER = Offer("gemini", MODEL, "global", 250_000_000, 1_500_000_000, max_output_tokens=512)
_nonces = itertools.count()


class HostedHost:
    """A running hosted process and what a gateway would have."""

    def __init__(self, host: Host, settings: Settings, pool: Pool) -> None:
        self.host = host
        self.settings = settings
        self.pool = pool
        self.engine = HostedEngine(pool)
        self.key = signing_key(settings.home)

    def granted(self, body: bytes, asked: Asked = ALLOWED, *, redacted: bool = False, **changes: Any) -> EgressPermit:
        """A permit for ``body``; ``changes`` are made to it before it is sealed."""
        leaving = Leaving("tn_1", "conv_1", "req_1/0", body, redacted)
        permit = grant(asked, OFFER, leaving, nonce=f"n{next(_nonces)}", now_ms=now_ms())
        assert isinstance(permit, EgressPermit), permit
        return replace(permit, **changes)

    def permit(self, body: bytes, **changes: Any) -> str:
        """The same, sealed."""
        return seal(self.granted(body, **changes), self.key)

    def call(self, body: bytes, permit: str | None = None, **changes: Any) -> Call:
        """The engine call for ``body``."""
        token = self.permit(body) if permit is None else permit
        stream = bool(json.loads(body).get("stream"))
        return Call(CHAT, MODEL, body, stream, request_id="req_1", permit=token, **changes)

    async def ask(self, body: bytes, permit: str | None = None, **changes: Any) -> tuple[bytes, End]:
        """Everything that came before the end, and the end."""
        data, end = [], None
        async for event in self.engine.stream(self.call(body, permit, **changes)):
            if isinstance(event, Data):
                data.append(event.body)
            else:
                end = event
        assert end is not None
        return b"".join(data), end


def body_of(text: str, **more: Any) -> bytes:
    """A chat request as the gateway sends it on."""
    messages = more.pop("messages", [{"role": "user", "content": text}])
    if more.get("stream"):
        more.setdefault("stream_options", {"include_usage": True})
    return json.dumps({"model": MODEL, "messages": messages, **more}).encode()


def hosted_settings(url: str, directory: Path, **hosted: Any) -> Settings:
    """Settings of a box with one hosted engine at ``url``."""
    (directory / "gemini.key").write_text("AIza-test-key\n")
    server = hosted.pop("server", {"engine_silence_s": 1.0, "request_deadline_s": 2.0})
    section = {"region": "global", "other_address": True, **hosted}
    engine = {"kind": "hosted", "url": url, "api_key_file": str(directory / "gemini.key"), "hosted": section}
    return Settings.model_validate(
        {"home": directory, "run": directory, "server": server, "engines": {"gemini": engine}}
    )


@asynccontextmanager
async def hosted_host(url: str, directory: Path, **hosted: Any) -> AsyncIterator[HostedHost]:
    """The hosted process on a Unix socket in ``directory``, which keeps its path short."""
    settings = hosted_settings(url, directory, **hosted)
    host = build(settings, settings.engines["gemini"], {})
    path = directory / "gemini.sock"
    server = uvicorn.Server(uvicorn.Config(create_app(host), http="httptools", access_log=False, log_config=None))
    task = asyncio.create_task(server.serve([listen(path, 0o660)]))
    pool = Pool(Address(socket_path=str(path)), silence_s=5.0)
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield HostedHost(host, settings, pool)
    finally:
        pool.close()
        server.should_exit = True
        await task
