"""Converters by name, each a program of its own: ``COMMAND SOURCE_DIR FILE OUT_DIR``.

What it is: the registry, and the one way a converter is run: in a process of its own, in an empty working directory,
with the store's lock inherited. ``FILE`` is ``.`` where the whole source directory is converted.
What it refuses to be: trusting. What has to come of a conversion is named in the catalogue and looked for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from appliance_models.entry import Model
from appliance_models.errors import StoreError

# kind -> command. -P keeps the working directory off the module path.
CONVERTERS: Mapping[str, Sequence[str]] = {
    "gguf": (sys.executable, "-P", "-m", "appliance_models.convert_gguf"),
    "indictrans2": (sys.executable, "-P", "-m", "appliance_models.convert_indictrans2"),
}


def convert(
    model: Model, converters: Mapping[str, Sequence[str]], source: Path, ready: Path, scratch: Path, hold: int
) -> None:
    """Run the model's converter from ``source`` into ``ready``. Raises StoreError with its last words."""
    assert model.convert is not None
    file = model.convert.file or "."
    scratch.mkdir(exist_ok=True)
    log = scratch / "convert.log"
    command = [*converters[model.convert.kind], str(source), file, str(ready)]
    with log.open("wb") as said:
        code = subprocess.run(
            command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(hold,), check=False
        ).returncode
    absent = [name for name in model.convert.produces if not (ready / name).is_file()]
    if code != 0 or absent:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = f"without {', '.join(absent)}" if code == 0 else f"with exit code {code}"
        last = f": {lines[-1].strip()}" if lines else ""
        what = model.name if file == "." else file
        raise StoreError(
            f"the conversion of {what} ended {why}{last}; check that 2 GB of memory are free and run"
            " the same command again"
        )
    if model.convert.generation:
        path = ready / "generation_config.json"
        path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **model.convert.generation}))
