"""Sessions that outlive a socket: who holds one, who listens, what was said since.

What it is: ``Held``, a session with the socket that feeds it (or none for ``resume_s`` after a cut), any number of
listeners, and its last events; ``Sessions``, all of them, with the caps.
What it refuses to be: a store. A session that nobody came back to in time is gone; all are when the process ends.
What it costs: 256 events a session, and a task for each listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from appliance.hosts.live_session import Refused, Session

_log = logging.getLogger(__name__)
_EVENTS = 256
GONE, POLICY, LATER = 1001, 1008, 1013
"""WebSocket close codes: going away, a key, try again later."""


class Full(Exception):
    """No more sessions for this key, or for anybody; the text says which."""


class Socket(Protocol):
    """What is needed of a WebSocket. Both raise OSError, RuntimeError or WebSocketDisconnect where it is gone."""

    async def send_text(self, data: str) -> None: ...
    async def close(self, code: int = 1000, reason: str | None = None) -> None: ...


class Held:
    """One session. ``make`` builds it around ``publish``."""

    def __init__(self, key: str, make: Callable[[Callable[[dict[str, Any]], Any]], Session]) -> None:
        self.key = key
        self.call_id = ""
        self.session = make(self.publish)
        self.socket: Socket | None = None
        self.ended = False
        self._listeners: dict[Socket, asyncio.Queue[str | None]] = {}
        self._events: deque[tuple[str, str]] = deque(maxlen=_EVENTS)
        self._sending, self._obeying = asyncio.Lock(), asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self.work = asyncio.create_task(self.session.work())

    async def publish(self, event: dict[str, Any]) -> None:
        """To whoever is there, and kept for who comes back."""
        async with self._sending:
            text = msgspec.json.encode(event).decode()
            self._events.append((event["event_id"], text))
            for socket, queue in list(self._listeners.items()):
                if queue.qsize() < _EVENTS:
                    queue.put_nowait(text)
                else:
                    self._leave(socket)
            if self.socket is not None and not await said(self.socket, text):
                self.socket = None

    async def receive(self, raw: str | bytes) -> None:
        """A command, from the socket or a listener, one at a time."""
        async with self._obeying:
            await self.session.receive(raw)

    async def attach(self, socket: Socket, after: str | None = None) -> None:
        """``socket`` holds the session from now; where it comes back, it is told what it has missed since ``after``."""
        self.keep()
        old, self.socket = self.socket, None
        if old is not None:
            await hung_up(old, GONE, "the session was taken up on another socket")
        async with self._sending:
            if after is not None:
                for text in (self._resumed(), *self._since(after)):
                    await said(socket, text)
            self.socket = socket
        if after is None:
            await self.session.begin()

    def keep(self) -> None:
        """It was taken up again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def waiting(self) -> bool:
        """Whether it was cut off and nobody has come back yet."""
        return self._timer is not None

    def detach(self, socket: Socket, within_s: float, then: Callable[[], None]) -> None:
        """The socket was cut: ``then`` is called where nobody takes the session up ``within_s``."""
        if self.socket is socket or self.socket is None:
            self.socket = None
            self.keep()
            self._timer = asyncio.get_running_loop().call_later(within_s, then)

    async def listen(self, socket: Socket) -> None:
        """Tell ``socket`` what was said and what will be, until the session ends or the caller is cancelled."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        async with self._sending:
            for text in (self._resumed(), *self._since("")):
                queue.put_nowait(text)
            self._listeners[socket] = queue
        try:
            while (line := await queue.get()) is not None and await said(socket, line):
                pass
        finally:
            self._listeners.pop(socket, None)

    def _leave(self, socket: Socket) -> None:
        """A listener that does not keep up, or whose session has ended, hears what is queued and then the end."""
        self._listeners.pop(socket).put_nowait(None)

    def end(self) -> None:
        """No more events. Its tasks are cancelled."""
        self.ended = True
        self.keep()
        self.work.cancel()
        for socket in list(self._listeners):
            self._leave(socket)

    def _resumed(self) -> str:
        event = {"type": "session.created", "event_id": f"event_resumed_{self.session.id}"}
        more = {"session": self.session.shown, "resumed": True, "received_ms": self.session.received_ms}
        return msgspec.json.encode({**event, **more}).decode()

    def _since(self, after: str) -> list[str]:
        """What came after the event ``after``; everything kept where that one is no longer known."""
        ids = [event_id for event_id, _ in self._events]
        begin = ids.index(after) + 1 if after in ids else 0
        return [text for _, text in list(self._events)[begin:] if '"type":"session.created"' not in text[:40]]


class Sessions:
    """All sessions of the process: at most ``a_key`` for one key and ``in_all``."""

    def __init__(self, a_key: int, in_all: int, resume_s: float) -> None:
        self._a_key, self._in_all, self._resume_s = a_key, in_all, resume_s
        self._held: dict[str, Held] = {}
        self._keys: Counter[str] = Counter()
        self._closing: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def open(self, key: str, make: Callable[[Callable[[dict[str, Any]], Any]], Session]) -> Held:
        """A new session. One of the same key that waits to be taken up again makes room. Raises Full."""
        if self._keys[key] >= self._a_key:
            left = next((h for h in self._held.values() if h.key == key and h.waiting), None)
            if left is None:
                raise Full(f"this key holds {self._a_key} live sessions already; close one first")
            self.end(left)
        if len(self._held) >= self._in_all:
            raise Full(f"all {self._in_all} live sessions of this machine are taken; try again later")
        held = Held(key, make)
        self._held[held.session.id] = held
        self._keys[key] += 1
        held.work.add_done_callback(lambda task: self._stopped(held, task))
        return held

    def get(self, session_id: str, key: str) -> Held | None:
        """The session, where it is ``key``'s."""
        held = self._held.get(session_id)
        return held if held is not None and held.key == key else None

    def of_call(self, call_id: str, key: str) -> Held | None:
        """The session of a telephone call, where it is ``key``'s."""
        mine = (h for h in self._held.values() if h.call_id and h.call_id == call_id and h.key == key)
        return next(mine, None)

    def cut(self, held: Held, socket: Socket) -> None:
        """Its socket is gone; it waits to be taken up again."""
        held.detach(socket, self._resume_s, lambda: self.end(held))

    def end(self, held: Held) -> None:
        """It is over. May be called twice."""
        if self._held.pop(held.session.id, None) is not None:
            self._keys[held.key] -= 1
            if not self._keys[held.key]:
                del self._keys[held.key]
        held.end()

    def _stopped(self, held: Held, task: asyncio.Task[None]) -> None:
        """Its work ended by itself: the key is no longer known, or it has a fault."""
        if task.cancelled():
            return
        error = task.exception()
        if not isinstance(error, Refused):
            _log.error("a live session failed", exc_info=error)
        socket = held.socket
        self.end(held)
        if socket is not None:
            known = isinstance(error, Refused)
            why = (POLICY, "this API key was revoked") if known else (1011, "the session failed; connect again")
            closing = asyncio.ensure_future(hung_up(socket, *why))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def said(socket: Socket, text: str) -> bool:
    """Whether it could be sent."""
    try:
        await socket.send_text(text)
    except Exception as e:  # uvicorn and Starlette raise whatever they stand at when a peer has left
        _log.debug("a socket is gone: %r", e)
        return False
    return True


async def hung_up(socket: Socket, code: int, reason: str) -> None:
    """Closed, if it was open."""
    try:
        await socket.close(code, reason)
    except Exception as e:
        _log.debug("a socket was closed already: %r", e)
