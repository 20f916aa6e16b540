"""A minimal supervisor: ``python holder.py HOME ARGV…`` starts ARGV under its guard and follows it.

Prints ``started MAIN GUARD``, then, when nothing is left, ``gone WAIT_STATUS``. Reads ``stop GRACE_S`` from
the file descriptor 0.
"""

import asyncio
import os
import sys
from pathlib import Path

from appliance.supervisor.command import EngineCommand
from appliance.supervisor.guarded import Guarded


async def main(home: Path, argv: tuple[str, ...]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    command = EngineCommand(argv, dict(os.environ), home / "cwd", home / "tmp")
    engine = await Guarded.start(command, null, lock)
    asyncio.get_running_loop().add_reader(0, lambda: engine.stop(float(os.read(0, 100).split()[1])))
    print(f"started {engine.pid} {engine._guard.pid}", flush=True)
    await engine.gone
    print(f"gone {engine.wait_status}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), tuple(sys.argv[2:])))
