"""Keys: who may call what, how much and until when.

What it is: create, list, change, revoke, and the first admin key.
What it refuses to be: able to show a secret again. Only its SHA-256 is stored (``keytable`` says why not a slow hash).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, Row, RowMapping, insert, or_, select, text, update

from appliance.ledger.core import reading
from appliance.ledger.ids import new_id
from appliance.ledger.keytable import digest_of
from appliance.ledger.schema import keys, tenants
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, Change, change
from appliance.ledger.stores.pages import Page, paged
from appliance.ledger.upgrade import DEFAULT_TENANT
from appliance.types import Residency, Role

PREFIX = "ak-"
_SECRET_BYTES = 32


class KeyInfo(Struct, frozen=True):
    """What may be shown of a key. Times are Unix milliseconds; ``revoked_ms`` is None while it is live."""

    id: str
    name: str
    role: Role
    tenant: str
    created_ms: int
    revoked_ms: int | None
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    residency: Residency | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrent: int | None
    cap_nusd: int | None
    expires_ms: int | None


class Made(Struct, frozen=True):
    """A new key and its secret, which is nowhere else."""

    key: KeyInfo
    secret: str


_COLUMNS = [keys.c.tenant_id.label("tenant") if f == "tenant" else keys.c[f] for f in KeyInfo.__struct_fields__]
_decode = msgspec.json.Decoder(tuple[str, ...]).decode


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns for what a caller may set of a key. Raises ValueError with a sentence."""
    result: dict[str, Any] = {}
    for field, value in fields.items():
        if field == "models":
            result[field] = values.names(value or (), "a model")
        elif field == "endpoints":
            result[field] = values.endpoints(value or ())
        elif field == "residency":
            result[field] = None if value is None else values.residency(value)
        elif field in ("requests_per_minute", "tokens_per_minute", "max_concurrent"):
            result[field] = values.limit(value, field.replace("_", " "))
        elif field == "cap_nusd":
            result[field] = values.nusd(value, "the cap")
        elif field == "expires_ms":
            result[field] = None if value is None else values.unix_ms(value, "the expiry")
        else:
            raise ValueError(f"{field!r} cannot be set on a key")
    return result


def create(
    engine: Engine, actor: Actor, name: str, role: str = "client", tenant: str = DEFAULT_TENANT, **fields: Any
) -> Made:
    """A new key. ``name`` is unique among the live keys of a tenant, so that "revoke web" can mean one only.

    Raises ValueError (a bad value, a name that is taken), LookupError (tenant), LedgerUnavailable.
    """
    name = values.name(name, "a key's name")
    values.one_of(role, get_args(Role), "the role")
    columns = checked(fields)
    with change(engine, actor) as changing:
        expires_ms = columns.get("expires_ms")
        if expires_ms is not None and expires_ms <= changing.now_ms:
            raise ValueError("the expiry is past, so the key would open nothing; give a later one, or none")
        return _insert(changing, name, role, tenant, PREFIX + secrets.token_urlsafe(_SECRET_BYTES), columns)


def listed(engine: Engine, tenant: str | None = None) -> list[KeyInfo]:
    """All keys or one tenant's, oldest first, revoked ones too."""
    query = select(*_COLUMNS).order_by(keys.c.id)
    if tenant is not None:
        query = query.where(keys.c.tenant_id == tenant)
    with reading(engine) as connection:
        return [_info(row) for row in connection.execute(query).mappings()]


def page(engine: Engine, tenant: str | None = None, *, at: str | None = None, limit: int = 50) -> Page[KeyInfo]:
    """The same in parts. Raises ValueError for a bad cursor or limit."""
    query = select(*_COLUMNS)
    if tenant is not None:
        query = query.where(keys.c.tenant_id == tenant)
    return paged(engine, query, (keys.c.id,), _info, at=at, limit=limit)


def get(engine: Engine, key_id: str, tenant: str | None = None) -> KeyInfo:
    """One key (of ``tenant``, if it is named). Raises LookupError."""
    query = select(*_COLUMNS).where(keys.c.id == key_id)
    if tenant is not None:
        query = query.where(keys.c.tenant_id == tenant)
    with reading(engine) as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise LookupError(_unknown(key_id))
    return _info(row)


def configure(engine: Engine, actor: Actor, key_id: str, **fields: Any) -> KeyInfo:
    """Change what a key may do; what is not named stays. Raises ValueError, LookupError, LedgerUnavailable."""
    columns = checked(fields)
    with change(engine, actor) as changing:
        before = _row(changing, key_id)
        if columns:
            changing.connection.execute(update(keys).where(keys.c.id == key_id).values(**columns))
        after = _row(changing, key_id)
        changing.record("key.set", key_id, tenant_id=after.tenant_id, before=before._mapping, after=after._mapping)
    return get(engine, key_id)


def revoke(engine: Engine, actor: Actor, key_id: str) -> None:
    """End the key for good; revoking twice is not an error. Raises LookupError, LedgerUnavailable."""
    with change(engine, actor) as changing:
        before = _row(changing, key_id)
        if before.revoked_ms is not None:
            return
        changing.connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_ms=changing.now_ms))
        changing.record("key.revoke", key_id, tenant_id=before.tenant_id, after={"name": before.name})


def create_admin(engine: Engine, actor: Actor, keep: Any) -> str | None:
    """Unless an admin key exists that opens something: make one, after ``keep(secret)`` has stored its secret.

    Returns the secret.
    """
    with change(engine, actor) as changing:
        # two boxes may start for the first time at once; SQLite has one writer
        if engine.dialect.name == "postgresql":
            changing.connection.execute(text("LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE"))
        live = select(keys.c.name).where(keys.c.revoked_ms.is_(None), keys.c.tenant_id == DEFAULT_TENANT)
        opens = or_(keys.c.expires_ms.is_(None), keys.c.expires_ms > changing.now_ms)
        admins = select(keys.c.id).where(keys.c.role == "admin", keys.c.revoked_ms.is_(None), opens)
        if changing.connection.execute(admins.limit(1)).first():
            return None
        taken = set(changing.connection.execute(live).scalars())
        name, n = "admin", 1
        while name in taken:
            n += 1
            name = f"admin-{n}"
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        # the file first: a crash between the two leaves a useless file, not a key that nobody knows
        keep(secret)
        _insert(changing, name, "admin", DEFAULT_TENANT, secret, {})
        return secret


def _insert(changing: Change, name: str, role: str, tenant_id: str, secret: str, columns: Mapping[str, Any]) -> Made:
    connection = changing.connection
    if connection.execute(select(tenants.c.id).where(tenants.c.id == tenant_id)).first() is None:
        raise LookupError(f"there is no tenant {tenant_id[:80]!r}; `appliance tenants list` shows the tenants")
    same = select(keys.c.id).where(keys.c.tenant_id == tenant_id, keys.c.name == name, keys.c.revoked_ms.is_(None))
    if connection.execute(same).first() is not None:
        raise values.Taken(f"a live key is named {name!r} already; revoke it or choose another name")
    row = {"id": new_id("key", changing.now_ms), "tenant_id": tenant_id, "name": name, "role": role, **columns}
    connection.execute(insert(keys).values(**row, digest=digest_of(secret).hex(), created_ms=changing.now_ms))
    changing.record("key.create", row["id"], tenant_id=tenant_id, after=row)
    made = connection.execute(select(*_COLUMNS).where(keys.c.id == row["id"])).mappings().one()
    return Made(_info(made), secret)


def _row(changing: Change, key_id: str) -> Row[Any]:
    row = changing.connection.execute(select(keys).where(keys.c.id == key_id)).first()
    if row is None:
        raise LookupError(_unknown(key_id))
    return row


def _info(row: RowMapping) -> KeyInfo:
    fields = {name: row[name] for name in KeyInfo.__struct_fields__}
    for name in ("models", "endpoints"):
        fields[name] = _decode(cast(str, fields[name]))
    return KeyInfo(**fields)


def _unknown(key_id: str) -> str:
    return f"there is no key with the id {key_id[:80]!r}; `appliance keys list` shows the ids"
