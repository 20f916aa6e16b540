"""Support's archive holds what was found, and no secret, address, host or home."""

from __future__ import annotations

import socket
import tarfile
from pathlib import Path

import pytest

from appliance.doctor import green
from appliance.doctor.archive import redacted, write
from appliance.settings import load_settings

SETTINGS = """
[engines.box2]
kind = "openai"
url = "http://10.20.0.7:8000/v1"
api_key_file = "/etc/appliance/secrets/box2"

[ledger]
url = "postgresql://appliance:hunter2@10.20.0.5/ledger"
"""


def test_nothing_secret_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "appliance.toml").write_text(SETTINGS)
    (tmp_path / "logs").mkdir()
    log = f"refused ak-0123456789abcdef from 10.20.0.9 on {socket.gethostname()}; Bearer topsecret; see {tmp_path}/x"
    (tmp_path / "logs/gateway.log").write_text(log)
    (tmp_path / "admin.key").write_text("ak-admin0123456789")
    settings = load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/tmp/ap-none"})
    target = tmp_path / "support.tar.gz"
    names = write(settings, [green("x", f"at {tmp_path} and 10.1.2.3, on 127.0.0.1")], target, 0.0)
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as tar:
        opened = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        texts = {name: file.read().decode() for name, file in opened.items() if file is not None}
    assert {f"appliance-doctor/{name}" for name in names} == set(texts)
    everything = "\n".join(texts.values())
    for secret in ("ak-0123", "ak-admin", "topsecret", "hunter2", "10.20.0", "10.1.2.3", "secrets/box2", str(tmp_path)):
        assert secret not in everything, secret
    assert "127.0.0.1" in everything and 'kind = "openai"' in everything and "HOME" in everything


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    settings = load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/tmp/ap-none"})
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError):
        write(settings, [], tmp_path / "x", 0.0)


def test_the_hosts_name_goes_and_words_that_contain_it_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box1")
    settings = load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/tmp/ap-none"})
    assert redacted("box1 and box12", settings) == "HOST and box12"
