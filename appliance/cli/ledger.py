"""What the ledger's commands share: its engine, who acts, tables, JSON, and errors as one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import msgspec

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.control import Refused, ask
from appliance.errors import ApplianceError
from appliance.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.ledger.stores.changes import Actor
    from appliance.ledger.stores.pages import Page

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


_paging = (
    click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Rows at once."),
    click.option("--after", "at", metavar="CURSOR", help="Go on where a list ended."),
)


def paged(command: Any) -> Any:
    """The options of every list."""
    for option in reversed(_paging):
        command = option(command)
    return as_json(command)


class Open:
    """The ledger, opened for one command."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine

    @property
    def actor(self) -> Actor:
        """Whoever typed the command."""
        from appliance.ledger.stores.changes import Actor

        # not getpass: it believes LOGNAME, and the audit would say whatever that is set to
        number = os.getuid()
        try:
            user = pwd.getpwuid(number).pw_name
        except KeyError:  # a container's user without a name
            user = str(number)
        return Actor(f"cli:{user}")

    def moment(self, text: str | None) -> int | None:
        """A date as people type it, in the site's time, as Unix milliseconds. Raises ValueError."""
        from appliance.ledger.stores import values

        return None if text is None else values.moment(text, ZoneInfo(self.settings.site.timezone))

    def heard(self) -> None:
        """Wait until a running gateway has heard of what was changed; at most a second."""
        from sqlalchemy import text

        from appliance.ledger.core import reading

        with reading(self.engine) as connection:
            version = connection.execute(text("SELECT value FROM meta WHERE name = 'auth_version'")).scalar()
        with contextlib.suppress(Refused, OSError):
            ask(self.settings.run / "control.sock", "ledger.seen", version=int(version or 0))


@contextlib.contextmanager
def opened() -> Iterator[Open]:
    """The ledger of these settings, created or upgraded if need be; what it refuses ends the command."""
    from appliance.ledger.core import engine
    from appliance.ledger.upgrade import prepare

    settings = settings_or_exit()
    settings.home.mkdir(parents=True, exist_ok=True)
    with sentences():
        prepare(settings.ledger_where)
        made = engine(settings.ledger_where)
        try:
            yield Open(settings, made)
        finally:
            made.dispose()


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """What the ledger refuses ends the command with its sentence."""
    try:
        yield
    except ApplianceError as e:
        raise Failure(e.message) from None
    except UnicodeError:
        raise Failure("what was typed holds bytes that are no UTF-8; type it again as text") from None
    except (ValueError, LookupError) as e:
        raise Failure(str(e.args[0] if e.args else e)) from None


def print_json(value: Any) -> None:
    """A Struct, or a list of them, for programs."""
    click.echo(json.dumps(msgspec.to_builtins(value, enc_hook=str), ensure_ascii=False, indent=1))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as they need be; nothing is cut."""
    from rich.cells import cell_len

    table = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(cell_len(row[n]) for row in table) for n in range(len(heads))]
    for row in table:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_page(page: Page[Any], heads: Sequence[str], row: Callable[[Any], Sequence[Any]], as_json: bool) -> None:
    """A part of a list; how to go on is said on standard error, and to programs in ``next``."""
    if as_json:
        print_json(page)
        return
    print_table(heads, [row(item) for item in page.items])
    if page.next is not None:
        click.echo(f"there is more: --after {page.next}", err=True)


def print_fields(value: Any) -> None:
    """A Struct, a line a field."""
    fields: dict[str, Any] = msgspec.to_builtins(value, enc_hook=str)
    width = max(map(len, fields))
    for name, field in fields.items():
        click.echo(f"{name.ljust(width)}  {_cell(field, name)}")


def date(unix_ms: int | None) -> str:
    """Local time, to the minute."""
    return "-" if unix_ms is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_ms / 1000))


def money(nusd: int | None) -> str:
    """USD of nano-dollars, to the cent where that says something."""
    if nusd is None:
        return "none"
    return f"{nusd / 1e9:,.2f}" if nusd >= 10_000_000 or nusd == 0 else f"{nusd / 1e9:.6f}"


def _cell(value: Any, name: str = "") -> str:
    if value is None:
        return "-"
    if name.endswith("_nusd"):
        return f"{money(value)} USD"
    if name.endswith("_ms") and isinstance(value, int):
        return date(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or ("none" if name == "regions" else "all")
    return str(value)
