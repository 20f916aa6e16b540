"""``appliance live``: the process that holds live sockets, apart from the gateway so that neither delays the other.

What it is: ``WS /v1/realtime`` (OpenAI's protocol; ``resume=`` takes a session up again, ``call_id=`` listens to a
call) and ``WS /v1/realtime/exotel`` in front of the gateway's transcription route. The gateway checks a key before
its socket is accepted; sessions are counted, a socket on which nothing comes for ``idle_s`` is closed.
What it refuses to be: the ledger, or a keeper of audio. It holds what a turn needs, and nothing when the session ends.
Cost: 90 MB; one voice detector for all sessions, 3 ms of CPU for each second of sound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import msgspec
import uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.errors import ApplianceError, NotFound, RateLimited, Unauthorized
from appliance.hosts import live_exotel
from appliance.hosts.live_gateway import Gateway, fresh_token
from appliance.hosts.live_held import GONE, POLICY, Full, Held, Sessions, hung_up
from appliance.hosts.live_pace import Pace
from appliance.hosts.live_session import Limits, Listening, Refused, Session
from appliance.hosts.voice import Voice
from appliance.logs import set_up
from appliance.notify import Notifier
from appliance.settings import Settings
from appliance.types import LiveState

STATE = "live.json"


class LiveLimits(Struct, frozen=True):
    """``sessions_a_key`` and ``sessions`` at once, ``idle_s`` without a command, ``resume_s`` without a socket,
    ``session_s`` in all, ``most_message_bytes``.
    """

    sessions_a_key: int = 16
    sessions: int = 256
    idle_s: float = 60.0
    resume_s: float = 30.0
    session_s: float = 4 * 3600.0
    most_message_bytes: int = 1 << 20
    session: Limits = Limits()


class Live:
    """The routes over ``gateway``; ``listening`` makes a fresh voice detector."""

    def __init__(self, gateway: Gateway, listening: Callable[[], Listening], limits: LiveLimits) -> None:
        self._gateway = gateway
        self._listening = listening
        self._limits = limits
        self._pace = Pace()
        self.sessions = Sessions(limits.sessions_a_key, limits.sessions, limits.resume_s)

    async def health(self, _: Request) -> Response:
        """That it answers, and how many sessions it holds."""
        return JSONResponse({"status": "ok", "sessions": len(self.sessions)})

    async def realtime(self, socket: WebSocket) -> None:
        """``WS /v1/realtime``."""
        try:
            key = await self._known(socket, _key(socket))
            query = socket.query_params
            if query.get("call_id"):
                held = self.sessions.of_call(query["call_id"], key)
                if held is None:
                    raise NotFound(f"no call {query['call_id'][:64]!r} is heard here with this key", code="no_call")
                await self._listened(socket, held)
                return
            after: str | None = None
            if query.get("resume"):
                held, after = self.sessions.get(query["resume"], key), query.get("after", "")
                if held is None:
                    raise NotFound("that session has ended; connect without 'resume'", code="session_ended")
            else:
                held = self._opened(key)
        except ApplianceError as e:
            await _denied(socket, e)
            return
        await self._accept(socket)
        await held.attach(socket, after)
        code = await self._fed(socket, held.receive)
        if held.socket not in (socket, None):
            return  # the session goes on elsewhere
        if code == 1000 or held.ended:
            self.sessions.end(held)
        else:
            self.sessions.cut(held, socket)

    async def exotel(self, socket: WebSocket) -> None:
        """``WS /v1/realtime/exotel``."""
        try:
            key = await self._known(socket, _key(socket) or live_exotel.key_of(socket.headers.get("authorization", "")))
        except ApplianceError as e:
            await _denied(socket, e)
            return
        await self._accept(socket)
        stream = live_exotel.Stream(lambda call: self._of_call(call, key), socket.query_params, time.time)

        async def obey(raw: str | bytes) -> None:
            await stream.receive(raw)
            if stream.stopped:
                raise WebSocketDisconnect(1000)

        await self._fed(socket, obey)
        held = stream.held
        if held is None or held.ended:
            return
        if stream.stopped:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.idle_s):
                    await held.session.finish()
        await hung_up(socket, 1000, "")
        self.sessions.cut(held, socket)  # who listens may still join and read what was said

    # pieces

    async def _known(self, socket: WebSocket, key: str) -> str:
        if not await self._gateway.knows(key):
            raise Unauthorized("this API key is not known here, or it was revoked; send one as a bearer token")
        return key

    def _opened(self, key: str) -> Held:
        def make(publish: Callable[..., Awaitable[None]]) -> Session:
            transcribe, check = partial(self._gateway.transcribe, key), partial(self._gateway.check, key)
            return Session(publish, transcribe, self._listening, self._limits.session, pace=self._pace, check=check)

        try:
            return self.sessions.open(key, make)
        except Full as e:
            raise RateLimited(str(e), code="too_many_sessions") from None

    def _of_call(self, call_id: str, key: str) -> Held:
        """A call's session: a new one, or the one its last socket left behind."""
        held = self.sessions.of_call(call_id, key) or self._opened(key)
        held.call_id = call_id
        held.keep()
        return held

    async def _accept(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol="realtime" if "realtime" in socket.scope["subprotocols"] else None)

    async def _fed(self, socket: WebSocket, obey: Callable[[str | bytes], Awaitable[None]]) -> int:
        """Every message of ``socket`` until it is closed; the code it was closed with."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.session_s):
                while True:
                    try:
                        async with asyncio.timeout(limits.idle_s):
                            message = await socket.receive()
                    except TimeoutError:
                        await hung_up(socket, GONE, f"nothing came for {limits.idle_s:g} s")
                        return 1000
                    if message["type"] == "websocket.disconnect":
                        return int(message.get("code") or 1005)
                    await obey(message.get("text") or message.get("bytes") or b"")
        except TimeoutError:
            await hung_up(socket, GONE, f"a session lasts {limits.session_s:g} s at most; connect again")
            return 1000
        except WebSocketDisconnect as e:
            return e.code
        except (Refused, ApplianceError) as e:
            await hung_up(socket, POLICY, str(e)[:120])
            return POLICY
        except RuntimeError:  # it was closed from here, by another task
            return 1005

    async def _listened(self, socket: WebSocket, held: Held) -> None:
        """A listener: hears everything, and may change settings."""
        await self._accept(socket)
        hearing = asyncio.create_task(held.listen(socket))
        feeding = asyncio.create_task(self._commanded(socket, held))
        try:
            await asyncio.wait([hearing, feeding], return_when=asyncio.FIRST_COMPLETED)
        finally:
            hearing.cancel()
            feeding.cancel()
            await asyncio.gather(hearing, feeding, return_exceptions=True)
        await hung_up(socket, 1000, "the call has ended" if held.ended else "")

    async def _commanded(self, socket: WebSocket, held: Held) -> None:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            raw = message.get("text") or message.get("bytes") or b""
            if b"input_audio_buffer.append" not in (raw.encode() if isinstance(raw, str) else raw):
                await held.receive(raw)  # sound comes from the call alone


def create_app(
    gateway: Gateway, listening: Callable[[], Listening], limits: LiveLimits, notifier: Notifier | None = None
) -> Starlette:
    """The ASGI application. ``notifier`` is told when it starts, and that its event loop turns."""
    live = Live(gateway, listening, limits)
    manager = notifier or Notifier("", 0.0)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        feeding = asyncio.create_task(manager.feed(lambda: True))
        manager.ready("holds live sockets")
        yield
        manager.stopping()
        feeding.cancel()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/health", live.health),
            WebSocketRoute("/v1/realtime", live.realtime),
            WebSocketRoute("/v1/realtime/exotel", live.exotel),
        ],
    )


def _key(socket: WebSocket) -> str:
    """From the header, or from the subprotocol in which browsers send it."""
    scheme, _, key = socket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    prefix = "openai-insecure-api-key."
    offered: list[str] = socket.scope["subprotocols"]
    return next((name.removeprefix(prefix) for name in offered if name.startswith(prefix)), "")


async def _denied(socket: WebSocket, e: ApplianceError) -> None:
    """The handshake answered with the error, as every route answers."""
    await socket.send_denial_response(Response(e.envelope(), e.status, e.headers, "application/json"))


def limits_of(settings: Settings) -> LiveLimits:
    """What ``[live]`` says."""
    live = settings.live
    return LiveLimits(
        sessions_a_key=live.sessions_a_key,
        sessions=live.sessions,
        idle_s=live.idle_s,
        resume_s=live.resume_s,
        session_s=live.session_s,
        session=Limits(partial_s=live.partial_s, ahead_ms=live.ahead_ms),
    )


@contextlib.contextmanager
def _announced(path: Path, state: LiveState) -> Iterator[None]:
    """``run/live.json`` while the block runs."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(state))
    part.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _stop(signum: int, frame: object) -> None:
    sys.exit(0)


def serve_live(settings: Settings, host: str, port: int, gateway_url: str, notifier: Notifier) -> None:
    """Serve until SIGTERM."""
    set_up("live", "text")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it writes a line a request
    voice = Voice()
    # one turn of a minute may wait behind others; the gateway has its own deadline
    client = httpx2.AsyncClient(base_url=gateway_url, timeout=httpx2.Timeout(10.0, read=600.0), trust_env=False)
    limits = limits_of(settings)
    config = uvicorn.Config(
        create_app(Gateway(client, fresh_token(settings.run)), voice.listening, limits, notifier),
        host=host,
        port=port,
        ws="websockets-sansio",
        ws_max_size=limits.most_message_bytes,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    # before uvicorn runs a signal ends the process; uvicorn takes over, closes the sockets, and raises it once more
    signal.signal(signal.SIGTERM, _stop)
    with _announced(settings.run / STATE, LiveState(os.getpid(), f"{host}:{port}", time.time())):
        uvicorn.Server(config).run()
