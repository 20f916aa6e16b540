"""A box in a network namespace of its own, where one user has a route out. Run as root; prints what happened as JSON.

The outside is a second namespace with a fake Gemini at 203.0.113.1; the box reaches it by a routing table that holds
for the hosted process' user alone, as the firewall of the hardening role does it by user. Exit code 77: this machine
does not let namespaces be made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2  # noqa: F401 - before users change: they may not read where it is installed
import uvicorn.loops.asyncio
import uvicorn.protocols.http.httptools_impl  # noqa: F401
from google import genai
from google.genai import types  # noqa: F401
from hosted import OFFER, HostedHost, body_of, hosted_host, hosted_settings

from appliance.engines import Call
from appliance.engines.address import Address
from appliance.engines.hosted import HostedEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.hosts.fake_gemini import fake_gemini
from appliance.hosts.gemini_request import gemini_request
from appliance.hosts.hosted_client import Endpoint, connected
from appliance.hosts.hosted_errors import mapped
from appliance.policy.egress import Leaving, grant
from appliance.policy.gate import Asked
from appliance.types import End, Event

HOSTED_UID, GATEWAY_UID, GROUP = 64101, 64102, 64100
OUTSIDE, INSIDE, PORT = "203.0.113.1", "198.51.100.2", 8080
URL = f"http://{OUTSIDE}:{PORT}"
_NEWNET = 0x40000000


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True)


def leave_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_NEWNET):
        print(f"no network namespace: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        os._exit(77)


def forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(uid)


def outside(ready: int, go: int) -> None:
    leave_network()
    os.write(ready, b"1")
    os.read(go, 1)
    for arguments in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{OUTSIDE}/32", "dev", "out"),
        ("link", "set", "out", "up"),
        ("route", "add", f"{INSIDE}/32", "dev", "out"),
    ):
        ip(*arguments)

    async def serve() -> None:
        async with fake_gemini(port=PORT, host="0.0.0.0"):
            os.write(ready, b"2")
            await asyncio.Event().wait()

    asyncio.run(serve())


def box(peer: int) -> None:
    """The box's side: a way out that only one user's packets are routed to."""
    for arguments in (
        ("link", "add", "in", "type", "veth", "peer", "name", "out"),
        ("link", "set", "out", "netns", str(peer)),
        ("link", "set", "lo", "up"),
        ("address", "add", f"{INSIDE}/32", "dev", "in"),
        ("link", "set", "in", "up"),
        ("route", "add", f"{OUTSIDE}/32", "dev", "in", "src", INSIDE, "table", "100"),
        ("rule", "add", "uidrange", f"{HOSTED_UID}-{HOSTED_UID}", "lookup", "100"),
    ):
        ip(*arguments)


def hosted_process(home: Path, ready: int, key: str) -> None:
    become(HOSTED_UID)

    async def serve() -> None:
        async with hosted_host(URL, home, permit_key=key) as host:
            while not host.host.ready:  # noqa: ASYNC110 - it looks every few seconds
                await asyncio.sleep(0.01)
            os.write(ready, b"3")
            await asyncio.Event().wait()

    asyncio.run(serve())


class Patched(HostedEngine):
    """A gateway's adapter that somebody has changed to call Google by itself."""

    async def stream(self, call: Call) -> Any:
        async with connected(Endpoint(URL, "global"), "AIza-stolen") as gemini:
            request = gemini_request(json.loads(call.body), 100)
            yield await gemini.generate(call.model, request)


async def said(engine: HostedEngine, call: Call) -> str:
    last: Event | None = None
    try:
        async for event in engine.stream(call):
            last = event
    except ApplianceError as e:
        return e.code
    except Exception as e:
        return mapped(e).code
    return last.body.decode() if isinstance(last, End) else str(last)


def gateway(uid: int, home: Path, socket: Path, out: int) -> None:
    """What the user ``uid`` gets by going out itself, and by asking the hosted process."""
    become(uid)

    async def run() -> dict[str, Any]:
        pool = Pool(Address(socket_path=str(socket)), silence_s=5.0)
        box = HostedHost(None, hosted_settings(URL, home), pool)  # type: ignore[arg-type] - the other side's
        body = body_of("hi")
        leaving = Leaving("tn_local", "c", "r/0", body)
        local = grant(Asked("local_only", ("global",)), OFFER, leaving, nonce="l", now_ms=1)
        return {
            "patched": await said(Patched(pool), box.call(body)),
            "without_permit": await said(box.engine, box.call(body, permit="")),
            "forged": await said(box.engine, box.call(body, permit="e30.e30")),
            "local_only": str(local),
            "allowed": await said(box.engine, box.call(body)),
        }

    os.write(out, json.dumps(asyncio.run(run())).encode())


def main() -> int:
    from appliance.permit_keys import signing_key

    directory = Path(tempfile.mkdtemp(prefix="ap-"))
    homes = {uid: directory / str(uid) for uid in (HOSTED_UID, GATEWAY_UID)}
    key = signing_key(homes[GATEWAY_UID]).public()
    directory.chmod(0o755)
    for uid, home in homes.items():
        home.mkdir(exist_ok=True)
        home.chmod(0o750)
        for path in (home, *home.iterdir()):
            os.chown(path, uid, GROUP)
    genai.Client(api_key="x", vertexai=False)  # what is imported late is imported now
    leave_network()
    ready, told = os.pipe()
    go, say = os.pipe()
    answer, out = os.pipe()
    pids = [forked(lambda: outside(told, go))]
    try:
        if os.read(ready, 1) != b"1":
            return 77
        try:
            box(pids[0])
        except subprocess.CalledProcessError as e:
            print(f"no way out can be made here: {e.stderr.decode().strip()}", file=sys.stderr)
            return 77
        os.write(say, b"go")
        assert os.read(ready, 1) == b"2"
        pids.append(forked(lambda: hosted_process(homes[HOSTED_UID], told, key)))
        assert os.read(ready, 1) == b"3"
        socket, found = homes[HOSTED_UID] / "gemini.sock", {}
        for name, uid in (("gateway", GATEWAY_UID), ("hosted", HOSTED_UID)):
            pids.append(forked(lambda uid=uid: gateway(uid, homes[uid], socket, out)))  # type: ignore[misc]
            assert os.waitpid(pids.pop(), 0)[1] == 0
            found[name] = json.loads(os.read(answer, 65536))
        print(json.dumps(found))
        return 0
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        subprocess.run(("rm", "-rf", str(directory)), check=False)


if __name__ == "__main__":
    signal.alarm(60)
    sys.exit(main())
