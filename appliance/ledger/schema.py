"""The tables, as SQLAlchemy Core metadata.

What it is: the one description of the schema that migrations are compared with (a test does), in types that SQLite
and PostgreSQL both have: text ids, Unix milliseconds as 64-bit integers, doubles, booleans.
What it refuses to be: imported by the gateway. SQLAlchemy costs some 25 MB and 0.2 s; only ``upgrade`` and tests pay.
What it costs: every index is paid at every request, so there is one on the hot path (``requests_open``, some 2 µs a
request, always one page because it only holds what runs now) and none that serves reports alone: ids sort by time,
so a range of ids is a range of time.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("cache_salt", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the secret, hex
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    sqlite_with_rowid=False,
)

# A revoked key gives its name back; two live keys of one tenant never share one.
Index(
    "keys_live_name",
    keys.c.tenant_id,
    keys.c.name,
    unique=True,
    sqlite_where=text("revoked_ms IS NULL"),
    postgresql_where=text("revoked_ms IS NULL"),
)

# Without a rowid the primary key is the table: one B-tree to write instead of two.
requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("key_id", Text, ForeignKey("keys.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),  # as the caller named it
    Column("stream", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("http_status", Integer),
    Column("error_code", Text),
    Column("total_ms", Double),
    Column("ttft_ms", Double),
    Column("finished_ms", BigInteger),
    sqlite_with_rowid=False,
)

Index(
    "requests_open",
    requests.c.id,
    sqlite_where=text("status = 'open'"),
    postgresql_where=text("status = 'open'"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", Text, ForeignKey("requests.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("engine", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("total_ms", Double, nullable=False),
    sqlite_with_rowid=False,
)

calls = Table(
    "calls",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("attempt_ordinal", Integer, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("engine", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("audio_s", Double, nullable=False),
    Column("finish_reason", Text),
    Column("ttft_ms", Double),
    Column("total_ms", Double, nullable=False),
    ForeignKeyConstraint(["request_id", "attempt_ordinal"], ["attempts.request_id", "attempts.ordinal"]),
    sqlite_with_rowid=False,
)
