"""Attention of one new token a beam, over keys and values that stay where they were written.

What it is: ``beam_attention``. When a beam search keeps a continuation of another beam, the usual decoder copies that
beam's whole cache; here a table says for every beam and position which row holds its key and value, and only the table
is copied (``advance``). Attention to the source is the same with a table that names the sentence's row everywhere.
What it refuses to be: attention for prefill.
What it costs: one reading of keys and values, most of which beams of one sentence share in L2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from appliance_kernels.beam_topk import has_triton


def reference(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    """The same in plain torch.

    ``query`` (rows, heads, width of a head); ``keys`` and ``values`` (any number of rows, heads, longest, width of a
    head), all of one dtype; ``table`` (rows, at most longest) int32: the row of keys and values that a beam has at each
    position; ``lengths`` (rows,) int32: how many positions count, 0 for a beam that does not take part.

    Returns (rows, heads, width of a head): softmax(query · keys / sqrt(width)) · values, computed in float32; zeros
    where the length is 0.
    """
    longest = table.shape[1]
    positions = torch.arange(longest, device=table.device)
    inside = positions[None] < lengths[:, None]
    rows = torch.where(inside, table, 0).long()
    # advanced indices apart from each other put their axes first: (rows, longest, heads, width)
    own_keys, own_values = (x[rows, :, positions[None]].float() for x in (keys, values))
    scores = torch.einsum("rhw,rthw->rht", query.float(), own_keys) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~inside[:, None], -torch.inf).softmax(-1).nan_to_num(0.0)
    return torch.einsum("rht,rthw->rhw", weights, own_values.masked_fill(~inside[:, :, None, None], 0.0)).to(
        query.dtype
    )


def beam_attention(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    """``reference`` by the fastest way there is here; the same arguments and result."""
    if query.is_cuda and has_triton():
        found: Tensor = torch.ops.appliance.beam_attention(query, keys, values, table, lengths)
        return found
    return reference(query, keys, values, table, lengths)


def advance(table: Tensor, origins: Tensor, position: Tensor) -> None:
    """Make ``table`` that of beams which go on from the rows ``origins``; each row writes ``position`` (1,) next."""
    table.copy_(table.index_select(0, origins))
    own = torch.arange(len(table), dtype=table.dtype, device=table.device)[:, None]
    table.index_copy_(1, position, own)


@torch.library.custom_op("appliance::beam_attention", mutates_args=())
def _op(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    from appliance_kernels import beam_attention_triton

    return beam_attention_triton.launch(query, keys, values, table, lengths)


@_op.register_fake
def _fake(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    return torch.empty_like(query)
