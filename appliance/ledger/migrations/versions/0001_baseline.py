"""Tenants, keys, requests, attempts, calls: the tables every later revision builds on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward; there is no way back."""
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("cache_salt", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="tenants_pkey"),
        sa.UniqueConstraint("name", name="tenants_name_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="keys_pkey"),
        sa.UniqueConstraint("digest", name="keys_digest_key"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="keys_tenant_id_fkey"),
        sqlite_with_rowid=False,
    )
    _partial_index("keys_live_name", "keys", ["tenant_id", "name"], "revoked_ms IS NULL", unique=True)
    _create_requests()
    _partial_index("requests_open", "requests", ["id"], "status = 'open'", unique=False)
    _create_attempts_and_calls()


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("error_code", sa.Text),
        sa.Column("total_ms", sa.Double),
        sa.Column("ttft_ms", sa.Double),
        sa.Column("finished_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="requests_pkey"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="requests_tenant_id_fkey"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="requests_key_id_fkey"),
        sqlite_with_rowid=False,
    )


def _create_attempts_and_calls() -> None:
    op.create_table(
        "attempts",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("total_ms", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "ordinal", name="attempts_pkey"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="attempts_request_id_fkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calls",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("attempt_ordinal", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("audio_s", sa.Double, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("ttft_ms", sa.Double),
        sa.Column("total_ms", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "attempt_ordinal", "ordinal", name="calls_pkey"),
        sa.ForeignKeyConstraint(
            ["request_id", "attempt_ordinal"],
            ["attempts.request_id", "attempts.ordinal"],
            name="calls_request_id_fkey",
        ),
        sqlite_with_rowid=False,
    )
