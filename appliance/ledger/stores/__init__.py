"""What operators read and change in the ledger, on SQLAlchemy Core: tenants, keys, prices, conversations, subjects.

What it is: plain functions of an engine, shared by the command line and the admin routes. Every change is one
transaction with its line in the audit, and gateways see it within a second.
What it refuses to be: on a request's way, or lenient: a value that is not understood is refused with a sentence.
"""
