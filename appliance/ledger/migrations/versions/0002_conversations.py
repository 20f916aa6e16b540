"""Conversations, budgets, limits, outcomes, prices and the audit: what a resolved conversation is counted with."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_APPEND_ONLY = "the audit is append-only"


def upgrade() -> None:
    """Forward; there is no way back."""
    _extend()
    _create_gateways()
    _create_conversations()
    _create_limits()
    _create_prices()
    _protect_audit()
    _fill()


def _extend() -> None:
    op.add_column("calls", sa.Column("thinking_tokens", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("calls", sa.Column("characters", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("calls", sa.Column("provider", sa.Text, server_default="local", nullable=False))
    op.add_column("calls", sa.Column("hosted_nusd", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("calls", sa.Column("work_ns", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("keys", sa.Column("models", sa.Text, server_default="[]", nullable=False))
    op.add_column("keys", sa.Column("endpoints", sa.Text, server_default="[]", nullable=False))
    op.add_column("keys", sa.Column("residency", sa.Text))
    op.add_column("keys", sa.Column("requests_per_minute", sa.Integer))
    op.add_column("keys", sa.Column("tokens_per_minute", sa.Integer))
    op.add_column("keys", sa.Column("max_concurrent", sa.Integer))
    op.add_column("keys", sa.Column("cap_nusd", sa.BigInteger))
    op.add_column("keys", sa.Column("expires_ms", sa.BigInteger))
    op.add_column("requests", sa.Column("conversation_id", sa.Text))
    op.add_column("requests", sa.Column("gateway_id", sa.Text))
    op.add_column("requests", sa.Column("month", sa.Integer))
    op.add_column("requests", sa.Column("reserved_nusd", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("route", sa.Text))
    op.add_column("requests", sa.Column("reason", sa.Text))
    op.add_column("requests", sa.Column("escalated", sa.Boolean, server_default=sa.false(), nullable=False))
    op.add_column("requests", sa.Column("prompt_tokens", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("cached_tokens", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("completion_tokens", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("audio_s", sa.Double, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("hosted_nusd", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("energy_nusd", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("work_ns", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("requests", sa.Column("busy_ns", sa.BigInteger))
    op.add_column("tenants", sa.Column("secret", sa.Text, server_default="", nullable=False))
    op.add_column("tenants", sa.Column("residency", sa.Text, server_default="local_only", nullable=False))
    op.add_column("tenants", sa.Column("regions", sa.Text, server_default="[]", nullable=False))
    op.add_column("tenants", sa.Column("languages", sa.Text, server_default="[]", nullable=False))
    op.add_column("tenants", sa.Column("cap_nusd", sa.BigInteger))
    op.add_column("tenants", sa.Column("store_text", sa.Boolean, server_default=sa.false(), nullable=False))
    op.add_column("tenants", sa.Column("text_days", sa.Integer, server_default="90", nullable=False))
    op.add_column("tenants", sa.Column("log_days", sa.Integer, server_default="365", nullable=False))
    op.add_column("tenants", sa.Column("legal_hold", sa.Boolean, server_default=sa.false(), nullable=False))
    op.add_column("tenants", sa.Column("presume_after_h", sa.Integer, server_default="72", nullable=False))
    op.add_column("tenants", sa.Column("disabled_ms", sa.BigInteger))


def _create_gateways() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("id", name="audit_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateways",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("beat_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="gateways_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("lease_until_ms", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("ran_ms", sa.BigInteger),
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("name", name="jobs_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="meta_pkey"),
        sqlite_with_rowid=False,
    )


def _create_conversations() -> None:
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("resolved", sa.Boolean),
        sa.Column("handed_to_human", sa.Boolean),
        sa.Column("csat", sa.Integer),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint("id", name="outcomes_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("outcomes_conversation", "outcomes", ["tenant_id", "conversation_id"], unique=False)
    op.create_table(
        "texts",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="texts_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("texts_conversation", "texts", ["tenant_id", "conversation_id"], unique=False)
    op.create_table(
        "threads",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("conversation_id", sa.Text),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "hash", name="threads_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "conversations",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("language", sa.Text),
        sa.Column("intent", sa.Text),
        sa.Column("value_class", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("opened_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_ms", sa.BigInteger, nullable=False),
        sa.Column("reopened", sa.Integer, server_default="0", nullable=False),
        sa.Column("requests", sa.Integer, server_default="0", nullable=False),
        sa.Column("answered_by", sa.Text),
        sa.Column("escalated", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("hosted_nusd", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("energy_nusd", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("work_ns", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("busy_ns", sa.BigInteger, server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="conversations_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="conversations_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("conversations_opened", "conversations", ["opened_ms"], unique=False)


def _create_limits() -> None:
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("scope_id", sa.Text, nullable=False),
        sa.Column("month", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("spent_nusd", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("reserved_nusd", sa.BigInteger, server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("scope", "scope_id", "month", name="budgets_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("content_type", sa.Text),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("key_id", "name", name="idempotency_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meters",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("requests", sa.Double, nullable=False),
        sa.Column("tokens", sa.Double, nullable=False),
        sa.Column("filled_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="meters_pkey"),
        sqlite_with_rowid=False,
    )


def _create_prices() -> None:
    op.create_table(
        "coefficients",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("effective_ms", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("prompt_token_ns", sa.Double, nullable=False),
        sa.Column("completion_token_ns", sa.Double, nullable=False),
        sa.Column("audio_s_ns", sa.Double, nullable=False),
        sa.Column("character_ns", sa.Double, nullable=False),
        sa.Column("source", sa.Text, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("model", "effective_ms", name="coefficients_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engine_hours",
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("hour_ms", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("busy_ns", sa.BigInteger, nullable=False),
        sa.Column("up_ns", sa.BigInteger, nullable=False),
        sa.Column("work_ns", sa.BigInteger),
        sa.PrimaryKeyConstraint("engine", "hour_ms", "gateway_id", name="engine_hours_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prices",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("batch", sa.Boolean, nullable=False),
        sa.Column("effective_ms", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("usd_per_million", sa.Text, nullable=False),
        sa.Column("source", sa.Text, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "unit", "batch", "effective_ms", name="prices_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "server_costs",
        sa.Column("effective_ms", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("purchase_usd", sa.Text, nullable=False),
        sa.Column("lifetime_months", sa.Integer, nullable=False),
        sa.Column("upkeep_usd_per_month", sa.Text, server_default="0", nullable=False),
        sa.Column("busy_w", sa.Integer, nullable=False),
        sa.Column("idle_w", sa.Integer, nullable=False),
        sa.Column("tariff_inr_per_kwh", sa.Text, nullable=False),
        sa.Column("inr_per_usd", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("effective_ms", name="server_costs_pkey"),
        sqlite_with_rowid=False,
    )


def _protect_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{what.lower()} BEFORE {what} ON audit"
                f" BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )


def _fill() -> None:
    bind = op.get_bind()
    for (tenant_id,) in bind.execute(sa.text("SELECT id FROM tenants")).fetchall():
        values = {"secret": secrets.token_hex(32), "id": tenant_id}
        bind.execute(sa.text("UPDATE tenants SET secret = :secret WHERE id = :id"), values)
    for name, value in (("ledger_id", secrets.token_hex(16)), ("kind", "real"), ("auth_version", "1")):
        bind.execute(sa.text("INSERT INTO meta (name, value) VALUES (:name, :value)"), {"name": name, "value": value})
