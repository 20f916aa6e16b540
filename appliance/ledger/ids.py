"""Identifiers that sort by the time they were made.

What it is: ``prefix_`` + 12 hex digits of Unix milliseconds + 16 random ones. Rows keyed by them append to the
end of their B-tree, which is what keeps an insert at one page, and a range of time is a range of ids.
What it refuses to be: a secret, or a strict order within one millisecond.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

_BLOCK_BYTES = 4096


def new_id(prefix: str, now_ms: int, token_hex: Callable[[int], str] = secrets.token_hex) -> str:
    """A fresh id, for example ``key_019ac3f0a1b2`` + 16 hex digits. ``now_ms`` is Unix milliseconds."""
    return f"{prefix}_{now_ms:012x}{token_hex(8)}"


def first_id(prefix: str, at_ms: int) -> str:
    """Not above any id made at ``at_ms`` or later, and above every earlier one: where a range of time begins."""
    return f"{prefix}_{max(0, at_ms):012x}"


class HexPool:
    """``secrets.token_hex`` in blocks: one system call, which also gives up the GIL, for 512 ids instead of one.

    Not to be shared by processes: a fork would hand out the same ids twice.
    """

    def __init__(self) -> None:
        self._block = ""
        self._at = 0

    def __call__(self, nbytes: int) -> str:
        """``nbytes`` random bytes as lower-case hex."""
        start, end = self._at, self._at + 2 * nbytes
        if end > len(self._block):
            self._block = os.urandom(max(_BLOCK_BYTES, nbytes)).hex()
            start, end = 0, 2 * nbytes
        self._at = end
        return self._block[start:end]
