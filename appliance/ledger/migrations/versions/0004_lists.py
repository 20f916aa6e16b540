"""The audit of SQLite also refuses REPLACE, which deletes without its trigger; outcomes can be read newest first."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward; there is no way back."""
    op.create_index("outcomes_at", "outcomes", ["at_ms", "id"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        # REPLACE fires DELETE's trigger only where recursive_triggers is on, which is for each connection to say
        op.execute(
            "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit"
            " WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
            " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        )
