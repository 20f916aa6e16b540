"""The one exception that the set-up turns into a sentence and exit code 1."""

from __future__ import annotations


class SetupError(Exception):
    """Set-up cannot go on; the text is one sentence that says what to do."""
