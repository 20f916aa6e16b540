"""The exceptions of the store and the catalogue."""

from __future__ import annotations


class StoreError(Exception):
    """A model cannot be had; the text is one sentence that says what to do."""


class NotAccepted(StoreError):
    """Its licence has to be accepted first."""


class WrongBytes(StoreError):
    """A source gave other bytes than were promised or pinned."""
