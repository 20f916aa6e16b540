"""From a clone to a working ``.venv``: preflight, locked install, and how the locks are compiled.

What it is: standard library only, because it runs before there is anything else.
What it refuses to be: a part of the appliance. Nothing in ``appliance/`` imports it, and it never
changes the machine outside the repository (a missing system library is named, not installed).
What it costs: under a second when nothing has changed, some 20 s with a warm package cache.
"""
