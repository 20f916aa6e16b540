"""Identifiers that sort by the time they were made.

What it is: ``prefix_`` + 12 hex digits of Unix milliseconds + 16 random ones. Rows keyed by them append to the
end of their B-tree, which is what keeps an insert at one page, and a range of time is a range of ids.
What it refuses to be: a secret, or a strict order within one millisecond.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable


def new_id(prefix: str, now_ms: int, token_hex: Callable[[int], str] = secrets.token_hex) -> str:
    """A fresh id, for example ``key_019ac3f0a1b2`` + 16 hex digits. ``now_ms`` is Unix milliseconds."""
    return f"{prefix}_{now_ms:012x}{token_hex(8)}"
