"""The other side of ``bench-translate``: beam search on the PyTorch module, in a process of its own.

``WEIGHTS MOST`` translates the asks on standard input one after another; ``--make VOCABULARIES INTO`` writes random
weights of the published 200M shape and their conversion; ``--corpus DATA COUNT TAG…`` prints test sentences.
What it refuses to be: a way to translate.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path


def translate(weights: Path, most: int) -> None:
    """Seconds and texts, on standard output."""
    import torch

    from appliance_models.indictrans2 import checkpoint, processor
    from appliance_models.indictrans2.generate import translate_ids
    from appliance_models.indictrans2.tokenizer import Tokenizer

    torch.set_num_threads(2)
    asks = json.load(sys.stdin)
    model, tokenizer = checkpoint.load(weights).float().eval(), Tokenizer(weights)
    texts = []
    for n, (text, tag) in enumerate([asks[0], *asks]):  # the first one warms
        if n == 1:
            began = time.perf_counter()
        prepared = processor.prepare(text, "eng_Latn", tag)
        found = translate_ids(model, [tokenizer.source_ids(line) for line in prepared.lines], 5, most)
        outputs = [tokenizer.target.text(hypothesis.ids) for hypothesis in found]
        texts.append(processor.finish(prepared, outputs).text)
    print(json.dumps({"seconds": time.perf_counter() - began, "texts": texts[1:]}))


def make(vocabularies: Path, into: Path) -> None:
    """``into``/weights and ``into``/en-indic."""
    import shutil

    import torch

    from appliance_models.indictrans2 import checkpoint, convert
    from appliance_models.indictrans2.config import Config
    from appliance_models.indictrans2.model import IndicTrans
    from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer

    tokenizer = Tokenizer(vocabularies)
    sizes = max(tokenizer.source.pieces) + 1, max(tokenizer.target.pieces) + 1
    torch.manual_seed(1)
    model = IndicTrans(
        Config(
            encoder_vocab_size=sizes[0],
            decoder_vocab_size=sizes[1],
            encoder_embed_dim=512,
            decoder_embed_dim=512,
            encoder_layers=18,
            decoder_layers=18,
            encoder_ffn_dim=2048,
            decoder_ffn_dim=2048,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            encoder_normalize_before=True,
            decoder_normalize_before=True,
            layernorm_embedding=True,
            scale_embedding=True,
            share_decoder_input_output_embed=True,
            activation_function="gelu",
            max_source_positions=256,
            max_target_positions=256,
        )
    )
    weights = into / "weights"
    weights.mkdir(parents=True)
    checkpoint.save(model, weights, torch.float32)
    for name in TOKENIZER_FILES:
        shutil.copyfile(vocabularies / name, weights / name)
    convert.write(model.eval(), vocabularies, into / "en-indic", "int8")


def corpus(data: Path, count: int, tags: list[str]) -> None:
    """Rows of tag, English, Indic: of the test part, three words and more, each English sentence once."""
    from appliance_models.indictrans2.training import corpus as pairs

    found = [p for p in pairs.of(pairs.read(data)[0], "test") if p.tag in tags and len(p.english.split()) >= 3]
    random.Random(1).shuffle(found)
    once = {pair.english: pair for pair in found}
    print(json.dumps([(p.tag, p.english, p.indic) for p in list(once.values())[:count]]))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "--corpus":
        corpus(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    else:
        translate(Path(sys.argv[1]), int(sys.argv[2]))
