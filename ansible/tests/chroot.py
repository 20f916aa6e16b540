"""``make test-deploy``: the playbooks, for real, on a Debian tree of its own, without systemd and without GPU.

What it is: debootstrap, a chroot connection, and the whole life of an appliance: install, install again, answer with no
network but loopback, upgrade, roll back, back up, wipe, restore, uninstall. Every step says what it saw, in
``benchmarks/results/deploy-DATE.json``.
What it refuses to be: part of the default suite. It needs root, and leaves with its reason where it cannot run.
What it costs: 5 to 15 minutes and 9 GB below DEPLOY_TREE (default /var/tmp/appliance-deploy), removed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / ".venv-deploy" / "bin" / "ansible-playbook"
HOME = "var/lib/appliance"
MIRROR = "http://deb.debian.org/debian"
# how this machine reaches its registries; the tree has to reach them the same way
BORROWED = ("etc/pip.conf", "etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt", "etc/xdg/pip")
NEXT, OFFLINE = "0.1.1", "0.1.2"
MODELS = ("smollm2-135m-instruct", "whisper-base", "indictrans2-embedded")
# what a digest of a ledger leaves out: the lines that backing up and restoring themselves write
UNSTABLE = ("audit", "jobs", "gateways", "meta", "beats")


SECRET = "not-in-any-log"
# nobody is asked: what is tried is the unit, its key, its permits and its user's way out
HOSTED = """
[engines.hosted]
kind = "hosted"
api_key_file = "gemini-key"
[engines.hosted.hosted]
region = "global"
check = false
"""
NAME = "appliance.test.internal"
OUTSIDE = """
import socket, sys
server = socket.create_server((sys.argv[1], 443))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""
UNPERMITTED = """
import json, socket
body = json.dumps({"model": "gemini-3.1-flash-lite", "messages": [{"role": "user", "content": "hello"}]})
head = ["POST /v1/chat/completions HTTP/1.1", "host: h", "connection: close", "content-type: application/json"]
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("/run/appliance-hosted/hosted.sock")
    asking.sendall("\\r\\n".join([*head, f"content-length: {len(body)}", "", body]).encode())
    print(asking.makefile().read())
"""
OUT, BACK = "198.51.100.1", "198.51.100.2"


class Skip(Exception):
    """It cannot run here; the text says why."""


class Failed(Exception):
    """A step did not do what it should."""


def check(condition: object, text: str) -> None:
    """Raise Failed with ``text`` unless ``condition`` holds."""
    if not condition:
        raise Failed(text)


def run(*command: str, timeout_s: float = 1500, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its output on failure."""
    done = subprocess.run(command, text=True, capture_output=True, timeout=timeout_s, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)[:200]}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done


def cgroup2() -> Path:
    """Where a cgroup2 file system is mounted on this machine. Raises Failed."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and where.startswith("/sys/"):
            return Path(where)
    raise Failed("this machine has no cgroup2, so no systemd can be booted in a tree")


def answer(first: str) -> str:
    """What the systemd of process ``first`` says of itself."""
    command = ("nsenter", "-t", first, "-a", "systemctl", "is-system-running")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Tree:
    """A Debian with nothing in it, and what is mounted into it."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        self.base = base

    def make(self) -> None:
        """debootstrap once into ``base``, a copy for each run."""
        if self.path.exists():
            self.unmake()  # of a run that was killed, or asked to keep it
        if not (self.base / "etc/debian_version").exists():
            # under its name only when it is whole: what a killed debootstrap leaves behind cannot be gone on with
            part = self.base.with_name(self.base.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            packages = "--include=python3,ca-certificates,iproute2"
            run("debootstrap", "--variant=minbase", packages, "bookworm", str(part), MIRROR)
            part.rename(self.base)
        run("cp", "-a", "--reflink=auto", str(self.base), str(self.path))
        for name in BORROWED:
            source, target = Path("/") / name, self.path / name
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copy(source, target)
        for source in Path("/etc/apt/apt.conf.d").glob("9*"):
            shutil.copy(source, self.path / "etc/apt/apt.conf.d" / source.name)
        # no package may start a service here
        policy = self.path / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        for name in ("proc", "dev", "sys"):
            self.mount(Path("/") / name)
        for name in os.environ.get("PIP_FIND_LINKS", "").split():
            if Path(name).is_dir():
                self.mount(Path(name))

    def mount(self, source: Path) -> None:
        """``source`` at the same place in the tree."""
        target = self.path / source.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        run("mount", "--rbind", "--make-rslave", str(source), str(target))

    def unmake(self) -> None:
        """Unmount, and delete only when nothing is mounted any more."""
        lines = Path("/proc/mounts").read_text().splitlines()
        below = sorted({line.split()[1] for line in lines if line.split()[1].startswith(f"{self.path}/")})
        for target in reversed(below):
            subprocess.run(("umount", "-l", target), check=False, capture_output=True)
        if f" {self.path}/" in Path("/proc/mounts").read_text():
            print(f"{self.path} still has mounts and is left alone", file=sys.stderr)
            return
        shutil.rmtree(self.path, ignore_errors=True)

    def sh(self, command: str, **options: Any) -> str:
        """What a shell inside prints."""
        return run("chroot", str(self.path), "/bin/sh", "-c", command, **options).stdout


class Streams:
    """One caller after another through the proxy, from the booted tree's network: whole, refused, or cut."""

    def __init__(self, first: str, tree: Path, key: str) -> None:
        asked = {
            "model": "default",
            "messages": [{"role": "user", "content": "Tell me about India."}],
            "max_tokens": 48,
        }
        url = f"https://{NAME}/v1/chat/completions"
        self._command = (
            *("nsenter", "-t", first, "-n", "curl", "-sS", "-N", "-m", "90"),
            *("--cacert", f"{tree}/etc/appliance-edge/ca.crt"),
            *("--resolve", f"{NAME}:443:127.0.0.1", "-H", f"Authorization: Bearer {key}", "-w", "\n%{http_code}", url),
            *("-d", json.dumps({**asked, "stream": True})),
        )  # fmt: skip
        self.whole = self.refused = 0
        self.cut: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def _ask(self) -> None:
        while not self._stop.wait(0.2):
            said = subprocess.run(self._command, capture_output=True, text=True, check=False).stdout
            body, _, status = said.rpartition("\n")
            if status != "200":
                self.refused += 1
            elif "data: [DONE]" in body:
                self.whole += 1
            else:
                self.cut.append(body[-300:])

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Test:
    """The steps, in their order; each returns what it saw."""

    def __init__(self, tree: Tree, scratch: Path) -> None:
        self.tree = tree
        self.scratch = scratch
        self.inventory = scratch / "inventory.yml"
        self.key = ""
        self.first = ""  # process 1 of a booted tree

    def play(self, playbook: str, cut: bool = False, **extra: str) -> dict[str, int]:
        """Run a playbook, in a network namespace of its own where the network is ``cut``; its recap."""
        arguments = [item for name, value in extra.items() for item in ("-e", f"{name}={value}" if name else value)]
        environ = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        command = (str(ANSIBLE), "-i", str(self.inventory), str(ROOT / "ansible" / playbook), *arguments)
        done = run(*(("unshare", "-n") if cut else ()), *command, env=environ, cwd=ROOT / "ansible")
        (self.scratch / f"{playbook}-{int(time.time())}.log").write_text(done.stdout)
        recap = re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2])
        return {name: int(count) for name, count in recap}

    def write_inventory(self) -> None:
        passed = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}
        run("age-keygen", "-o", str(self.scratch / "backup.key"))
        public = run("age-keygen", "-y", str(self.scratch / "backup.key")).stdout.strip()
        variables = {
            "ansible_connection": "community.general.chroot",
            "ansible_host": str(self.tree.path),
            "appliance_version": "0.1.0",
            "appliance_archive": str(self.archive("0.1.0")),
            "appliance_set": "cpu",
            "appliance_build_environment": {**passed, "UV_LINK_MODE": "copy", "UV_CACHE_DIR": "/var/cache/uv"},
            "appliance_secrets": {"webhook-key": f"a secret of the test: {SECRET}", "gemini-key": f"{SECRET}-either"},
            "appliance_hosted": True,
            "appliance_hosted_settings": HOSTED,
            "edge_name": NAME,
            "backup_recipients": [public],
            "preflight_ports": [],
        }
        host = {"appliances": {"hosts": {"tree": variables}}}
        self.inventory.write_text(json.dumps(host))

    def archive(self, version: str) -> Path:
        """What ``make dist`` makes, with another version number where one is asked for."""
        target = self.scratch / f"inference-appliance-{version}.tar.gz"
        if target.exists():
            return target
        made = run("make", "-s", "dist", cwd=ROOT).stdout.split()[-1]
        here = self.scratch / "source"
        shutil.rmtree(here, ignore_errors=True)
        with tarfile.open(ROOT / made) as tar:
            tar.extractall(here, filter="data")
        source = next(here.iterdir())
        for name in ("pyproject.toml", "appliance/__init__.py"):
            text = (source / name).read_text()
            (source / name).write_text(text.replace('"0.1.0"', f'"{version}"'))
        with tarfile.open(target, "w:gz") as tar:
            tar.add(source, arcname=f"inference-appliance-{version}")
        return target

    # steps

    def install(self) -> dict[str, Any]:
        recap = self.play("site.yml")
        check(recap["failed"] == 0, f"site.yml: {recap}")
        self.tree.sh(
            "nginx -t && nft --check --file /etc/nftables.conf && promtool check config /etc/prometheus/prometheus.yml"
        )
        for unit in (
            "appliance.target",
            "appliance-gateway.service",
            "appliance-live.service",
            "appliance-hosted.service",
            "appliance-engine@.service",
            "appliance-backup.service",
        ):
            golden = (ROOT / "tests/deploy/golden" / unit).read_text()
            installed = (self.tree.path / "etc/systemd/system" / unit).read_text()
            check(
                installed == golden, f"{unit} is not what tests/deploy/golden says; Ansible renders it in another way"
            )
        return {"recap": recap, "version": self.tree.sh("appliance --version").strip()}

    def again(self) -> dict[str, Any]:
        recap = self.play("site.yml")
        check(recap["changed"] == 0, f"the second run changed {recap['changed']} things; see {self.scratch}")
        return {"recap": recap}

    @contextmanager
    def serving(self, command: str) -> Iterator[Callable[[str, str, dict[str, Any] | None], Any]]:
        """``appliance COMMAND`` inside the tree, in a network namespace with loopback only; gives a way to ask it."""
        inside = f"ip link set lo up; exec chroot {self.tree.path} /usr/local/bin/appliance {command}"
        log = (self.scratch / "serve.log").open("a")
        server = subprocess.Popen(
            ("unshare", "-n", "sh", "-c", inside), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

        def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
            check(server.poll() is None, f"appliance {command} ended by itself; see {self.scratch}/serve.log")
            curl = ["nsenter", "-t", str(server.pid), "-n", "curl", "-sS", "-m", "120", "-X", method]
            curl += ["-H", f"Authorization: Bearer {self.key}", f"http://127.0.0.1:8000{path}"]
            curl += ["-d", json.dumps(body)] if body else []
            answer = subprocess.run(curl, capture_output=True, text=True, check=False).stdout
            return json.loads(answer) if answer else None

        try:
            yield ask
        finally:
            # `appliance serve` drains and ends its engines; runuser passes the signal on
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(90)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            log.close()

    def until(self, wanted: Callable[[], bool], what: str, within_s: float = 400) -> float:
        """Seconds until ``wanted``."""
        began = time.monotonic()
        while not wanted():
            check(time.monotonic() - began < within_s, f"{what}: not within {within_s:.0f} s; see {self.scratch}")
            time.sleep(1)
        return round(time.monotonic() - began, 1)

    def answers(self) -> dict[str, Any]:
        self.key = self.tree.sh(f"appliance keys create test-{int(time.time())} 2>/dev/null").split()[0]
        with self.serving("serve") as ask:
            ready_s = self.until(lambda: (ask("GET", "/health/ready") or {}).get("status") == "ready", "ready")
            question = {"role": "user", "content": "What is the capital of India?"}
            asked = {"model": "default", "messages": [question], "max_tokens": 64, "temperature": 0}
            answer = ask("POST", "/v1/chat/completions", asked)
            text = answer["choices"][0]["message"]["content"]
            check("Delhi" in text, f"the answer was {answer}")
            doctor = json.loads(self.tree.sh("appliance doctor --json || true") or "{}")
        seen = {"ready_s": ready_s, "answer": text, "network": "loopback only (unshare -n)"}
        return seen | {"doctor": {one["name"]: one["colour"] for one in doctor.get("checks", [])}}

    def digest(self) -> str:
        """SHA-256 over every row of the ledger that a backup has to bring back."""
        total = hashlib.sha256()
        with sqlite3.connect(f"file:{self.tree.path / HOME / 'ledger.db'}?mode=ro", uri=True) as ledger:
            names = [
                name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
            ]
            for name in names:
                if name in UNSTABLE or name.startswith("sqlite_"):
                    continue
                rows = sorted(repr(row) for row in ledger.execute(f'SELECT * FROM "{name}"'))
                total.update(f"{name} {len(rows)}\n".encode() + "\n".join(rows).encode())
        return total.hexdigest()

    def boots(self) -> dict[str, Any]:
        """The same tree under a systemd of its own: units, sandboxes, watchdogs, firewall and proxy for real."""
        packages = "apt-get install -y -qq --no-install-recommends systemd systemd-sysv"
        self.tree.sh(f"DEBIAN_FRONTEND=noninteractive {packages}")
        with self.booted() as inside:
            began = time.monotonic()
            inside("/usr/local/bin/appliance doctor --gate --wait 400")
            seen: dict[str, Any] = {"serves_after_s": round(time.monotonic() - began, 1)}
            seen["failed_units"] = inside("systemctl list-units --failed --plain --no-legend").split()[:1]
            question = [{"role": "user", "content": "What is the capital of India?"}]
            asked = json.dumps({"model": "default", "messages": question, "max_tokens": 32, "temperature": 0})
            name = NAME
            curl = f"curl -sS -m 60 --cacert {self.tree.path}/etc/appliance-edge/ca.crt --resolve {name}:443:127.0.0.1"
            said = inside(
                f"{curl} -H 'Authorization: Bearer {self.key}' https://{name}/v1/chat/completions -d '{asked}'", "-n"
            )
            check("Delhi" in said, f"over TLS it said {said[:500]}")
            seen["over_tls"] = json.loads(said)["choices"][0]["message"]["content"]
            units = (
                "appliance-gateway.service",
                "appliance-engine@chat.service",
                "appliance-engine@transcribe.service",
                "appliance-engine@translate.service",
            )
            shown = {unit: inside(f"systemctl show -P StatusText {unit}").strip() for unit in units}
            seen["status"] = shown
            seen["restarted"] = {
                "gateway stopped (SIGSTOP), found by the watchdog": self.restarts(inside, units[0], "STOP"),
                "supervisor of chat killed (SIGKILL)": self.restarts(inside, units[1], "KILL"),
            }
            inside("/usr/local/bin/appliance doctor --gate --wait 400")
            seen["switched"] = self.switches(inside)
            seen["live"] = self.hears(inside)
            seen["hosted"] = self.permits(inside)
            seen["way_out"] = self.way_out(inside)
            inside("systemctl stop appliance.target 'appliance-*.service'")
            left = inside("ps -u appliance,appliance-hosted -o pid= || true").split()
            check(left == [], f"after stopping everything processes are left: {left}")
        return seen

    def switches(self, inside: Callable[..., str]) -> dict[str, Any]:
        """The playbook's own stop, start and gate against systemd, to a kept release and back, while callers stream."""
        # stands for chroot, for community.general.chroot: the command runs in the booted tree
        program = self.scratch / "inside.sh"
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root"
        program.write_text(f'#!/bin/sh\nshift\nexec nsenter -t {self.first} -a -- env -i {path} "$@"\n')
        program.chmod(0o755)
        before, seen = self.digest(), {}
        with Streams(self.first, self.tree.path, self.key) as streams:
            self.until(lambda: streams.whole > 0, "a stream", 120)
            for version in (NEXT, "0.1.0"):
                began = time.monotonic()
                self.play("rollback.yml", appliance_version=version, ansible_chroot_exe=str(program))
                seen[f"to {version}"] = f"{time.monotonic() - began:.0f} s, with a real answer from each engine"
                check(version in inside("/usr/local/bin/appliance --version"), f"it does not run {version}")
            said = ""
            try:  # it is there since failing_upgrade, and its migration still breaks
                self.play("rollback.yml", appliance_version="0.1.9", ansible_chroot_exe=str(program))
            except Failed as e:
                said = re.sub(r"\s+", " ", str(e))
            check("0.1.0 runs again" in said, f"the broken release was not undone: {said[-600:]}")
            inside("/usr/local/bin/appliance doctor --gate --wait 400")
            served = streams.whole
            self.until(lambda: streams.whole > served, "a stream after everything", 60)
        check(streams.cut == [], f"streams were cut: {streams.cut[:3]}")
        check(before != self.digest(), "the streams are not in the ledger")
        seen["to a broken release"] = "undone, 0.1.0 serves again"
        return seen | {"streams meanwhile": {"whole": streams.whole, "refused": streams.refused, "cut": 0}}

    def hears(self, inside: Callable[..., str]) -> str:
        """A WebSocket through the proxy to the process of live audio: with a key, and without one."""
        key = f"-H 'Authorization: Bearer {self.key}'"
        upgrade = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13'"
        curl = "curl -sS --http1.1 -m 3 -o /dev/null -w '%{http_code}'"
        curl += f" --cacert {self.tree.path}/etc/appliance-edge/ca.crt --resolve {NAME}:443:127.0.0.1 {upgrade}"
        curl += f" -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://{NAME}/v1/realtime"
        self.until(lambda: inside("systemctl is-active appliance-live || true").strip() == "active", "live", 60)
        said = inside(f"{curl} {key} || true", "-n"), inside(f"{curl} || true", "-n")
        check(said == ("101", "401"), f"with and without a key the live process said {said}")
        return "101 with a key, 401 without"

    def permits(self, inside: Callable[..., str]) -> str:
        """The hosted process runs as its own user, and refuses the gateway's user without a permit."""
        unit = "appliance-hosted.service"
        self.until(lambda: "ready" in inside(f"systemctl show -P StatusText {unit}"), unit, 60)
        pid = inside(f"systemctl show -P MainPID {unit}").strip()
        user = inside(f"stat -c %U /proc/{pid}").strip()
        (self.tree.path / "tmp/ask.py").write_text(UNPERMITTED)
        said = inside("setpriv --reuid=appliance --regid=appliance --init-groups python3 /tmp/ask.py")
        check(user == "appliance-hosted", f"it runs as {user}")
        check(" 403 " in said and "permit_missing" in said, f"without a permit it said {said}")
        return f"user {user}; without a permit 403 permit_missing"

    def way_out(self, inside: Callable[..., str]) -> dict[str, str]:
        """A cable to a machine outside, which listens on 443: who of this box reaches it, and what it reaches here."""
        rules = inside("nft list table inet appliance")
        check("policy drop" in rules, "the firewall is not loaded")
        run("ip", "link", "add", "apl-test", "type", "veth", "peer", "name", "out", "netns", self.first)
        outside = None
        try:
            run("ip", "addr", "add", f"{OUT}/30", "dev", "apl-test")
            run("ip", "link", "set", "apl-test", "up")
            outside = subprocess.Popen((sys.executable, "-c", OUTSIDE, OUT), stdout=subprocess.PIPE)
            inside(f"ip addr add {BACK}/30 dev out && ip link set out up && ip route add default via {OUT}")
            assert outside.stdout is not None
            check(outside.stdout.readline() == b"listening\n", "nobody listens outside")
            seen = {}
            for user in ("appliance-hosted", "appliance", "root", "www-data", "prometheus", "nobody"):
                program = f"import socket; socket.create_connection(({OUT!r}, 443), 2)"
                line = f'setpriv --reuid={user} --regid=nogroup --clear-groups python3 -c "{program}" 2>&1 && echo out'
                seen[user] = "out" if inside(f"{line} || true").strip() == "out" else "refused"
            expected = dict.fromkeys(seen, "refused") | {"appliance-hosted": "out"}
            check(seen == expected, f"who leaves the box: {seen}")
            for port, wanted in ((443, True), (8000, False), (9090, False), (9100, False)):
                with socket.socket() as probe:
                    probe.settimeout(2)
                    check((probe.connect_ex((BACK, port)) == 0) == wanted, f"port {port} from outside")
            return seen | {"from outside": "443 answers; 8000, 9090, 9100 do not"}
        finally:
            if outside is not None:
                outside.kill()
                outside.wait()
            subprocess.run(("ip", "link", "del", "apl-test"), check=False, capture_output=True)

    def restarts(self, inside: Callable[..., str], unit: str, signal_name: str) -> str:
        """Send a signal to a unit's main process and wait for another one."""
        before = inside(f"systemctl show -P MainPID {unit}").strip()
        began = time.monotonic()
        inside(f"systemctl kill --kill-whom=main -s {signal_name} {unit}")

        def another() -> bool:
            now = inside(f"systemctl show -P MainPID {unit}").strip()
            return now not in ("0", before) and inside(f"systemctl show -P ActiveState {unit}").strip() == "active"

        self.until(another, f"{unit} after {signal_name}", 120)
        return f"after {time.monotonic() - began:.0f} s"

    @contextmanager
    def booted(self) -> Iterator[Callable[..., str]]:
        """systemd as process 1 of the tree; gives a way to run a shell line inside."""
        group = cgroup2() / "appliance-deploy"
        boot = subprocess.Popen((str(ROOT / "ansible/tests/boot.sh"), str(self.tree.path), str(group)))
        first = ""

        def inside(line: str, namespaces: str = "-a") -> str:
            shell = "/bin/sh" if namespaces == "-a" else "sh"
            return run("nsenter", "-t", first, namespaces, shell, "-c", line).stdout

        def up() -> bool:
            nonlocal first
            first = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().strip()
            said = answer(first) if first else ""
            # degraded and starting, while engines load: what counts is that it answers
            return said.strip() in ("running", "degraded", "starting")

        try:
            self.until(up, "systemd", 60)
            self.first = first
            yield inside
        finally:
            if first:
                os.kill(int(first), signal.SIGKILL)
            boot.wait(30)
            (self.tree.path / ".old").rmdir()  # empty out here; inside it was unmounted

    def upgrade(self) -> dict[str, Any]:
        before = self.digest()
        recap = self.play("upgrade.yml", appliance_version=NEXT, appliance_archive=str(self.archive(NEXT)))
        version = self.tree.sh("appliance --version").strip()
        check(NEXT in version, f"after the upgrade it is {version}")
        check(self.digest() == before, "the upgrade changed rows of the ledger")
        seen = {"recap": recap, "version": version, "ledger": before[:16]}
        return seen | {"from": "the same tree as 0.1.0: the repository has no tag to build an older release of"}

    def roll_back(self) -> dict[str, Any]:
        before = self.digest()
        recap = self.play("rollback.yml", appliance_version="0.1.0")
        version = self.tree.sh("appliance --version").strip()
        check("0.1.0" in version, f"after the roll-back it is {version}")
        check(self.digest() == before, "the roll-back changed rows of the ledger")
        return {"recap": recap, "version": version, "ledger": before[:16]}

    def refused(self) -> dict[str, Any]:
        """A ledger of the future, and a release that is not there: both refused, nothing changed."""
        said = {}
        ledger = self.tree.path / HOME / "ledger.db"
        with sqlite3.connect(ledger) as writing:
            (before,) = writing.execute("SELECT version_num FROM alembic_version").fetchone()
            writing.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            for what, version in (("unreadable schema", NEXT), ("release that is not there", "7.7.7")):
                try:
                    self.play("rollback.yml", appliance_version=version)
                except Failed as e:
                    said[what] = re.sub(r"\s+", " ", str(e))[-600:]
                check(what in said, f"{what} was not refused")
                check("0.1.0" in os.readlink(self.tree.path / "opt/appliance/current"), f"{what} moved current")
        finally:
            with sqlite3.connect(ledger) as writing:
                writing.execute("UPDATE alembic_version SET version_num = ?", (before,))
        check("cannot read" in said["unreadable schema"], said["unreadable schema"])
        return dict.fromkeys(said, "refused")

    def failing_upgrade(self) -> dict[str, Any]:
        """A release whose migration breaks: the old one runs again, and the ledger is what it was."""
        before, archive = self.digest(), self.archive("0.1.9")
        broken = self.scratch / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(broken, filter="data")
        source = next(broken.iterdir())
        upgrading = source / "appliance/cli/db.py"
        upgrading.write_text(
            upgrading.read_text().replace("        prepare(", "        raise ValueError('broken')\n        prepare(")
        )
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, arcname=source.name)
        said = ""
        try:
            self.play("upgrade.yml", appliance_version="0.1.9", appliance_archive=str(archive))
        except Failed as e:
            said = re.sub(r"\s+", " ", str(e))
        check("runs again" in said, f"the broken release was not undone: {said[-800:]}")
        version = self.tree.sh("appliance --version").strip()
        check("0.1.0" in version, f"after the failed upgrade it is {version}")
        check(self.digest() == before, "the failed upgrade changed rows of the ledger")
        return {"version": version, "ledger": before[:16]}

    def offline(self) -> dict[str, Any]:
        """A new release and every model out of a signed bundle, with the network cut and no cache of wheels."""
        bundle, wheels = self.scratch / "bundle.tar.zst", self.tree.path.with_name(self.tree.path.name + "-wheels")
        program = str(ROOT / ".venv/bin/appliance")
        home = self.tree.path / HOME
        environ = os.environ | {"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": str(self.scratch / "run")}
        run(program, "bundle", "key", str(self.scratch / "bundle.key"))
        options = ("--models", ",".join(MODELS), "--target", "cpu", "--wheels", str(wheels))
        archive, key = str(self.archive(OFFLINE)), str(self.scratch / "bundle.key")
        create = (program, "bundle", "create", *options, "--archive", archive, "--key", key)
        made = run(*create, "-o", str(bundle), env=environ, cwd=ROOT).stdout
        again = run(*create, "-o", str(bundle) + ".2", env=environ, cwd=ROOT).stdout
        check(made.split()[-1] == again.split()[-1], "the same inputs gave another digest")
        same = digest_of(bundle)
        check(same == digest_of(Path(f"{bundle}.2")), "and other bytes")
        unpacked, trust = self.scratch / "bundle", ("--trust", key + ".pub")
        run(program, "bundle", "unpack", str(bundle), str(unpacked), *trust, env=environ)
        for name in MODELS:
            shutil.rmtree(home / "models" / name)
        before = self.digest()
        environment = {"UV_CACHE_DIR": "/var/cache/uv-offline", "UV_LINK_MODE": "copy"}
        extra = {
            "appliance_version": OFFLINE,
            "bundle": str(unpacked),
            "appliance_build_environment": environment,
        }
        recap = self.play("site.yml", cut=True, **{"": json.dumps(extra)})
        version = self.tree.sh("appliance --version").strip()
        check(OFFLINE in version, f"after the bundle it is {version}")
        check(self.digest() == before, "installing from a bundle changed rows of the ledger")
        self.tree.sh("appliance models verify")
        seen = {"recap": recap, "version": version, "bundle_bytes": bundle.stat().st_size, "digest": made.split()[-1]}
        for path in (bundle, Path(f"{bundle}.2")):
            path.unlink()
        shutil.rmtree(unpacked)
        return seen | {"network": "cut (unshare -n)", "same inputs": "same bytes"}

    def back_up_and_restore(self) -> dict[str, Any]:
        before = self.digest()
        self.play("backup.yml")
        archive = max((self.tree.path / "var/backups/appliance").glob("appliance-*.tar.zst.age"))
        check(b"age-encryption" in archive.read_bytes()[:64], "the backup is not encrypted")
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "admin.key", "appliance.toml"):
            (self.tree.path / HOME / name).unlink(missing_ok=True)
        inside = "/" + str(archive.relative_to(self.tree.path))
        self.play("restore.yml", backup_restore_from=inside, backup_identity=str(self.scratch / "backup.key"))
        check(self.digest() == before, "the restored ledger is another one")
        check(not (self.tree.path / "run/appliance-backup.key").exists(), "the private key stayed on the box")
        with self.serving("gateway") as ask:
            self.until(lambda: (ask("GET", "/v1/models") or {}).get("object") == "list", "the old key", 60)
        return {"ledger": before[:16], "bytes": archive.stat().st_size, "key": "works"}

    def secrets_stay(self) -> dict[str, Any]:
        """No secret in what Ansible printed, in the tree's logs, or readable by others."""
        for log in [*self.scratch.glob("*.log"), *(self.tree.path / HOME / "logs").glob("*")]:
            check(SECRET not in log.read_text(errors="replace"), f"{log.name} holds a secret")
        mode = (self.tree.path / "etc/appliance/secrets/webhook-key").stat().st_mode & 0o777
        check(mode == 0o440, f"the secret's mode is {mode:o}")
        return {"mode": f"{mode:04o}", "logs": "clean"}

    def uninstall(self) -> dict[str, Any]:
        self.play("uninstall.yml")
        left = self.tree.sh(
            "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/dpkg"
            " -o -path /usr/share \\) -prune -o -iname '*appliance*' -print"
        ).split()
        # what it says that stays, and the example's own temporary files
        rest = [
            path
            for path in left
            if not path.startswith(
                ("/var/lib/appliance", "/var/cache/uv", "/var/backups/appliance", "/tmp", "/var/tmp", "/root")
            )
        ]
        check(rest == [], f"uninstalling left {rest}")
        check((self.tree.path / HOME / "ledger.db").exists(), "uninstalling took the ledger with it")
        self.play("uninstall.yml", appliance_uninstall_data="true")
        check(not (self.tree.path / HOME).exists(), "appliance_uninstall_data left the state")
        return {
            "stays": ["/var/lib/appliance", "/var/backups/appliance"],
            "with appliance_uninstall_data": "backups only",
        }


STEPS = (
    "install", "again", "answers", "upgrade", "roll_back", "refused", "failing_upgrade", "boots", "back_up_and_restore",
    "offline", "secrets_stay", "uninstall",
)  # fmt: skip


def possible(tree: Path) -> None:
    """Raise Skip where it cannot run."""
    if os.geteuid() != 0:
        raise Skip("it has to make devices and mounts, so it needs root")
    for program in ("debootstrap", "unshare", "nsenter", "age-keygen", "curl"):
        if shutil.which(program) is None:
            raise Skip(f"{program} is missing: apt-get install debootstrap util-linux age curl")
    if not ANSIBLE.exists():
        raise Skip("ansible is missing: make lint-deploy installs it")
    if shutil.disk_usage(tree.parent).free < 14e9:
        raise Skip(f"less than 14 GB are free at {tree.parent}; set DEPLOY_TREE to a larger disk")


def main() -> int:
    """Run every step, stop at the first that fails, and write what was seen, the failure too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the tree for looking at it")
    parser.add_argument("--reuse", action="store_true", help="go on with a tree that was kept")
    parser.add_argument("--minutes", type=float, default=40, help="stop beginning steps after this long")
    parser.add_argument("--steps", nargs="*", default=STEPS, choices=STEPS)
    options = parser.parse_args()
    path = Path(os.environ.get("DEPLOY_TREE", "/var/tmp/appliance-deploy"))
    try:
        possible(path)
    except Skip as e:
        print(f"skipped: {e}")
        return 0
    scratch = path.with_name(path.name + "-logs")
    reuse = options.reuse and path.exists() and scratch.exists()
    if not reuse:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
    tree = Tree(path, path.with_name(path.name + "-base"))
    seen: dict[str, Any] = {"commit": run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).stdout.strip(), "steps": {}}
    began, failed = time.monotonic(), False
    try:
        test = Test(tree, scratch)
        if not reuse:
            tree.make()
            test.write_inventory()
        for name in options.steps:
            if time.monotonic() - began > options.minutes * 60:
                seen["steps"][name] = {"result": "not begun: out of time"}
                failed = True
                continue
            started = time.monotonic()
            found = getattr(test, name)()
            seen["steps"][name] = {"result": "ok", "seconds": round(time.monotonic() - started, 1), **found}
            print(f"{name}: ok, {seen['steps'][name]['seconds']} s", flush=True)
    except Failed as e:
        seen["failed"] = str(e)[-2000:]
        print(f"FAILED: {e}", file=sys.stderr)
        failed = True
    finally:
        if not options.keep:
            tree.unmake()
    seen["seconds"] = round(time.monotonic() - began, 1)
    target = ROOT / "benchmarks/results" / time.strftime("deploy-%Y%m%d-%H%M%S.json", time.gmtime())
    target.write_text(json.dumps(seen, indent=1) + "\n")
    print(target.relative_to(ROOT))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
