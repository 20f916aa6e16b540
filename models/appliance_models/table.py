"""``python -m appliance_models.table [FILE]``: the catalogue as a Markdown table, into FILE between its two markers.

What it refuses to be: a second catalogue. docs/models.md is checked against it by a test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from appliance_models import catalogue
from appliance_models.entry import Model

BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"


def table(models: Iterable[Model]) -> str:
    """One row a model. A dash is a fact that nobody could verify."""
    lines = [
        "| name | task | engine | source | licence | weights | KV a token | context | languages |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in sorted(models, key=lambda m: (m.task, m.name)):
        source = (
            f"`{model.hub.repo}`" + (" (gated)" if model.hub.gated else "")
            if model.hub
            else "this repository"
            if model.local
            else "package registry"
        )
        licence = model.licence + (", to be accepted" if model.must_accept else "")
        weights = f"{model.weights_bytes / 1e9:.2f} GB" if model.weights_bytes else "–"
        kv = f"{model.memory.kv_bytes_per_token / 1024:g} KiB" if model.memory.kv_bytes_per_token else "–"
        context = f"{model.context_tokens:,}" if model.context_tokens else "–"
        languages = len({tag[:3] for tag in model.languages})
        cells = [f"`{model.name}`", model.task, model.engine, source, licence, weights, kv, context, str(languages)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replaced(text: str, made: str) -> str:
    """``text`` with ``made`` between the markers. Raises ValueError where they are not."""
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


if __name__ == "__main__":
    made = table(catalogue.load_all().values())
    if len(sys.argv) == 1:
        print(made)
    else:
        path = Path(sys.argv[1])
        path.write_text(replaced(path.read_text(encoding="utf-8"), made), encoding="utf-8")
