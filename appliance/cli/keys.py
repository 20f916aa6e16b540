"""``appliance keys create | list | revoke``: through the running gateway, or through the ledger's file."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.control import Refused, ask
from appliance.errors import ApplianceError
from appliance.ledger import KeyStore

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def keys() -> None:
    """The keys that clients send as `Authorization: Bearer …`."""


@keys.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "operator", "client"]), default="client", show_default=True)
@_as_json
def create(name: str, role: str, as_json: bool) -> None:
    """Make a key called NAME. Its secret is printed once and stored nowhere."""
    key = _do("keys.create", name=name, role=role)
    if as_json:
        click.echo(json.dumps(key))
        return
    click.echo(key["secret"])
    click.echo(f"{key['id']}: {key['role']} key {key['name']!r}; this is the only time it is shown", err=True)


@keys.command("list")
@_as_json
def list_keys(as_json: bool) -> None:
    """All keys, without their secrets."""
    found = _do("keys.list")["keys"]
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [("ID", "NAME", "ROLE", "CREATED", "STATE")]
    rows += [
        (k["id"], k["name"], k["role"], _date(k["created_ms"]), "revoked" if k["revoked_ms"] else "live") for k in found
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
@click.argument("key_id", metavar="ID")
@_as_json
def revoke(key_id: str, as_json: bool) -> None:
    """End the key with this ID for good; a running gateway refuses it within a second."""
    _do("keys.revoke", id=key_id)
    click.echo(json.dumps({"id": key_id, "revoked": True}) if as_json else f"revoked {key_id}")


def _do(op: str, **fields: str) -> dict[str, Any]:
    settings = settings_or_exit()
    try:
        answer = ask(settings.run / "control.sock", op, **fields)
    except Refused as e:
        raise Failure(str(e)) from None
    if answer is not None:
        return answer
    settings.home.mkdir(parents=True, exist_ok=True)
    with _sentences(), contextlib.closing(KeyStore.open(settings.ledger_path)) as store:
        return _locally(store, op, fields)


def _locally(store: KeyStore, op: str, fields: dict[str, str]) -> dict[str, Any]:
    """The same operations and answers as the control socket's, on the file."""
    if op == "keys.create":
        key, secret = store.create(fields["name"], fields["role"])
        return {"id": key.id, "name": key.name, "role": key.role, "secret": secret}
    if op == "keys.list":
        return {"keys": [msgspec.to_builtins(info) for info in store.list()]}
    store.revoke(fields["id"])
    return {"id": fields["id"]}


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """What the ledger refuses ends the command with its sentence."""
    try:
        yield
    except ApplianceError as e:
        raise Failure(e.message) from None
    except (ValueError, LookupError) as e:
        raise Failure(str(e.args[0] if e.args else e)) from None


def _date(unix_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_ms / 1000))
