"""Alembic's environment and the revisions of the ledger; run by ``appliance.ledger.upgrade`` only."""
