"""What to execute for one engine: the message between the builders and the process that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EngineCommand:
    """``argv`` with its whole environment, run in ``cwd`` (created if absent). ``tmp`` is emptied at start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    tmp: Path


class CannotStart(Exception):
    """The engine cannot be started as configured; the text is one sentence that names the fix."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
