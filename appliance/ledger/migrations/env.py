"""Alembic's entry: runs inside the transaction that ``upgrade`` opened and handed over.

What it refuses to be: a second way to configure a database. Without a connection in ``attributes`` it fails.
"""

from __future__ import annotations

from alembic import context

from appliance.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
