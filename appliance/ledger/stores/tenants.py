"""Tenants: whose traffic it is, where it may go, what it may cost and how long its text stays.

What it refuses to be: able to delete one. A tenant's money rows stay; ``disable`` ends its traffic.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, insert, select, update

from appliance.languages import parse
from appliance.ledger.core import reading
from appliance.ledger.schema import tenants
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, change
from appliance.ledger.stores.pages import Page, paged
from appliance.types import Residency

_LEAST_LOG_DAYS = 365  # DPDP Rules 2025, rule 6(1)(e): logs are kept for a year at least
_MOST_DAYS = 36_500
_MOST_PRESUME_H = 24 * 365


class TenantInfo(Struct, frozen=True):
    """What may be shown of a tenant. Times are Unix milliseconds, days and hours as named."""

    id: str
    name: str
    created_ms: int
    disabled_ms: int | None
    residency: Residency
    regions: tuple[str, ...]
    languages: tuple[str, ...]
    cap_nusd: int | None
    store_text: bool
    translation_memory: bool
    text_days: int
    log_days: int
    legal_hold: bool
    presume_after_h: int


_COLUMNS = [tenants.c[field] for field in TenantInfo.__struct_fields__]
_decode = msgspec.json.Decoder(tuple[str, ...]).decode


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns for what an operator may set of a tenant. Raises ValueError with a sentence."""
    result: dict[str, Any] = {}
    for field, value in fields.items():
        if field == "name":
            result[field] = values.name(value, "a tenant's name")
        elif field == "residency":
            result[field] = values.residency(value)
        elif field == "regions":
            result[field] = values.names(value or (), "a region")
        elif field == "languages":
            result[field] = values.names([parse(text) for text in value or ()], "a language")
        elif field == "cap_nusd":
            result[field] = values.nusd(value, "the cap")
        elif field in ("store_text", "translation_memory", "legal_hold"):
            result[field] = bool(value)
        elif field == "text_days":
            result[field] = _between(value, 1, _MOST_DAYS, "text is kept for")
        elif field == "log_days":
            result[field] = _between(value, _LEAST_LOG_DAYS, _MOST_DAYS, "logs are kept for")
        elif field == "presume_after_h":
            result[field] = _between(value, 1, _MOST_PRESUME_H, "silence is waited for", "hours")
        else:
            raise ValueError(f"{field!r} cannot be set on a tenant")
    return result


def create(engine: Engine, actor: Actor, tenant_id: str, name: str | None = None, **fields: Any) -> TenantInfo:
    """A new tenant. Raises ValueError, LedgerUnavailable."""
    tenant_id = values.identifier(tenant_id, "a tenant's id")
    columns = checked({"name": name or tenant_id, **fields})
    with change(engine, actor) as changing:
        connection = changing.connection
        taken = select(tenants.c.id).where((tenants.c.id == tenant_id) | (tenants.c.name == columns["name"]))
        if connection.execute(taken).first() is not None:
            raise values.Taken(
                f"there is a tenant {tenant_id!r} or one named {columns['name']!r} already; choose another"
            )
        row = {"id": tenant_id, **columns}
        secret = {"cache_salt": secrets.token_urlsafe(32), "secret": secrets.token_hex(32)}
        connection.execute(insert(tenants).values(**row, **secret, created_ms=changing.now_ms))
        changing.record("tenant.create", tenant_id, tenant_id=tenant_id, after=row)
    return get(engine, tenant_id)


def listed(engine: Engine) -> list[TenantInfo]:
    """All tenants, by id."""
    with reading(engine) as connection:
        return [_info(row) for row in connection.execute(select(*_COLUMNS).order_by(tenants.c.id)).mappings()]


def page(engine: Engine, tenant: str | None = None, *, at: str | None = None, limit: int = 50) -> Page[TenantInfo]:
    """All tenants, or the one that is named, in parts. Raises ValueError for a bad cursor or limit."""
    query = select(*_COLUMNS)
    if tenant is not None:
        query = query.where(tenants.c.id == tenant)
    return paged(engine, query, (tenants.c.id,), _info, at=at, limit=limit)


def get(engine: Engine, tenant_id: str) -> TenantInfo:
    """One tenant. Raises LookupError."""
    with reading(engine) as connection:
        return _info(_one(connection, tenant_id))


def configure(engine: Engine, actor: Actor, tenant_id: str, **fields: Any) -> TenantInfo:
    """Change a tenant; what is not named stays. Raises ValueError, LookupError, LedgerUnavailable."""
    columns = checked(fields)
    with change(engine, actor) as changing:
        before = _one(changing.connection, tenant_id)
        if "name" in columns:
            same = select(tenants.c.id).where(tenants.c.name == columns["name"], tenants.c.id != tenant_id)
            if changing.connection.execute(same).first() is not None:
                raise values.Taken(f"another tenant is named {columns['name']!r} already; choose another name")
        if columns:
            changing.connection.execute(update(tenants).where(tenants.c.id == tenant_id).values(**columns))
        after = _one(changing.connection, tenant_id)
        changing.record("tenant.set", tenant_id, tenant_id=tenant_id, before=before, after=after)
    return _info(after)


def disable(engine: Engine, actor: Actor, tenant_id: str, disabled: bool = True) -> TenantInfo:
    """End a tenant's traffic (its keys stop within a second), or let it in again."""
    with change(engine, actor) as changing:
        before = _one(changing.connection, tenant_id)
        if (before["disabled_ms"] is not None) != disabled:
            at_ms = changing.now_ms if disabled else None
            changing.connection.execute(update(tenants).where(tenants.c.id == tenant_id).values(disabled_ms=at_ms))
            changing.record("tenant.disable" if disabled else "tenant.enable", tenant_id, tenant_id=tenant_id)
        after = _one(changing.connection, tenant_id)
    return _info(after)


def _one(connection: Connection, tenant_id: str) -> RowMapping:
    row = connection.execute(select(*_COLUMNS).where(tenants.c.id == tenant_id)).mappings().first()
    if row is None:
        raise LookupError(f"there is no tenant {tenant_id[:80]!r}; `appliance tenants list` shows the tenants")
    return row


def _info(row: RowMapping) -> TenantInfo:
    fields = {name: row[name] for name in TenantInfo.__struct_fields__}
    for name in ("regions", "languages"):
        fields[name] = _decode(cast(str, fields[name]))
    return TenantInfo(**fields)


def _between(value: int, least: int, most: int, what: str, unit: str = "days") -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} {value} {unit}; give a number from {least} to {most}")
    return value
