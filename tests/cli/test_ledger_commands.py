"""The ledger's commands: what they print, what they refuse, and that nothing typed makes them fall over."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from cli.conftest import Run
from ledger.conftest import Values

from appliance.cli.main import main
from appliance.ledger import Ledger
from appliance.ledger.ids import new_id
from appliance.ledger.stores import keys, tenants
from appliance.types import Turn

NOW_MS = 1_795_000_000_000
Ok = Callable[..., Any]


def talked(environment: dict[str, str], ok: Ok) -> tuple[str, str]:
    """One answered request of tenant acme; the ids of its conversation and of itself."""
    secret = ok("keys", "create", "talker", "--tenant", "acme")["secret"]
    where = environment.get("APPLIANCE_LEDGER_URL") or Path(environment["APPLIANCE_HOME"]) / "ledger.db"

    async def talk() -> str:
        ledger = Ledger.open(where)
        ledger.start(asyncio.get_running_loop())
        key = ledger.authenticate(secret)
        assert key is not None
        turn = Turn(conversation_id="ticket-1", language="hin_Deva", intent="refund", channel="whatsapp")
        admission = Values().admission(key, new_id("req", NOW_MS), NOW_MS, turn=turn)
        admitted = await ledger.admit(admission)
        await ledger.settle(
            admission, admitted, Values().outcome(admission.request.id, attempts=2, hosted_nusd=20_000_000)
        )
        ledger.close()
        return admission.request.id

    return "ticket-1", asyncio.run(talk())


def test_a_day_of_an_operator(environment: dict[str, str], run: Run, ok: Ok, ledger_home: Path) -> None:
    made = ok("tenants", "create", "acme", "--cap", "$50", "--store-text", "--language", "hi")
    assert (made["cap_nusd"], made["store_text"], made["languages"]) == (50_000_000_000, True, ["hin_Deva"])
    assert ok("tenants", "set", "acme", "--cap", "none", "--legal-hold")["legal_hold"] is True
    assert "yes" in run("tenants", "list").stdout.splitlines()[1]
    assert ok("tenants", "set", "acme", "--no-legal-hold")["cap_nusd"] is None
    conversation, request = talked(environment, ok)

    (listed,) = ok("conversations", "list", "--language", "hi", "--intent", "refund")["items"]
    assert (listed["id"], listed["tenant_id"], listed["channel"]) == (conversation, "acme", "whatsapp")
    assert ok("conversations", "list", "--state", "resolved")["items"] == []
    assert ok("conversations", "list", "--since", "2026-11-18", "--before", "2026-11-20")["items"] == [listed]
    said = ok("outcome", conversation, "--tenant", "acme", "--resolved", "--csat", 5, "--note", "ठीक है")
    assert (said["resolved"], said["csat"], said["key_id"]) == (True, 5, None)
    shown = run("conversations", "show", conversation, "--tenant", "acme").stdout
    assert "ठीक है" in shown and request in shown and "resolved" in shown
    table = run("requests", "list", "--status", "ok").stdout.splitlines()
    assert table[0].split()[:2] == ["ID", "TENANT"] and table[1].startswith(request)
    explained = ok("requests", "explain", request)
    assert [len(attempt["calls"]) for attempt in explained["attempts"]] == [1, 1]
    assert "routine" in run("requests", "explain", request).stdout

    budgets = {(b["scope"], b["tenant_id"]): b["spent_nusd"] for b in ok("budgets", "--month", "2026-11")["items"]}
    assert budgets == {("key", "acme"): 40_000_000, ("tenant", "acme"): 40_000_000}
    assert "0.04" in run("budgets", "--tenant", "acme").stdout
    exported = ok("subjects", "export", "asha", "--tenant", "acme")
    assert exported["conversations"] == []
    assert "erased nothing" in run("subjects", "erase", "asha", "--tenant", "acme").stdout
    assert run("tenants", "disable", "acme").stdout == "disabled acme\n"
    assert run("tenants", "enable", "acme").stdout == "enabled acme\n"
    assert run("jobs").stdout.split() == ["JOB", "LAST", "RAN", "WHAT", "CAME", "OF", "IT"]

    lines = ok("audit", "--tenant", "acme")["items"]
    assert [line["action"] for line in lines] == [
        "tenant.enable",
        "tenant.disable",
        "subject.erase",
        "subject.export",
        "outcome.set",
        "key.create",
        "tenant.set",
        "tenant.set",
        "tenant.create",
    ]
    # whoever the machine says it is, and not what the environment pretends
    assert {line["actor"] for line in lines} == {f"cli:{_user()}"}
    check = run("db", "check")
    assert (check.exit_code, check.stdout.splitlines()[-1]) == (0, "the ledger is right")
    file = run("db", "backup").stdout.strip()
    assert Path(file).parent == ledger_home / "backups"
    assert run("db", "check", file).exit_code == 0
    refused = run("db", "restore", file)
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert "kept as" in run("db", "restore", file, "--force").stdout
    assert [line["action"] for line in ok("audit", "--limit", 1)["items"]] == ["ledger.restore"]
    assert "already" in run("db", "upgrade").stdout


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def test_prices_and_costs(run: Run, ok: Ok, tmp_path: Path) -> None:
    assert len(ok("prices", "defaults")["items"]) > 10
    assert ok("prices", "defaults")["items"] == []
    made = ok("prices", "set", "acme-cloud", "m", "prompt_token", "0.123456789", "--from", "2027-01-01", "--batch")
    assert (made["usd_per_million"], made["effective_ms"], made["batch"]) == ("0.123456789", 1_798_741_800_000, True)
    again = run("prices", "set", "acme-cloud", "m", "prompt_token", "1", "--from", "2027-01-01", "--batch")
    assert again.exit_code == 1 and "date it later" in again.stderr
    for suffix, text in (
        ("csv", "provider,model,unit,usd_per_million,batch\nx,m,character,2,\nx,m,audio_s,3,true\n"),
        ("json", json.dumps([{"provider": "y", "model": "m", "unit": "character", "usd_per_million": "2"}])),
    ):
        file = tmp_path / f"prices.{suffix}"
        file.write_text(text)
        assert {p["usd_per_million"] for p in ok("prices", "import", file)["items"]} <= {"2", "3"}
    before = ok("prices", "list", "--limit", 1000)["items"]
    for name, text, says in (
        ("a.csv", "provider,model,unit,usd_per_million\nz,m,character,1\nz,m,wrong,1\n", "choose one of"),
        ("b.csv", "provider,model\nz,m\n", "missing required field"),
        ("c.csv", "provider,model,unit,usd_per_million,colour\nz,m,character,1,red\n", "unknown field"),
        ("d.json", "{", "not understood"),
        ("e.json", '[{"provider": "z", "model": "m", "unit": "character", "usd_per_million": 1}]', "Expected `str`"),
        ("f.csv", b"\xff\xfe\x00".decode("latin-1"), "not understood"),
    ):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        refused = run("prices", "import", tmp_path / name)
        assert refused.exit_code == 1 and says in refused.stderr, (name, refused.output)
    assert ok("prices", "list", "--limit", 1000)["items"] == before  # all of a file or nothing
    first = run("prices", "list", "--limit", 2)
    assert len(first.stdout.splitlines()) == 3
    following = run("prices", "list", "--limit", 2, "--after", first.stderr.split()[-1])
    assert following.stdout.splitlines()[1] not in first.stdout

    cost = ["--purchase-usd", "250000", "--busy-w", 2000, "--idle-w", 400, "--tariff-inr-per-kwh", "9.5"]
    assert ok("server-cost", "set", *cost, "--inr-per-usd", "84.5")["lifetime_months"] == 60
    assert "250000" in run("server-cost", "show").stdout
    assert ok("tenants", "set", "default", "--cap", "₹8450")["cap_nusd"] == 100_000_000_000
    assert ok("coefficients", "set", "*", "--prompt-token-ns", 1000)["model"] == "*"
    assert "1000" in run("coefficients", "list").stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("tenants show nobody", "there is no tenant 'nobody'"),
        ("tenants create Acme", "lower-case"),
        ("tenants create default", "already"),
        ("tenants set default", "nothing is to be changed"),
        ("tenants set default --log-days 3", "from 365 to"),
        ("tenants set default --language klingon", "klingon"),
        ("conversations show nothing", "has no conversation 'nothing'"),
        ("conversations list --state happy", "choose one of open"),
        ("conversations list --since yesterday", "write 2026-11-30"),
        ("conversations list --after zzz", "leave it out to begin again"),
        ("requests explain nothing", "there is no request"),
        ("requests list --status well", "choose one of open"),
        ("outcome c", "the outcome is empty"),
        ("outcome c --csat 6", "from 1 to 5"),
        ("outcome c --resolved --handed-to-human", "contradict"),
        ("outcome c --resolved", "has no conversation"),
        ("prices set local m character 1", "coefficients"),
        ("prices set google m character 0.0000000001", "at most 9 decimals"),
        ("prices set google m tokens 1", "choose one of prompt_token"),
        ("server-cost set --purchase-usd 1 --busy-w 1 --idle-w 2 --tariff-inr-per-kwh 1 --inr-per-usd 1", "idle"),
        ("coefficients set m --prompt-token-ns -1", "from 0"),
        ("budgets --month 11-2026", "write it as 2026-11"),
        ("subjects export u --tenant nobody", "there is no tenant"),
        ("db check", "no ledger yet"),
    ],
)
def test_what_is_refused_is_one_sentence(tmp_path: Path, ledger_home: Path, command: str, says: str) -> None:
    from click.testing import CliRunner

    home = tmp_path if command == "db check" else ledger_home
    environment = {"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": str(ledger_home)}
    result = CliRunner().invoke(main, command.split(), env=environment)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and says in result.stderr
    assert len(result.stderr.splitlines()) == 1


HOSTILE = (
    "'; DROP TABLE requests; --",
    "\udcff\udc80",  # what Python makes of bytes that are no UTF-8
    "a\0b",
    "x" * 5000,
    "-1",
    "99999999999999999999999",
    "nan",
)


def commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            assert found is not None
            yield from commands(found, *path, name)
    else:
        yield path, group


OF_THE_LEDGER = (
    "tenants", "keys", "conversations", "requests", "outcome", "subjects", "budgets", "prices", "server-cost",
    "coefficients", "audit", "jobs",
)  # fmt: skip


def test_nothing_typed_makes_a_command_fall_over(environment: dict[str, str], run: Run, ok: Ok) -> None:
    wrong = []
    # PostgreSQL is another matter only for what a database can hold; a command on it takes 0.1 s
    hostile = HOSTILE[:3] if "APPLIANCE_LEDGER_URL" in environment else HOSTILE
    for path, command in commands(main):
        if path[0] not in OF_THE_LEDGER:
            continue
        fields = [p for p in command.params if not isinstance(p.type, click.Path) and not getattr(p, "is_flag", False)]
        needed = [p for p in command.params if p.required]
        for tried in fields:
            for value in hostile:
                arguments = list(path)
                for param in {*needed, tried}:
                    given = value if param is tried else "1"
                    arguments += [given] if isinstance(param, click.Argument) else [f"{param.opts[0]}={given}"]
                result = run(*arguments)
                unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
                if result.exit_code not in (0, 1, 2) or unexpected or "cannot be used" in result.stderr:
                    wrong.append((arguments, result.exit_code, repr(result.exception), result.stderr[:300]))
    assert wrong == []
    assert run("db", "check").exit_code == 0
    assert ok("tenants", "list")["items"]


def test_the_stores_are_all_reached() -> None:
    """Whoever adds a setting to a tenant or key adds it to the commands."""
    by_path = dict(commands(main))
    for name, kind in (("tenants", tenants.TenantInfo), ("keys", keys.KeyInfo)):
        options = {p.name for p in by_path[(name, "set")].params}
        fixed = {"id", "created_ms", "disabled_ms", "revoked_ms", "tenant", "role"}
        fixed |= {"name"} if name == "keys" else set()
        settable = {f.replace("cap_nusd", "cap").replace("expires_ms", "expires") for f in kind.__struct_fields__}
        assert settable - fixed <= options
