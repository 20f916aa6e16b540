"""When requests came, of a ledger, and nothing else of them: the shape of a day for ``--arrivals ledger``.

What it is: ``appliance requests list --json`` as a process, page by page, newest first; of every row only the time is
kept, and of the times only how many came in each quarter of an hour of the day (UTC).
What it refuses to be: a reader of the ledger's tables, or of texts. A page of 1,000 costs about a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from appliance_bench.arrivals import density_of
from appliance_bench.gateway_rig import environment
from appliance_bench.records import RecordError

MOST = 100_000
_LEAST = 20


def density(home: Path, most: int = MOST) -> list[float]:
    """Requests by quarter of an hour. Raises RecordError where there are too few to have a shape."""
    times: list[float] = []
    after = ""
    while len(times) < most:
        page = _page(home, after)
        times += [item["at_ms"] / 1000 for item in page["items"]]
        after = page.get("next") or ""
        if not after:
            break
    return _of(times, f"the ledger in {home}")


def density_of_file(path: Path) -> list[float]:
    """Of a file with a time of arrival a line (Unix seconds). Raises RecordError."""
    try:
        times = [float(line) for line in path.read_text().split()]
    except OSError as e:
        raise RecordError(f"{path} cannot be read ({e.strerror}); write poisson, bursty, ledger or a file") from None
    except ValueError:
        raise RecordError(f"{path} is no list of times: Unix seconds, one a line") from None
    return _of(times, str(path))


def _of(times: list[float], where: str) -> list[float]:
    if len(times) < _LEAST:
        raise RecordError(
            f"{where} has {len(times)} requests; a shape needs {_LEAST}: use --arrivals poisson or bursty"
        )
    return density_of(times)


def _page(home: Path, after: str) -> dict[str, Any]:
    argv = [sys.executable, "-P", "-m", "appliance", "requests", "list", "--json", "--limit", "1000"]
    argv += ["--after", after] if after else []
    with tempfile.TemporaryDirectory(prefix="ab-") as scratch:
        done = subprocess.run(
            argv, env=environment({"APPLIANCE_HOME": str(home)}), cwd=scratch, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise RecordError(f"the ledger in {home} does not tell when requests came; it said: {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
