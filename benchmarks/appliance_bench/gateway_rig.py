"""The processes of the gateway bench: upstream and load on one core, what is measured on the other.

What it is: starting, pinning, watching and ending them. Each runs in its own session with a temp
directory as working directory; the gateway has a real home, a real admin key and a real ledger.
What it refuses to be: a supervisor. A process that does not come up ends the bench with its log.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance_bench.load import LoadReport

UPSTREAM_CORE, GATEWAY_CORE = 0, 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(RuntimeError):
    """The bench cannot go on; the message says what to do."""


class Target(msgspec.Struct, frozen=True):
    """Something that answers chat requests. ``pid`` 0: not a process to be measured (direct).

    ``helper``: the pid of a server of the bench's own that works for it (PostgreSQL), so that it is not foreign.
    """

    name: str
    url: str
    pid: int = 0
    key: str = ""
    helper: int = 0


class Measured(msgspec.Struct, frozen=True):
    """A load report, and what the target's process and everybody else used of the two cores meanwhile."""

    load: LoadReport
    target_cpu_us_per_request: float
    foreign_cpu_share: float


def check_cores() -> None:
    """Raises BenchError on a machine or in a container with fewer than two usable cores."""
    if not {UPSTREAM_CORE, GATEWAY_CORE} <= os.sched_getaffinity(0):
        raise BenchError("the gateway bench pins its processes to cores 0 and 1; run it where both are allowed")


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _python_path() -> str:
    """Where ``appliance`` and ``appliance_bench`` are, for processes with another working directory."""
    roots = []
    for package in ("appliance", "appliance_bench", "appliance_models"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            roots.append(str(Path(spec.submodule_search_locations[0]).resolve().parent))
    return os.pathsep.join(dict.fromkeys(roots))


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of a child: ours without APPLIANCE_*, plus ``extra``."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
    return {**ours, "PYTHONPATH": _python_path(), **extra}


@contextlib.contextmanager
def process(
    argv: Sequence[str], core: int | None, log: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A pinned process in its own session; the whole session is ended on leaving."""
    with log.open("ab") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=dict(env),
                                 cwd=log.parent, start_new_session=True)  # fmt: skip
    if core is not None:
        os.sched_setaffinity(child.pid, {core})
    try:
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(30)


def get(url: str, key: str = "", timeout_s: float = 5.0) -> bytes:
    """GET a loopback address; raises OSError."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        body: bytes = response.read()
        return body


def wait_ready(
    url: str, child: subprocess.Popen[bytes], log: Path, within_s: float, key_file: Path | None = None
) -> str:
    """Poll ``url`` until it answers 200; the key that was read, if any. Raises BenchError with the log."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError):
            get(url)
            # it listens before it has written its key, so the answer comes first
            return key_file.read_text().strip() if key_file is not None else ""
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise BenchError(f"{url} did not come up within {within_s:.0f} s; its log ends:\n{tail}")


@contextlib.contextmanager
def upstream(work: Path) -> Iterator[tuple[Target, Path]]:
    """The fake engine on a TCP port (for direct runs) and a Unix socket (for the gateway)."""
    port, sock, log = free_port(), work / "fake.sock", work / "fake.log"
    argv = [sys.executable, "-m", "appliance.hosts.fake", "--port", str(port), "--socket", str(sock), "--chunks", "4"]
    with process(argv, UPSTREAM_CORE, log, environment()) as child:
        wait_ready(f"http://127.0.0.1:{port}/health", child, log, 20)
        yield Target("direct", f"http://127.0.0.1:{port}/v1/chat/completions"), sock


@contextlib.contextmanager
def gateway(
    work: Path,
    name: str,
    sock: Path,
    commit_delay_ms: float = 0.0,
    *,
    ledger_url: str = "",
    helper: int = 0,
    checkout: Path | None = None,
    policy: str = "",
) -> Iterator[Target]:
    """The gateway over the fake engine at ``sock``, with its own home; of another ``checkout``, if one is given.

    ``policy`` is its policy.toml; its tenant may then use hosted models, redacted, so that every turn is looked at.
    """
    home, port = work / name, free_port()
    (home / "run").mkdir(parents=True, mode=0o700)
    (home / "appliance.toml").write_text(
        f'[server]\nport = {port}\n\n[engines.chat]\nkind = "openai"\nsocket = {json.dumps(str(sock))}\n'
        'models = ["fake"]\n\n[aliases]\ndefault = "fake"\n'
    )
    if policy:
        (home / "policy.toml").write_text(policy)
    log = work / f"{name}.log"
    extra = {"APPLIANCE_HOME": str(home), "APPLIANCE_BENCH_COMMIT_DELAY_MS": f"{commit_delay_ms:g}"}
    if ledger_url:
        extra["APPLIANCE_LEDGER_URL"] = ledger_url
    env = environment(extra)
    if checkout is not None:
        env["PYTHONPATH"] = os.pathsep.join((str(checkout), env["PYTHONPATH"]))
    with process([sys.executable, "-m", "appliance", "gateway"], GATEWAY_CORE, log, env) as child:
        base = f"http://127.0.0.1:{port}"
        key = wait_ready(f"{base}/health/ready", child, log, 60, home / "admin.key")
        if policy:
            _let_out(env, home)
        yield Target(name, f"{base}/v1/chat/completions", child.pid, key, helper)


def _let_out(env: Mapping[str, str], home: Path) -> None:
    """Let the only tenant use hosted models, and see that the policy is in force. Raises BenchError."""

    def appliance(*words: str) -> bytes:
        done = subprocess.run([sys.executable, "-m", "appliance", *words], env=dict(env), cwd=home, capture_output=True)
        if done.returncode:
            raise BenchError(f"`appliance {' '.join(words)}` failed: {done.stderr.decode(errors='replace')[-500:]}")
        return done.stdout

    for tenant in json.loads(appliance("tenants", "list", "--json"))["items"]:
        appliance("tenants", "set", tenant["id"], "--residency", "hosted_redacted", "--region", "global")
    appliance("policy", "check")
    time.sleep(2.0)  # a running gateway sees both within a second


def load(target: Target, arguments: Sequence[str]) -> Measured:
    """One run of the load generator in its own process on the upstream's core."""
    argv = [sys.executable, "-m", "appliance_bench.load", "--url", target.url, *arguments]
    env = environment({"APPLIANCE_BENCH_KEY": target.key} if target.key else {})
    busy, own, own_target, start = _busy_s(), _tree_s(target.helper), cpu_s(target.pid), time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    os.sched_setaffinity(child.pid, {UPSTREAM_CORE})
    out, err = child.communicate(timeout=300)
    if child.returncode != 0:
        raise BenchError(f"the load generator failed against {target.name}: {err.decode(errors='replace')[-1000:]}")
    report = msgspec.json.decode(out, type=LoadReport)
    wall, spent = time.monotonic() - start, cpu_s(target.pid) - own_target
    foreign = (_busy_s() - busy - (_tree_s(target.helper) - own)) / wall
    return Measured(report, round(spent / max(report.answers, 1) * 1e6, 1), round(max(foreign, 0.0), 3))


def cpu_s(pid: int) -> float:
    """CPU seconds process ``pid`` has used; 0 for pid 0."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _tree_s(helper: int) -> float:
    """CPU seconds of the bench: live processes in our sessions' tree, children already reaped, and ``helper``'s."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return own + sum(cpu_s(pid) for pid in _children(os.getpid()) + ([helper, *_children(helper)] if helper else []))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _busy_s() -> float:
    """CPU seconds anybody has used on the two cores since boot."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields and fields[0] in (f"cpu{UPSTREAM_CORE}", f"cpu{GATEWAY_CORE}"):
            user, nice, system, _, _, irq, softirq = (int(v) for v in fields[1:8])
            total += user + nice + system + irq + softirq
    return total / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of ``pid`` in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise BenchError(f"process {pid} has no VmRSS; it has ended")
