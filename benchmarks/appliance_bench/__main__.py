"""``python -m appliance_bench COMMAND …``: what ``appliance bench`` starts.

What it is: a table of commands, each a module with ``main(argv) -> exit code``, loaded when it is asked for. A
RecordError from any of them is one sentence on standard error and exit code 1 (2 for bad arguments, as argparse has
it).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from appliance_bench.records import RecordError

COMMANDS = {
    "run": ("appliance_bench.run", "a suite of workloads at given loads, as one run"),
    "smoke": ("appliance_bench.smoke", "ten minutes of everything beside the last committed run of this machine"),
    "tune": ("appliance_bench.tune", "the configuration with the most goodput within the targets, as a profile"),
    "verify": ("appliance_bench.verify", "whether this machine still does what its profile says"),
    "compare": ("appliance_bench.compare", "the ratio of two runs, metric by metric, with intervals"),
    "report": ("appliance_bench.pages", "one HTML page of the runs, and their plots as PNG"),
    "measure": ("appliance_bench.measure", "how long an engine's work takes, as a profile, and how well it predicts"),
    "capacity": ("appliance_bench.capacity", "boxes, rupees a month and hosted share for a volume of conversations"),
}


def usage() -> str:
    """What there is."""
    lines = [f"  {name:10} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: appliance bench COMMAND …", "", *lines, "", "appliance bench COMMAND --help says more"])


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"error: there is no command {argv[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[argv[0]][0])
    try:
        status: int = module.main(argv[1:])
    except RecordError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
