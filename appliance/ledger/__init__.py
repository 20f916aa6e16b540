"""The ledger: who may call, and what became of every admitted request.

What it is: one SQLite file with tenants, keys, requests, attempts and calls; ``Ledger`` for the gateway,
``KeyStore`` for whoever manages keys, ``Reader`` for whoever looks afterwards.
What it refuses to be: a log of prompts, or imported with SQLAlchemy. The schema and its migrations are SQLAlchemy
and Alembic, loaded only while a file is created or upgraded; the gateway's statements are plain SQL.
"""

from appliance.ledger.facade import Ledger
from appliance.ledger.ids import HexPool, new_id
from appliance.ledger.keys import KeyInfo, KeyStore, ensure_admin_key
from appliance.ledger.reading import AttemptRow, CallRow, Reader, RequestRow
from appliance.ledger.sqlite import Rejected

__all__ = [
    "AttemptRow",
    "CallRow",
    "HexPool",
    "KeyInfo",
    "KeyStore",
    "Ledger",
    "Reader",
    "Rejected",
    "RequestRow",
    "ensure_admin_key",
    "new_id",
]
