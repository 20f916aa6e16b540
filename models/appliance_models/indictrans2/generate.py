"""Beam search on the PyTorch module: the plain reference that converted models are compared with.

What it is: ``translate_ids``, CTranslate2's default search in a page: finished hypotheses leave the beam, scores are
sums of log-probabilities over length to the power of ``length_penalty``, a batch row ends when ``beams`` are finished.
What it refuses to be: fast. It keeps a key/value cache, nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from appliance_models.indictrans2.model import Cache, IndicTrans
from appliance_models.indictrans2.tokenizer import left_padded


class Hypothesis(msgspec.Struct, frozen=True):
    """Target ids without start token and ``</s>``, and the normalised log-probability."""

    ids: tuple[int, ...]
    score: float


def translate_ids(
    model: IndicTrans,
    sources: Sequence[Sequence[int]],
    beams: int = 5,
    max_tokens: int = 256,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """The best hypothesis for each source, at least one token long; ``<unk>`` is never written."""
    with torch.inference_mode():
        return _search(model, sources, beams, max_tokens, length_penalty)


def _search(
    model: IndicTrans, sources: Sequence[Sequence[int]], beams: int, max_tokens: int, length_penalty: float
) -> list[Hypothesis]:
    config = model.config
    unknown = 3
    device = model.lm_head.weight.device
    source = torch.tensor(left_padded(sources, config.pad_token_id), device=device)
    memory, mask = model.encode(source)
    batch = len(sources)
    rows = torch.arange(batch, device=device).repeat_interleave(beams)
    memory, mask = memory[rows], mask[rows]
    cache = model.new_cache()
    last = torch.full((batch * beams, 1), config.decoder_start_token_id, device=device)
    # Only the first beam counts at the start, or all beams would be alike.
    scores = torch.full((batch, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    written = torch.empty((batch * beams, 0), dtype=torch.long, device=device)
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    for step in range(1, max_tokens + 1):
        logits = model.decode(last, memory, mask, cache)[:, -1].float()
        logits[:, unknown] = -torch.inf
        if step == 1:
            logits[:, config.eos_token_id] = -torch.inf  # CTranslate2's min_decoding_length is 1
        total = scores.view(-1, 1) + logits.log_softmax(-1)
        best, places = total.view(batch, -1).topk(2 * beams, dim=1)
        scores, origins, tokens = _advance(
            best,
            places,
            total.shape[1],
            written,
            finished,
            config.eos_token_id,
            is_last=step == max_tokens,
            norm=step**length_penalty,
        )
        if all(len(done) >= beams for done in finished):
            break
        written = torch.cat([written[origins], tokens[:, None]], 1)
        last = tokens[:, None]
        _reorder(cache, origins)
    return [max(done, key=lambda h: h.score) for done in finished]


def _advance(
    best: Tensor,
    places: Tensor,
    vocabulary: int,
    written: Tensor,
    finished: list[list[Hypothesis]],
    eos: int,
    is_last: bool,
    norm: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Move what ends (in the last step everything) into ``finished``.

    Returns scores, origin rows and tokens of the beams that go on.
    """
    batch, beams = len(finished), best.shape[1] // 2
    scores = torch.full((batch, beams), -torch.inf)
    origins = torch.arange(batch * beams)
    tokens = torch.full((batch * beams,), eos)
    for i in range(batch):
        kept = 0
        for rank, (score, place) in enumerate(zip(best[i].tolist(), places[i].tolist(), strict=True)):
            row, token = i * beams + place // vocabulary, place % vocabulary
            if is_last or token == eos:
                if rank < beams and len(finished[i]) < beams:
                    last = () if token == eos else (token,)
                    finished[i].append(Hypothesis((*written[row].tolist(), *last), score / norm))
            elif kept < beams:
                scores[i, kept] = score
                origins[i * beams + kept], tokens[i * beams + kept] = row, token
                kept += 1
    return scores.to(best.device), origins.to(best.device), tokens.to(best.device)


def _reorder(cache: Cache, origins: Tensor) -> None:
    for layer in cache:
        for name in ("k", "v"):
            layer[name] = layer[name][origins]
