"""How far a model has come, for people: bars on a terminal, a line a step elsewhere.

What it is: one Protocol of two methods and its three implementations.
What it refuses to be: a log. Nothing here is meant to be parsed.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text


class Reporter(Protocol):
    """Told about one step after another."""

    def step(self, text: str, total_bytes: int | None = None) -> None:
        """A new step begins, and with it the last one is over. Without a total only time is shown."""

    def advance(self, done_bytes: int) -> None:
        """The step has come so far, in bytes since its start."""


class Silent:
    """Says nothing."""

    def step(self, text: str, total_bytes: int | None = None) -> None:
        """Nothing."""

    def advance(self, done_bytes: int) -> None:
        """Nothing."""


class Lines:
    """One line a step, for logs and CI."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    def step(self, text: str, total_bytes: int | None = None) -> None:
        """Print the step, with its size where that is known."""
        size = f" ({_size(total_bytes)})" if total_bytes else ""
        print(f"models: {text}{size}", file=self._out, flush=True)

    def advance(self, done_bytes: int) -> None:
        """Nothing: a log needs no bar."""


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


class _Megabytes(ProgressColumn):
    """How much of how much, and nothing for a step that has no size."""

    def render(self, task: Task) -> Text:
        sized = bool(task.fields["sized"]) and task.total is not None
        return Text(f"{task.completed / 1e6:.0f}/{(task.total or 0) / 1e6:.0f} MB" if sized else "", "green")


class Bars:
    """rich's bars; a context manager, because they have to be taken down."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Megabytes(),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def step(self, text: str, total_bytes: int | None = None) -> None:
        """A bar of its own for each step."""
        self._finish()
        self._task = self._progress.add_task(text, total=total_bytes, sized=total_bytes is not None)

    def advance(self, done_bytes: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done_bytes)

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._progress.tasks[-1]
        total = task.total if task.total is not None else max(task.completed, 1)
        self._progress.update(self._task, total=total, completed=total)
