"""``appliance keys``, on the ledger's file and through a running gateway's control socket."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ap-"))
    yield path
    shutil.rmtree(path)


def keys(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], env={"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": ""})


def listed(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(keys(home, "list", "--json").stdout)
    return found


def test_the_secret_alone_goes_to_standard_output_and_is_not_kept(home: Path) -> None:
    made = keys(home, "create", "web")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("ak-") and len(secret) >= 43
    assert "client key 'web'" in made.stderr and secret not in made.stderr
    assert secret not in keys(home, "list").output + keys(home, "list", "--json").output
    assert secret.encode() not in (home / "ledger.db").read_bytes()


def test_create_as_json(home: Path) -> None:
    made = json.loads(keys(home, "create", "ops", "--role", "operator", "--json").stdout)
    assert set(made) == {"id", "name", "role", "secret"}
    assert [(k["id"], k["name"], k["role"], k["revoked_ms"]) for k in listed(home)] == [
        (made["id"], "ops", "operator", None)
    ]


def test_revoke(home: Path) -> None:
    key_id = json.loads(keys(home, "create", "web", "--json").stdout)["id"]
    assert keys(home, "revoke", key_id).stdout == f"revoked {key_id}\n"
    assert listed(home)[0]["revoked_ms"] is not None
    assert "revoked" in keys(home, "list").stdout.splitlines()[1]


def test_what_the_ledger_refuses_is_one_sentence(home: Path) -> None:
    refused = keys(home, "revoke", "key_none")
    assert refused.exit_code == 1
    assert refused.stderr == "error: there is no key with the id 'key_none'; `appliance keys list` shows the ids\n"


def test_an_unknown_role_is_refused_before_anything_is_written(home: Path) -> None:
    refused = keys(home, "create", "x", "--role", "king")
    assert refused.exit_code == 2
    assert not (home / "ledger.db").exists()


@contextlib.contextmanager
def gateway(home: Path, answer: bytes) -> Iterator[list[dict[str, Any]]]:
    """A control socket that answers once, and what it was asked."""
    asked: list[dict[str, Any]] = []
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "run/control.sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                asked.append(json.loads(lines.readline()))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(5)


def test_a_running_gateway_is_waited_for_until_it_has_heard(home: Path) -> None:
    with gateway(home, b'{"ok":true,"version":3}\n') as asked:
        made = keys(home, "create", "web", "--role", "admin")
    assert [(one["op"], one["version"] > 1) for one in asked] == [("ledger.seen", True)]
    assert made.stdout.startswith("ak-")


@pytest.mark.parametrize("answer", [b'{"ok":false,"error":"not now"}\n', b""])
def test_a_gateway_that_refuses_or_dies_does_not_undo_the_key(home: Path, answer: bytes) -> None:
    with gateway(home, answer):
        made = keys(home, "create", "web")
    assert made.exit_code == 0
    assert [k["name"] for k in listed(home)] == ["web"]


def test_a_key_that_would_open_nothing_is_not_made(home: Path) -> None:
    made = keys(home, "create", "web", "--expires", "2020-01-01")
    assert (made.exit_code, made.stdout) == (1, "")
    assert made.stderr.startswith("error: the expiry is past")
    assert listed(home) == []


def test_limits_are_set_shown_and_lifted(home: Path) -> None:
    limits = ["--cap", "$50", "--requests-per-minute", "60", "--model", "m1", "--endpoint", "/v1/chat/completions"]
    made = json.loads(keys(home, "create", "web", *limits, "--expires", "2027-01-01", "--json").stdout)
    shown = json.loads(keys(home, "show", made["id"], "--json").stdout)
    assert (shown["cap_nusd"], shown["requests_per_minute"], shown["models"]) == (50_000_000_000, 60, ["m1"])
    assert shown["endpoints"] == ["chat.completions"]
    assert shown["expires_ms"] == 1_798_741_800_000  # midnight in Kolkata
    lifted = keys(
        home, "set", made["id"], "--cap", "none", "--model", "none", "--requests-per-minute", "none", "--json"
    )
    shown = json.loads(lifted.stdout)
    assert (shown["cap_nusd"], shown["requests_per_minute"], shown["models"]) == (None, None, [])
    assert (
        "50.00 USD"
        in keys(home, "show", json.loads(keys(home, "create", "b", "--cap", "50", "--json").stdout)["id"]).stdout
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cap", "lots"], "give a number such as 49.50"),
        (["--cap", "₹4000"], "appliance server-cost set"),
        (["--requests-per-minute", "0"], "give a number from 1"),
        (["--expires", "tomorrow"], "write 2026-11-30"),
        (["--endpoint", "embeddings"], "choose one of chat.completions"),
        (["--residency", "moon"], "choose one of local_only"),
        (["--tenant", "nobody"], "there is no tenant 'nobody'"),
    ],
)
def test_a_bad_limit_is_one_sentence(home: Path, options: list[str], says: str) -> None:
    refused = keys(home, "create", "web", *options)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ") and says in refused.stderr
    assert listed(home) == []


def test_a_socket_left_by_a_dead_gateway_is_passed_over(home: Path) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "run/control.sock"))
    assert keys(home, "create", "web").exit_code == 0
    assert [k["name"] for k in listed(home)] == ["web"]
