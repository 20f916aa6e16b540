"""``/v1/admin/…``: the ledger's stores over HTTP, for keys of role operator and admin.

What it is: a table of routes (``routes.py``) that says who may, what comes in and what goes out; the OpenAPI document
and the tests walk the same table. Handlers run in threads, and SQLAlchemy is loaded by the first of them.

Who may what, whatever else a request says:

- **client** keys reach nothing here.
- **operator** keys see their own tenant only, and what belongs to none (prices, server costs, coefficients, jobs). They
  may say outcomes, export and erase subjects. Another tenant's anything is as unknown to them as what never was.
- **admin** keys see and change every tenant. Tenants, keys, prices, server costs and coefficients are theirs alone, so
  no operator can widen a limit, lift a legal hold, or make a key that may more than itself.

What it refuses to be: a second set of rules. What a store refuses, this refuses, in the store's words.
"""

from appliance.api.admin.route import AdminRoute, endpoint
from appliance.api.admin.routes import ROUTES

__all__ = ["ROUTES", "AdminRoute", "endpoint"]
