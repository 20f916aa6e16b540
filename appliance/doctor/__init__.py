"""What support would ask for, asked at once: every check gives a colour, a finding and the fix in one line.

What it is: checks over values (``checks``, ``outside``), the one that runs them (``look``), and a redacted archive of
what was found (``archive``).
What it refuses to be: a repair. It changes nothing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Colour = Literal["green", "yellow", "red"]


class Check(Struct, frozen=True):
    """One line. ``fix`` is empty where nothing has to be done."""

    name: str
    colour: Colour
    found: str
    fix: str = ""


def green(name: str, found: str) -> Check:
    """As it should be."""
    return Check(name, "green", found)


def yellow(name: str, found: str, fix: str) -> Check:
    """It works, and somebody should look."""
    return Check(name, "yellow", found, fix)


def red(name: str, found: str, fix: str) -> Check:
    """It does not work, or will not for long."""
    return Check(name, "red", found, fix)
