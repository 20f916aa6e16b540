"""The one exception of the store and the catalogue."""

from __future__ import annotations


class StoreError(Exception):
    """A model cannot be had; the text is one sentence that says what to do."""
