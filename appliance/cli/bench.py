"""``appliance bench``: the benchmarks, started as a process of their own.

What it is: the names of the commands and what each is for. Everything after a name goes to ``python -m
appliance_bench NAME`` as it is, and its exit code comes back: benchmarks import nothing of the appliance, and the
appliance nothing of them.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import click

COMMANDS = {
    "run": "A suite of workloads at given loads, as one run.",
    "smoke": "Ten minutes of everything, beside the last committed run of this machine.",
    "tune": "Find the engines' best settings within latency targets, and keep them as this machine's profile.",
    "verify": "Whether this machine still does what its profile says.",
    "compare": "The ratio of two runs, metric by metric, with intervals.",
    "report": "One HTML page of the runs, and their plots as PNG.",
    "measure": "How long an engine's work takes, as a profile, and how well it predicts.",
    "capacity": "Boxes, rupees a month and hosted share for a volume of conversations.",
}

_START = (sys.executable, "-P", "-m", "appliance_bench")


class _Passing(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None

        @click.pass_context
        def start(ctx: click.Context) -> None:
            ctx.exit(run([cmd_name, *ctx.args]))

        # --help is the benchmark's own as well
        settings = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
        return click.Command(
            cmd_name, context_settings=settings, callback=start, help=COMMANDS[cmd_name], add_help_option=False
        )


def run(argv: list[str]) -> int:
    """``python -m appliance_bench`` with ``argv``; its exit code.

    Ctrl-C is the child's to handle: it keeps what is done. -P keeps the working directory off its path: a directory
    named like a library would be imported instead of it.
    """
    process = subprocess.Popen([*_START, *argv])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


@click.command(cls=_Passing)
def bench() -> None:
    """Measure, compare, and reckon capacity from what was measured."""
