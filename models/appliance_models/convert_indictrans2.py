"""``python -m appliance_models.convert_indictrans2 SOURCE . OUT``: an IndicTrans2 checkpoint for CTranslate2.

What it is: what the store runs after a pull, in a process of its own: ``indictrans2.convert`` in float16, which a CPU
quantises to int8 when it loads it and a GPU takes as it is; licence and read-me of the checkpoint come along.
What it refuses to be: a choice of quantisation. One copy on disk serves every device.
What it costs: 17 s and 2.3 GB for the 200M shape on one core.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from appliance_models.indictrans2 import convert
from appliance_models.indictrans2.config import CheckpointError

KEPT = ("LICENSE*", "README.md")


def main(arguments: list[str]) -> int:
    """Convert; 1 and one sentence where that cannot be."""
    source, _, out = (Path(argument) for argument in arguments)
    made = out / ".made"
    try:
        convert.convert(source, made, "float16")
    except (CheckpointError, ValueError, OSError, RuntimeError) as e:
        print(e, file=sys.stderr)
        return 1
    for path in made.iterdir():
        path.rename(out / path.name)
    made.rmdir()
    for pattern in KEPT:
        for path in source.glob(pattern):
            shutil.copyfile(path, out / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
