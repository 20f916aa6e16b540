"""Request parameters of every endpoint, in one place to import from.

What it is: the three parsers and what they return. Each endpoint has its own module, ``parameters.py`` is the
table that says what is accepted and why something is not.
"""

from __future__ import annotations

from appliance.api.params_audio import TranscriptionParams, parse_transcription
from appliance.api.params_chat import ChatParams, parse_chat
from appliance.api.params_completions import CompletionParams, parse_completions

__all__ = [
    "ChatParams",
    "CompletionParams",
    "TranscriptionParams",
    "parse_chat",
    "parse_completions",
    "parse_transcription",
]
