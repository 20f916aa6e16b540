"""google-genai, tamed: one asynchronous client a process, no retries, streams that stop when they are told to.

What it is: where the client is built (explicit address, version, key and region; nothing of the environment is
believed) and the one way answers are streamed: each in a task of its own that feeds a bounded queue. Closing a stream
of google-genai lets the server send the whole generation (python-genai #2425); cancelling the task disconnects.
What it refuses to be: a policy. Which attempt comes next is the gateway's.
What it costs: importing google-genai takes 0.9 s, once; a cancelled stream stops within one chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from appliance.hosts.gemini_request import GeminiRequest

API_VERSION = "v1"
CONNECT_S = 10.0
_AHEAD = 8
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Endpoint(Struct, frozen=True):
    """Where Gemini is: ``base_url`` follows from the region unless another address was set on purpose.

    ``proxy``: the site's way out. ``silence_s`` bounds the gap between two reads of a stream, ``whole_s`` the silence
    before an answer that comes whole.
    """

    base_url: str
    region: str
    project: str | None = None
    proxy: str | None = None
    silence_s: float = 120.0
    whole_s: float = 600.0


class Gemini(Protocol):
    """What the host needs of a client; plain values of google-genai's responses."""

    async def generate(self, model: str, request: GeminiRequest) -> dict[str, Any]:
        """The whole answer."""
        ...

    def stream(self, model: str, request: GeminiRequest) -> AsyncGenerator[dict[str, Any]]:
        """The answer in pieces. Closing it stops the generation."""
        ...

    async def look(self, model: str) -> int:
        """Tokens that the model takes, 0 if unknown: from its card, which is free. Raises what the client raises."""
        ...


def base_url(region: str, project: str | None, url: str | None) -> str:
    """The address for a declared region; ``url`` is one that was set on purpose."""
    if url is not None:
        return url
    if project is None:
        return "https://generativelanguage.googleapis.com"
    if region == "global":
        return "https://aiplatform.googleapis.com"
    if region in ("us", "eu"):
        return f"https://aiplatform.{region}.rep.googleapis.com"
    return f"https://{region}-aiplatform.googleapis.com"


class GoogleGemini:
    """google-genai behind ``Gemini``."""

    def __init__(self, client: Any, whole_s: float) -> None:
        self._models = client.aio.models
        self._whole = {"http_options": {"timeout": round(whole_s * 1000)}}

    async def generate(self, model: str, request: GeminiRequest) -> dict[str, Any]:
        """The whole answer; cancelling it disconnects."""
        config = request.config | self._whole
        return _plain(await self._models.generate_content(model=model, contents=request.contents, config=config))

    async def stream(self, model: str, request: GeminiRequest) -> AsyncGenerator[dict[str, Any]]:
        """Pieces as they come. At most ``_AHEAD`` wait for a slow reader; the rest waits in the connection."""
        queue: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue(_AHEAD)

        async def pump() -> None:
            try:
                chunks = await self._models.generate_content_stream(
                    model=model, contents=request.contents, config=request.config
                )
                async for chunk in chunks:
                    await queue.put(_plain(chunk))
                await queue.put(None)
            except Exception as e:
                await queue.put(e)

        task = asyncio.create_task(pump())
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def look(self, model: str) -> int:
        """From the model's card."""
        card = await self._models.get(model=model)
        return int(card.input_token_limit or 0)


def _plain(response: Any) -> dict[str, Any]:
    plain: dict[str, Any] = response.model_dump(exclude_none=True, exclude={"sdk_http_response", "parsed"})
    return plain


@asynccontextmanager
async def connected(endpoint: Endpoint, secret: str) -> AsyncGenerator[GoogleGemini]:
    """The process' one client. ``secret`` is an API key, or a service account's JSON where there is a project."""
    import ssl

    import httpx2
    from google import genai
    from google.genai import types

    async def connect_soon(request: Any) -> None:
        # google-genai hands one number down for everything, and a connection is never worth a minute's wait
        times = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {**times, "connect": CONNECT_S, "pool": CONNECT_S}

    # the system's trust store, where a site keeps the certificate of a proxy that looks into TLS
    trust = ssl.create_default_context()
    http = httpx2.AsyncClient(
        verify=trust,
        event_hooks={"request": [connect_soon]},
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        follow_redirects=False,
        trust_env=False,  # where requests go is in appliance.toml alone
        proxy=endpoint.proxy,
    )
    options = types.HttpOptions(
        base_url=endpoint.base_url,
        api_version=API_VERSION,
        timeout=round(endpoint.silence_s * 1000),
        retry_options=types.HttpRetryOptions(attempts=1),
        httpx_async_client=http,
        httpx_client=httpx2.Client(verify=trust, trust_env=False),  # never used, and dear to make without this
    )
    client = genai.Client(http_options=options, **_credentials(endpoint, secret))
    try:
        yield GoogleGemini(client, endpoint.whole_s)
    finally:
        await client.aio.aclose()
        await http.aclose()


def _credentials(endpoint: Endpoint, secret: str) -> Mapping[str, Any]:
    if endpoint.project is None:
        return {"vertexai": False, "api_key": secret}
    place = {"vertexai": True, "project": endpoint.project, "location": endpoint.region}
    return {**place, "credentials": _service_account(secret)}


def _service_account(secret: str) -> Any:
    import json

    from google.oauth2 import service_account

    make: Any = service_account.Credentials.from_service_account_info
    try:
        return make(json.loads(secret), scopes=[_SCOPE])
    except (ValueError, TypeError, AttributeError):  # what it says may quote the key
        raise CannotConnect(
            "api_key_file holds no service account's JSON key, which vertex_project needs; download one from Google"
        ) from None


class CannotConnect(Exception):
    """The client cannot be made as configured; the text is one sentence that names the fix."""


def read_secret(name: str, environ: Mapping[str, str]) -> str:
    """What is in the key file ``name``: a path, or a name below systemd's ``$CREDENTIALS_DIRECTORY``."""
    path = Path(name).expanduser()
    if not path.is_absolute():
        held = environ.get("CREDENTIALS_DIRECTORY")
        path = Path(held, name) if held else Path(environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser() / name
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise CannotConnect(
            f"api_key_file {path} cannot be read: {getattr(e, 'strerror', None) or 'no text'}"
        ) from None
    if not secret:
        raise CannotConnect(f"api_key_file {path} is empty; put the key into it")
    return secret
