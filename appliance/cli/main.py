"""The ``appliance`` command and its groups."""

from __future__ import annotations

import importlib

import click

import appliance

# command -> module and attribute; imported on use
_COMMANDS = {
    "serve": ("appliance.cli.serve", "serve"),
    "gateway": ("appliance.cli.gateway", "gateway"),
    "live": ("appliance.cli.live", "live"),
    "engine": ("appliance.cli.engine", "engine"),
    "tenants": ("appliance.cli.tenants", "tenants"),
    "conversations": ("appliance.cli.conversations", "conversations"),
    "requests": ("appliance.cli.conversations", "requests"),
    "outcome": ("appliance.cli.conversations", "outcome"),
    "subjects": ("appliance.cli.subjects", "subjects"),
    "budgets": ("appliance.cli.watching", "budgets"),
    "prices": ("appliance.cli.prices", "prices"),
    "server-cost": ("appliance.cli.prices", "server_cost"),
    "coefficients": ("appliance.cli.prices", "coefficients"),
    "glossaries": ("appliance.cli.glossaries", "glossaries"),
    "memory": ("appliance.cli.glossaries", "memory"),
    "audit": ("appliance.cli.watching", "audit"),
    "jobs": ("appliance.cli.watching", "jobs"),
    "db": ("appliance.cli.db", "db"),
    "policy": ("appliance.cli.policy", "policy"),
    "plan": ("appliance.cli.plan", "plan"),
    "models": ("appliance.cli.models", "models"),
    "status": ("appliance.cli.status", "status"),
    "logs": ("appliance.cli.logs", "logs"),
    "reload": ("appliance.cli.reload", "reload"),
    "keys": ("appliance.cli.keys", "keys"),
    "report": ("appliance.cli.report", "report"),
    "demo": ("appliance.cli.report", "demo"),
    "bundle": ("appliance.cli.bundle", "bundle"),
    "doctor": ("appliance.cli.doctor", "doctor"),
    "bench": ("appliance.cli.bench", "bench"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(appliance.__version__, prog_name="appliance")
def main() -> None:
    """A local-first inference appliance: one machine, one OpenAI-compatible API.

    Settings come from APPLIANCE_HOME/appliance.toml (default home: ~/.appliance) and from APPLIANCE_HOME,
    APPLIANCE_RUN, APPLIANCE_HOST and APPLIANCE_PORT.
    """
