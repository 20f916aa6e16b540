"""What the repository carries of a trained direction: CTranslate2 in int8, figures, and weights where asked for.

What it is: ``export``. The int8 directory is what the appliance translates with; fp16 weights (28 MB a direction of
14M parameters, so not in the repository) let another machine train on from them.
What it refuses to be: large; it fails above 16 MB for what is served.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from appliance_models.indictrans2 import checkpoint, convert
from appliance_models.indictrans2.model import IndicTrans
from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer
from appliance_models.indictrans2.training import evaluate
from appliance_models.indictrans2.training.corpus import Pair
from appliance_models.indictrans2.training.dataset import Direction

MOST_BYTES = 16_000_000


def ctranslate(directory: Path, beams: int = 5, threads: int = 1) -> evaluate.Translate:
    """A converted directory as a function of prepared lines."""
    translator, tokenizer = convert.translator(directory, threads), Tokenizer(directory)

    def translate(lines: Sequence[str]) -> list[str]:
        pieces = [tokenizer.source_pieces(line) for line in lines]
        results: list[Any] = translator.translate_batch(
            pieces, beam_size=beams, max_batch_size=2048, batch_type="tokens", max_decoding_length=128, disable_unk=True
        )
        return [tokenizer.target.join(result.hypotheses[0]) for result in results]

    return translate


def export(
    model: IndicTrans,
    direction: Direction,
    state: Path,
    target: Path,
    facts: dict[str, Any],
    pairs: Sequence[Pair],
    weights: bool = False,
) -> evaluate.Scores:
    """Convert, measure on ``pairs`` and write ``target`` anew; returns the scores."""
    made = target / direction
    shutil.rmtree(made, ignore_errors=True)
    convert.write(model.eval(), state / direction, made, "int8")
    size = sum(path.stat().st_size for path in made.iterdir())
    if size > MOST_BYTES:
        raise ValueError(f"{made} has {size / 1e6:.1f} MB; {MOST_BYTES / 1e6:.0f} MB may be committed")
    if weights:
        half = target / f"{direction}-weights"
        half.mkdir(exist_ok=True)
        checkpoint.save(model, half, torch.float16)
        for name in TOKENIZER_FILES:
            shutil.copyfile(state / direction / name, half / name)
    scores = evaluate.score(pairs, direction, ctranslate(made))
    card = {
        **facts,
        "direction": direction,
        "parameters": sum(p.numel() for p in model.parameters()),
        "int8_bytes": size,
        "chrf": msgspec.to_builtins(scores),
    }
    (target / f"{direction}.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return scores
