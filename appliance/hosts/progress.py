"""The heartbeat of a host: what tells its supervisor that work is being done.

What it is: three series in Prometheus text, the same for every host of ours: batches finished, items unanswered, and
the longest batch so far (docs/supervision.md says how they are read).
What it refuses to be: liveness by answering. A host whose workers are stuck still answers ``/health``.
"""

from __future__ import annotations

from typing import Protocol


class Working(Protocol):
    """What a batcher offers."""

    @property
    def steps(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def longest_step_s(self) -> float: ...


def progress_text(work: Working) -> bytes:
    """To be appended to a host's ``/metrics``."""
    return (
        "# TYPE appliance_host_steps counter\n"
        f"appliance_host_steps_total {work.steps}\n"
        "# TYPE appliance_host_running gauge\n"
        f"appliance_host_running {work.running}\n"
        "# TYPE appliance_host_longest_step_seconds gauge\n"
        f"appliance_host_longest_step_seconds {work.longest_step_s:.3f}\n"
    ).encode()
