"""What every command needs: settings, or one sentence and an exit code."""

from __future__ import annotations

import os

import click

from appliance.settings import Settings, SettingsError, load_settings
from appliance.supervisor.exits import Exit


class Failure(click.ClickException):
    """Printed as ``error: …`` on standard error."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = code  # click declares it as a constant of the class

    def show(self, file: object = None) -> None:
        """One line, without click's capital letter."""
        click.echo(f"error: {self.message}", err=True)


def settings_or_exit() -> Settings:
    """The settings of this environment; a mistake in them ends the command."""
    try:
        return load_settings(os.environ)
    except SettingsError as e:
        raise Failure(str(e), Exit.BAD_ARGUMENTS) from None
