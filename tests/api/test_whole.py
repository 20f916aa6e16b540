"""A whole answer in one write: by the very uvicorn that is installed, and byte for byte what uvicorn sends itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from appliance.api import whole

BODY = b'{"answer": "\xe0\xa4\xb9\xe0\xa4\xbe\xe0\xa4\x81"}'


class App:
    """Answers by ``whole`` on paths that begin with /whole, by ASGI on the rest; what it says is in the query."""

    def __init__(self) -> None:
        self.written: list[bool] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        value = scope["query_string"] or b"plain"
        headers = [
            (b"content-type", b"application/json"),
            (b"x-said", value.replace(b"%0A", b"\n").replace(b"%0D", b"\r")),
            (b"content-length", str(len(BODY)).encode()),
        ]
        if scope["path"].startswith("/whole"):
            self.written.append(whole.write(send, headers, BODY))
            if self.written[-1]:
                return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})


class Protocol(HttpToolsProtocol):
    """pytest listens to every logger that does not propagate, which uvicorn takes for an access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class Box:
    def __init__(self, app: App, path: Path) -> None:
        self.app = app
        self.path = path

    def say(self, raw: bytes, answers: int = 1) -> bytes:
        """What comes back on one connection, until so many bodies came or it closed."""
        got = b""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.path))
            s.sendall(raw)
            while got.count(BODY) < answers and (piece := s.recv(65536)):
                got += piece
        return got

    def closed(self, raw: bytes) -> bytes:
        """What comes back until the server closes."""
        return self.say(raw, answers=99)


@pytest.fixture(scope="module", params=[True, False], ids=["server and date headers", "none"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    path = tmp_path_factory.mktemp("s") / "s"
    app = App()
    config = uvicorn.Config(
        app,
        uds=str(path),
        loop="uvloop",
        http=Protocol,
        access_log=False,
        log_config=None,
        server_header=request.param,
        date_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "uvicorn did not start"
    yield Box(app, path)
    server.should_exit = True
    thread.join(10)


def post(path: str, more: str = "", method: str = "POST", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nhost: x\r\ncontent-length: 2\r\n{more}\r\n{{}}".encode()


def test_the_installed_uvicorn_is_one_that_was_read() -> None:
    assert uvicorn.__version__ in whole.READ_VERSIONS, (
        "read RequestResponseCycle.send of the new uvicorn against appliance/api/whole.py, then add its version"
    )


@pytest.mark.parametrize("query", ["", "?a%20b", "?" + "x" * 3000])
def test_what_is_sent_is_what_uvicorn_sends(box: Box, query: str) -> None:
    box.app.written.clear()
    ours = box.say(post(f"/whole{query}"))
    assert box.app.written == [True]
    assert ours == box.say(post(f"/asgi{query}"))
    assert ours.startswith(b"HTTP/1.1 200 OK\r\n") and ours.endswith(b"\r\n\r\n" + BODY)


def test_the_connection_serves_on_and_pipelined_requests_come_in_order(box: Box) -> None:
    box.app.written.clear()
    answers = box.say(post("/whole?1") + post("/whole?2") + post("/asgi?3") + post("/whole?4"), answers=4)
    assert [p.split(b"\r\n")[0] for p in answers.split(b"x-said: ")[1:]] == [b"1", b"2", b"3", b"4"]
    assert box.app.written == [True, True, True]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (post("/whole", more="connection: close\r\n"), "the connection closes"),
        (post("/whole", version="1.0"), "a caller of HTTP/1.0"),
    ],
)
def test_a_connection_that_closes_goes_by_asgi(box: Box, raw: bytes, why: str) -> None:
    box.app.written.clear()
    answer = box.closed(raw)
    assert box.app.written == [False], why
    assert b"connection: close" in answer and answer.endswith(BODY)


def test_a_head_request_has_no_body(box: Box) -> None:
    box.app.written.clear()
    answer = box.closed(post("/whole", more="connection: close\r\n", method="HEAD"))
    assert box.app.written == [False]
    assert BODY not in answer


@pytest.mark.parametrize("query", ["?a%0Ax-evil:%201", "?a%0D%0Ax-evil:%201"])
def test_a_header_is_not_split(box: Box, query: str) -> None:
    box.app.written.clear()
    answer = box.closed(post(f"/whole{query}"))
    assert box.app.written == [False]
    assert b"x-evil" not in answer and b"200" not in answer


class Flow:
    write_paused = False


class Transport:
    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


def cycle(**changed: Any) -> RequestResponseCycle:
    made = RequestResponseCycle(
        scope={"method": "POST"},  # type: ignore[typeddict-item]
        transport=Transport(),  # type: ignore[arg-type]
        flow=Flow(),  # type: ignore[arg-type]
        logger=None,  # type: ignore[arg-type]
        access_logger=None,  # type: ignore[arg-type]
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    for name, value in changed.items():
        setattr(made, name, value)
    return made


async def test_what_is_out_of_the_ordinary_is_left_to_asgi() -> None:
    assert whole.write(cycle().send, [], b"")  # the ordinary
    paused = Flow()
    paused.write_paused = True
    for left in (
        {"response_started": True},
        {"disconnected": True},
        {"keep_alive": False},
        {"access_log": True},
        {"flow": paused},
        {"scope": {"method": "HEAD"}},
    ):
        one = cycle(**left)
        assert not whole.write(one.send, [], b""), left
        assert one.transport.sent == b"", left  # type: ignore[attr-defined]


async def test_another_server_and_a_send_that_is_wrapped_are_left_to_asgi() -> None:
    async def send(message: Any) -> None: ...

    class Other(RequestResponseCycle):
        pass

    other = cycle()
    other.__class__ = Other
    assert not whole.write(send, [], b"")
    assert not whole.write(other.send, [], b"")


async def test_a_uvicorn_that_nobody_read_is_left_to_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "_READ", False)
    assert not whole.write(cycle().send, [], b"")


async def test_every_control_character_but_tab_is_left_to_asgi() -> None:
    for code in (*range(32), 127):
        one = cycle()
        took = whole.write(one.send, [(b"x", bytes([65, code]))], b"")
        assert took is (code == 9), code
        with contextlib.suppress(RuntimeError):
            another = cycle()
            await another.send({"type": "http.response.start", "status": 200, "headers": [(b"x", bytes([65, code]))]})
            assert took, "uvicorn takes it"
