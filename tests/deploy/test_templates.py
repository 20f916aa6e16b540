"""Units, proxy, firewall and rules, letter by letter (tests/deploy/golden), and what their own programs say of them.

``UPDATE_GOLDEN=1 pytest tests/deploy`` writes them anew; the diff is then for a person to read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deploy.rendering import ROLES, render

from appliance.supervisor.exits import Exit, should_restart

GOLDEN = Path(__file__).parent / "golden"
GRANT = {"model": "smollm2-135m-instruct", "gpus": [], "budget_bytes": 4779009992, "host_bytes": 2500000000}
# what cannot be tried in a file name: role, template, case
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "appliance.target": ("appliance", "appliance.target.j2", {}),
    "appliance-gateway.service": ("appliance", "appliance-gateway.service.j2", {}),
    "appliance-gateway.postgresql.service": (
        "appliance",
        "appliance-gateway.service.j2",
        {"appliance_networks": ["10.20.0.5/32"]},
    ),
    "appliance-engine@.service": ("appliance", "appliance-engine@.service.j2", {}),
    "appliance-engine@.gpu.service": ("appliance", "appliance-engine@.service.j2", {"appliance_gpu": True}),
    "appliance-engine@.mps.service": (
        "appliance",
        "appliance-engine@.service.j2",
        {"appliance_gpu": True, "appliance_mps": True},
    ),
    "appliance-live.service": ("appliance", "appliance-live.service.j2", {}),
    "appliance-gpu-metrics.service": ("monitoring", "appliance-gpu-metrics.service.j2", {}),
    "appliance-nvidia-mps.service": ("nvidia", "appliance-nvidia-mps.service.j2", {}),
    "appliance-nvidia-persistence.service": ("nvidia", "appliance-nvidia-persistence.service.j2", {}),
    "appliance-hosted.service": ("appliance", "appliance-hosted.service.j2", {}),
    "engine-memory.conf": ("appliance", "engine-memory.conf.j2", {"appliance_grant": GRANT}),
    "engine-memory.gpu.conf": ("appliance", "engine-memory.conf.j2", {"appliance_grant": {**GRANT, "gpus": [0]}}),
    "appliance.sh": ("appliance", "appliance.sh.j2", {}),
    "appliance-backup.service": ("backup", "appliance-backup.service.j2", {}),
    "appliance-backup.timer": ("backup", "appliance-backup.timer.j2", {}),
    "backup.sh": ("backup", "backup.sh.j2", {"backup_recipients": ["age1example"]}),
    "backup.plain.sh": ("backup", "backup.sh.j2", {}),
    "restore.sh": ("backup", "restore.sh.j2", {}),
    "nginx.conf": ("edge", "nginx.conf.j2", {}),
    "Caddyfile": ("edge", "Caddyfile.j2", {"edge_server": "caddy"}),
    "Caddyfile.acme": (
        "edge",
        "Caddyfile.j2",
        {"edge_tls": "acme", "edge_acme_directory": "https://ca.example.internal/acme/directory"},
    ),
    "nftables.conf": ("hardening", "nftables.conf.j2", {}),
    "nftables.everything.conf": (
        "hardening",
        "nftables.conf.j2",
        {
            "hardening_ssh_networks": ["10.0.0.0/8", "fd00::/8"],
            "hardening_scrape_networks": ["10.1.0.9"],
            "hardening_hosted": True,
            "hardening_hosted_user": "root",
            "hardening_gateway_user": "root",
            "hardening_name_servers": ["10.0.0.53"],
            "hardening_time_servers": ["10.0.0.123"],
            "hardening_gateway_networks": ["10.20.0.0/24"],
            "hardening_webhooks": ["10.30.0.1"],
            "hardening_package_networks": ["10.40.0.0/24"],
        },
    ),
    "nftables.hosted.conf": (
        "hardening",
        "nftables.conf.j2",
        {
            "hardening_hosted": True,
            "hardening_hosted_user": "root",
            "hardening_hosted_networks": ["192.0.2.0/24", "2001:db8::/32"],
        },
    ),
    "prometheus.yml": ("monitoring", "prometheus.yml.j2", {}),
    "rules.yml": ("monitoring", "rules.yml.j2", {}),
}


def rendered(name: str) -> str:
    role, template, given = CASES[name]
    return render(role, template, **given)


def needs(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed here")
    return found


def said(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(CASES))
def test_golden(name: str) -> None:
    path = GOLDEN / name
    text = rendered(name)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{name} changed; UPDATE_GOLDEN=1 takes it on"


UNITS = (
    "appliance.target", "appliance-gateway.service", "appliance-engine@.service", "appliance-live.service",
    "appliance-hosted.service",
)  # fmt: skip
OTHERS = (
    "appliance-backup.service", "appliance-backup.timer", "appliance-gpu-metrics.service",
    "appliance-nvidia-mps.service", "appliance-nvidia-persistence.service",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with our units and something executable where they expect programs."""
    root = tmp_path_factory.mktemp("root")
    system = root / "etc/systemd/system"
    system.mkdir(parents=True)
    for name in (*UNITS, *OTHERS):
        (system / name).write_text(rendered(name))
    ours = ("opt/appliance/current/.venv/bin/appliance", "usr/local/lib/appliance/backup")
    theirs = ("usr/local/lib/appliance/gpu-metrics", "usr/bin/nvidia-smi", "usr/bin/nvidia-cuda-mps-control", "bin/sh")
    for program in (*ours, *theirs):
        path = root / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    for name in ("sysinit", "basic", "shutdown", "network", "network-online", "multi-user", "timers"):
        path = root / f"usr/lib/systemd/system/{name}.target"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[Unit]\nDescription={name}\n")
    return root


@pytest.mark.parametrize("unit", [*UNITS, *OTHERS])
def test_systemd_finds_nothing_wrong(tree: Path, unit: str) -> None:
    analyze = needs("systemd-analyze")
    name = unit.replace("@.", "@chat.")
    heard = said(analyze, f"--root={tree}", "--man=no", "--recursive-errors=yes", "verify", name)
    # what is said of units that are not ours, or of this root without users and slices, is no verdict on ours
    ours = [line for line in heard.splitlines() if "appliance" in line and "Failed to create" not in line]
    assert ours == []


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("appliance-gateway.service", 3.0),
        ("appliance-hosted.service", 3.0),
        ("appliance-engine@.service", 3.0),
        ("appliance-live.service", 3.0),
        ("appliance-gpu-metrics.service", 5.0),
        ("appliance-backup.service", 5.0),
    ],
)
def test_what_systemd_thinks_of_the_sandbox(tree: Path, unit: str, most: float) -> None:
    analyze = needs("systemd-analyze")
    path = tree / "etc/systemd/system" / unit
    heard = said(analyze, "security", "--offline=true", "--no-pager", f"--threshold={most * 10:.0f}", str(path))
    found = re.search(r"exposure level for \S+: (\d+\.\d+)", heard)
    assert found is not None
    assert float(found[1]) <= most


@pytest.mark.parametrize("unit", UNITS[1:])
def test_systemd_starts_again_what_our_own_loop_would(unit: str) -> None:
    listed = re.search(r"^RestartPreventExitStatus=(.*)$", rendered(unit), re.MULTILINE)
    assert listed is not None
    prevented = {int(code) for code in listed[1].split()}
    # 0 is no failure, so Restart=on-failure leaves it alone without being told
    assert prevented == {int(code) for code in Exit if code and not should_restart(code)}


def test_only_the_hosted_process_may_be_let_out() -> None:
    for name in (*UNITS[1:4], "appliance-backup.service", "appliance-gpu-metrics.service"):
        assert "\nIPAddressDeny=any\n" in rendered(name), name
    assert "\nIPAddressDeny" not in rendered("appliance-hosted.service")
    for user in re.findall(r'skuid "([^"]+)"', rendered("nftables.conf")):
        pytest.fail(f"{user} may leave although nothing was listed")


def test_secrets_are_in_no_argument_and_no_environment() -> None:
    for name in CASES:
        for line in rendered(name).splitlines():
            if line.startswith(("Environment=", "ExecStart=")):
                assert not re.search(r"(?i)key|secret|token|password", line), f"{name}: {line}"


@pytest.mark.parametrize("name", ["nftables.conf", "nftables.everything.conf", "nftables.hosted.conf"])
def test_nft_takes_the_rules(name: str, tmp_path: Path) -> None:
    nft = needs("nft")
    if os.geteuid() != 0:
        pytest.skip("nft checks rules as root only")
    path = tmp_path / "rules"
    path.write_text(rendered(name).replace('{ "root", "_apt" }', '"root"').replace('"_apt"', '"root"'))
    said(needs("unshare"), "-n", nft, "--check", "--file", str(path))


def test_promtool_takes_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    promtool = needs("promtool")
    (tmp_path / "appliance.yml").write_text(rendered("rules.yml"))
    shutil.copy(ROLES / "monitoring/tests/rules_test.yml", tmp_path)
    said(promtool, "check", "rules", "appliance.yml", cwd=tmp_path)
    said(promtool, "test", "rules", "rules_test.yml", cwd=tmp_path)


@pytest.mark.parametrize("name", ["Caddyfile", "Caddyfile.acme"])
def test_caddy_takes_the_file(name: str, tmp_path: Path) -> None:
    caddy = needs("caddy")
    path = tmp_path / "Caddyfile"
    path.write_text(rendered(name))
    said(caddy, "adapt", "--config", str(path), "--adapter", "caddyfile", env={"HOME": str(tmp_path), "PATH": "/bin"})


@pytest.mark.parametrize("name", ["appliance.sh", "backup.sh", "backup.plain.sh", "restore.sh"])
def test_a_shell_can_read_the_programs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(rendered(name))
    said("sh", "-n", str(path))


def test_figures_of_the_gpus_are_what_rules_and_dashboard_ask_for(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho '0, GPU-1a, 37, 1024, 81559, 61, 312.50, 0'\necho '1, GPU-2b, 0, 4, 81559, 40, [N/A], [N/A]'\n"
    )
    smi.chmod(0o755)
    program, file = ROLES / "monitoring/files/gpu-metrics", tmp_path / "gpu.prom"
    said("python3", str(program), str(file), "once", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    *figures, seen = file.read_text().splitlines()
    assert 'nvidia_smi_memory_used_bytes{gpu="0",uuid="GPU-1a"} 1073741824' in figures
    assert 'nvidia_smi_utilization_gpu_ratio{gpu="0",uuid="GPU-1a"} 0.37' in figures
    assert not [line for line in figures if "GPU-2b" in line and "power" in line]
    assert seen.startswith("nvidia_smi_seen_unix_seconds 1")
    texts = [rendered("rules.yml"), (ROLES / "monitoring/files/dashboard.json").read_text()]
    asked = set(re.findall(r"nvidia_smi_[a-z_]+", " ".join(texts)))
    assert asked <= {line.partition("{")[0].partition(" ")[0] for line in (*figures, seen)}
    # a driver that hangs leaves the file as it was, so that its age tells
    smi.write_text("#!/bin/sh\nexit 1\n")
    before = file.read_text()
    said("python3", str(program), str(file), "once", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert file.read_text() == before


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    from appliance.metrics import Metrics

    own = {family.name for family in Metrics().registry.collect()}
    texts = [rendered("rules.yml"), (ROLES / "monitoring/files/dashboard.json").read_text()]
    for metric in set(re.findall(r"appliance_[a-z_]+", " ".join(texts))) - {"appliance_backup_unix_seconds"}:
        assert re.sub(r"_(total|bucket|sum|count)$", "", metric) in own, metric


def test_the_dashboard_is_one_grafana_takes() -> None:
    dashboard = json.loads((ROLES / "monitoring/files/dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) == 10
    assert all(panel["targets"] and panel["datasource"]["uid"] == "${datasource}" for panel in dashboard["panels"])
