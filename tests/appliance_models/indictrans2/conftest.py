from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from appliance_models.indictrans2 import checkpoint
from appliance_models.indictrans2.config import Config
from appliance_models.indictrans2.model import IndicTrans
from appliance_models.indictrans2.training import dataset
from appliance_models.indictrans2.training.dataset import Example

# One thread: these models are so small that threads waiting for one another cost more than the work.
torch.set_num_threads(1)

Checkpoint = Callable[..., Path]

TINY = Config(
    encoder_vocab_size=0,
    decoder_vocab_size=0,
    encoder_embed_dim=32,
    decoder_embed_dim=32,
    encoder_layers=3,
    decoder_layers=2,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_normalize_before=True,
    decoder_normalize_before=True,
    layernorm_embedding=True,
    scale_embedding=True,
    share_decoder_input_output_embed=True,
    activation_function="gelu",
    max_source_positions=256,
    max_target_positions=256,
)
_ENGLISH = "open close file save print page table row column name date time order pay bill help send mail new old"
_HINDI = "खोलें बंद फ़ाइल सहेजें छापें पृष्ठ तालिका पंक्ति स्तंभ नाम दिनांक समय आदेश भुगतान बिल मदद भेजें मेल नया पुराना"
WORDS, INDIC = _ENGLISH.split(), _HINDI.split()


def sentences(count: int) -> list[Example]:
    """Word-by-word 'translations' of two to five words: enough for SentencePiece, and learnable."""
    out = []
    for i in range(count):
        picks = [(i * 7 + j * (3 + i % 5)) % len(WORDS) for j in range(2 + i % 4)]
        out.append(Example("hin_Deva", " ".join(WORDS[p] for p in picks), " ".join(INDIC[p] for p in picks)))
    return out


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with en-indic/ and indic-en/, each with SentencePiece models and dictionaries in official layout."""
    directory = tmp_path_factory.mktemp("vocabulary")
    dataset._vocabularies(sentences(300), directory, (90, 140))
    return directory


@pytest.fixture(scope="session")
def make_checkpoint(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Writes a checkpoint of random weights with the given flags; the weights are large enough to have opinions."""
    import json
    import shutil

    def make(direction: str = "en-indic", **flags: Any) -> Path:
        directory = tmp_path_factory.mktemp("checkpoint")
        for path in (vocabulary / direction).iterdir():
            shutil.copyfile(path, directory / path.name)
        sizes = [len(json.loads((directory / f"dict.{side}.json").read_text())) for side in ("SRC", "TGT")]
        flags = {"encoder_vocab_size": sizes[0], "decoder_vocab_size": sizes[1], **flags}
        checkpoint.save(random_model(msgspec.structs.replace(TINY, **flags)), directory)
        return directory

    return make


def random_model(config: Config, seed: int = 1) -> IndicTrans:
    torch.manual_seed(seed)
    model = IndicTrans(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 0.2)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, mean=1.0, std=0.2)
    return model.eval()


@pytest.fixture(scope="session")
def official() -> Path:
    """The published tokenizers; they are not part of the repository."""
    named = os.environ.get("APPLIANCE_INDICTRANS2_TOKENIZERS")
    path = Path(named) if named else Path(__file__).resolve().parents[4] / "shared" / "indictrans2-tokenizers"
    if not (path / "en-indic" / "model.SRC").exists():
        pytest.skip("no official tokenizers: set APPLIANCE_INDICTRANS2_TOKENIZERS, or lay them in ../shared")
    return path
