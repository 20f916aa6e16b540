"""The Triton kernel of ``beam_attention``; that module says what it computes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 32


@triton.jit
def _attend(
    query, keys, values, table, lengths, out, heads, longest, columns, width, scale,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One head of one beam; softmax as the positions come by."""
    at = tl.program_id(0).to(tl.int64)
    row, head = at // heads, at % heads
    length = tl.load(lengths + row)
    within = tl.arange(0, WIDTH)
    inner = within < width
    q = tl.load(query + at * width + within, mask=inner, other=0.0).to(tl.float32) * scale
    high = -float("inf")
    total = 0.0
    mixed = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, length, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = position < length
        source = tl.load(table + row * columns + position, mask=inside, other=0).to(tl.int64)
        place = ((source * heads + head) * longest + position)[:, None] * width + within[None, :]
        mask = inside[:, None] & inner[None, :]
        k = tl.load(keys + place, mask=mask, other=0.0).to(tl.float32)
        scores = tl.where(inside, tl.sum(k * q[None, :], axis=1), -float("inf"))
        higher = tl.maximum(high, tl.max(scores, axis=0))
        shares = tl.exp(scores - higher)
        before = tl.exp(high - higher)
        v = tl.load(values + place, mask=mask, other=0.0).to(tl.float32)
        mixed = mixed * before + tl.sum(shares[:, None] * v, axis=0)
        total = total * before + tl.sum(shares, axis=0)
        high = higher
    mixed = tl.where(length > 0, mixed / tl.where(length > 0, total, 1.0), 0.0)
    tl.store(out + at * width + within, mixed.to(out.dtype.element_ty), mask=inner)


def launch(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    """As ``beam_attention.reference``."""
    rows, heads, width = query.shape
    longest, columns = keys.shape[2], table.shape[1]
    if keys.shape[1:] != (heads, longest, width) or values.shape != keys.shape or columns > longest:
        need = f"{heads} heads of {width} and at least {columns} positions"
        raise ValueError(f"keys and values need {need}, not {tuple(keys.shape)}")
    if not (keys.is_contiguous() and values.is_contiguous() and table.is_contiguous()):
        raise ValueError("keys, values and the table have to be contiguous: they are read where they lie")
    query = query.contiguous()
    out = torch.empty_like(query)
    _attend[(rows * heads,)](
        query, keys, values, table, lengths, out, heads, longest, columns, width, width**-0.5,
        WIDTH=triton.next_power_of_2(width), BLOCK=BLOCK, num_warps=2,
    )  # fmt: skip
    return out
