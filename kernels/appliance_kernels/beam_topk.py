"""The step of a beam search after the decoder: from hidden states to the best continuations of every sentence.

What it is: for each sentence the best ``2 * beams`` of running score + log-softmax over its beams and the whole
vocabulary, exactly, without ever writing the logits. ``reference`` says in a few lines of torch what that means, and
``beam_topk`` chooses between it and the Triton kernels by what is there.
What it refuses to be: a search. What ends, what is reordered and what length costs is the caller's (at one step all
candidates have the same length, so a length penalty does not change their order).
What it costs: one pass over the vocabulary weights. Beside them rows * vocabulary / 32 floats are written and read
(the logits would be 32 times that); see kernels/NOTES.md for the floor and what was measured.

How: the first kernel multiplies and keeps, per row, the sum of exponentials of each tile and the maximum of each group
of 32 columns. The best 2 * beams candidates lie in the best 2 * beams groups by maximum, because every group before
them would hold one that is better. The second kernel finds those groups, the third computes their 32 logits again, and
the last orders them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

GROUP = 32


def reference(
    hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forbidden: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, in plain torch.

    ``hidden`` (rows, d) and ``weight`` (V, d) in float32, float16 or bfloat16; products are summed in float32.
    ``running`` (rows,) float32: scores so far, -inf for a beam that does not count. Row r belongs to sentence
    r // ``beams``. ``forbidden`` (n,) int64: tokens that take no part, n may be 0. ``forced`` (rows,) int64: the only
    token that may follow, or -1; its probability is that among all tokens.

    Returns scores (sentences, 2 * beams) float32, best first; beams (the same shape, int64), 0 to ``beams`` - 1; and
    tokens (the same shape, int64). A score of -inf means that there is no such candidate. A row whose probabilities
    are no numbers (its hidden state has NaN or overflows) has no candidates and leaves the other rows alone.
    """
    sentences, vocabulary = _shapes(hidden, weight, running, beams, forced)
    logits = hidden.float() @ weight.float().T
    logits[:, forbidden] = -torch.inf
    total = logits.logsumexp(-1, keepdim=True)
    scores = running[:, None] + logits - total
    scores = torch.where(torch.isfinite(total), scores, -torch.inf)
    columns = torch.arange(vocabulary, device=hidden.device)
    scores = torch.where((forced[:, None] < 0) | (forced[:, None] == columns), scores, -torch.inf)
    best, places = scores.view(sentences, -1).topk(2 * beams, dim=1)
    return best, places // vocabulary, places % vocabulary


def beam_topk(
    hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forbidden: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``reference`` by the fastest way there is here; the same arguments and results."""
    if hidden.is_cuda and has_triton():
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.appliance.beam_topk(
            hidden, weight, running, beams, forbidden, forced
        )
        return found
    return reference(hidden, weight, running, beams, forbidden, forced)


def _shapes(hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forced: Tensor) -> tuple[int, int]:
    """Sentences and vocabulary; ValueError where shapes do not fit each other."""
    rows, vocabulary = len(hidden), len(weight)
    if beams < 1 or rows % beams:
        raise ValueError(f"{rows} rows are no whole number of sentences of {beams} beams")
    if hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden states are {hidden.shape[1]} wide and the weights {weight.shape[1]}")
    if running.shape != (rows,) or forced.shape != (rows,):
        raise ValueError(f"running and forced need the shape ({rows},)")
    if 2 * beams > vocabulary:
        raise ValueError(f"a vocabulary of {vocabulary} has no {2 * beams} continuations")
    return rows // beams, vocabulary


def has_triton() -> bool:
    """Whether Triton can be imported."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@torch.library.custom_op("appliance::beam_topk", mutates_args=())
def _op(
    hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forbidden: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from appliance_kernels import beam_topk_triton

    _shapes(hidden, weight, running, beams, forced)
    return beam_topk_triton.launch(hidden, weight, running, beams, forbidden, forced)


@_op.register_fake
def _fake(
    hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forbidden: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    shape: Any = (hidden.shape[0] // beams, 2 * beams)
    longs = hidden.new_empty(shape, dtype=torch.int64)
    return hidden.new_empty(shape, dtype=torch.float32), longs, torch.empty_like(longs)
