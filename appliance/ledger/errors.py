"""The ledger's own refusal: an entry that cannot be recorded whatever the store's state is."""

from __future__ import annotations

from appliance.errors import LedgerUnavailable


class Rejected(LedgerUnavailable):
    """500: this entry itself cannot be recorded (a second id, an unknown request, a bad value)."""

    status = 500
    code = "ledger_rejected"
