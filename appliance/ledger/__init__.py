"""The ledger: who may call, what became of every admitted request, and what a resolved conversation cost.

What it is: one database (a SQLite file or PostgreSQL). ``Ledger`` is what the gateway holds; ``stores`` is what
operators read and change; ``report`` is what the month came to.
What it refuses to be: a log of prompts, or imported with SQLAlchemy. The schema, its migrations and everything off the
hot path are SQLAlchemy and Alembic, loaded when first used; the gateway's own statements are plain SQL.
"""

from appliance.ledger.admin_key import ensure_admin_key
from appliance.ledger.errors import Rejected
from appliance.ledger.facade import Ledger
from appliance.ledger.ids import HexPool, new_id

__all__ = ["HexPool", "Ledger", "Rejected", "ensure_admin_key", "new_id"]
