"""Glossaries and translation memory, and who wants the latter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward; there is no way back."""
    op.add_column("tenants", sa.Column("translation_memory", sa.Boolean, server_default=sa.false(), nullable=False))
    op.create_table(
        "glossary_terms",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("glossary", sa.Text, nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("term", sa.Text, nullable=False),
        sa.Column("translation", sa.Text),
        sa.Column("case", sa.Text, nullable=False),
        sa.Column("note", sa.Text, server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="glossary_terms_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "glossary", "form", "source", "target", name="glossary_terms_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "translations",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("alike", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("variant", sa.Text, server_default="", nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("translation", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("used_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="translations_tenant_id_fkey"),
        sa.PrimaryKeyConstraint("tenant_id", "hash", name="translations_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("translations_alike", "translations", ["tenant_id", "alike"])
