"""What the judge decided of each request, for fitting and replaying policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward; there is no way back."""
    op.create_table(
        "decisions",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("intent", sa.Text),
        sa.Column("language", sa.Text),
        sa.Column("value_class", sa.Text),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("alternative", sa.Text),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("p_fail", sa.Double, nullable=False),
        sa.Column("p_fail_alternative", sa.Double),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger, nullable=False),
        sa.Column("extra_s", sa.Double, nullable=False),
        sa.Column("signals", sa.Text, nullable=False),
        sa.Column("shadow_of", sa.Text),
        sa.Column("agreement", sa.Double),
        sa.PrimaryKeyConstraint("request_id", name="decisions_pkey"),
        sqlite_with_rowid=False,
    )
