"""Thought signatures of tool calls, kept because OpenAI's clients drop what they do not know.

What it is: the newest few thousand, by tenant and tool call. Gemini refuses a replayed call without its signature.
What it refuses to be: kept on disk. One that is lost costs the model its thread of thought, not the request.
"""

from __future__ import annotations

from collections import OrderedDict

MOST = 4096
MOST_BYTES = 32 * 1024 * 1024


class Signatures:
    """Oldest first out; ``most`` calls and ``most_bytes`` in all."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def keep(self, tenant: str, call_id: str, signature: bytes) -> None:
        """Remember the signature of a tool call."""
        self._bytes += len(signature) - len(self._kept.pop((tenant, call_id), b""))
        self._kept[tenant, call_id] = signature
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            self._bytes -= len(self._kept.popitem(last=False)[1])

    def of(self, tenant: str, call_id: str) -> bytes | None:
        """The signature of a call, None where it is not known any more."""
        return self._kept.get((tenant, call_id))
