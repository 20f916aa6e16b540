"""The Triton kernels of ``beam_topk``; that module says what they compute and why this is enough.

What it refuses to be: called with shapes that nobody looked at; ``beam_topk`` does that.
What it costs: five launches, the first of which does nearly all the work: 2 * rows * V * d operations and one reading
of the weights, because the programs of one tile of columns run beside each other and share it in L2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from appliance_kernels.beam_topk import GROUP


class Tiles(NamedTuple):
    """Rows, columns and depth of a tile of the product, and how many warps and stages work on it."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def tiles_for(rows: int, width: int) -> Tiles:
    """What was fastest, or near it, on the GPU that kernels/NOTES.md names."""
    most = triton.next_power_of_2(width)
    if rows <= 16:
        return Tiles(16, 128, min(128, most), 4, 4)
    if rows <= 32:
        return Tiles(32, 128, min(64, most), 4, 4)
    if rows <= 64:
        return Tiles(64, 128, min(64, most), 4, 4)
    return Tiles(128, 256, min(64, most), 8, 3)


@triton.jit
def _forbid(logits, columns, forbidden, n_forbidden, vocabulary):
    """-inf for what is beyond the vocabulary or forbidden."""
    logits = tl.where(columns < vocabulary, logits, float("-inf"))
    for i in range(n_forbidden):
        logits = tl.where(columns == tl.load(forbidden + i), float("-inf"), logits)
    return logits


@triton.jit
def _product(
    hidden, weight, forbidden, forced, groups, tile_best, tile_sum,
    rows, vocabulary, width, n_forbidden, n_tiles, n_groups,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile: group maxima (rows, n_groups), tile maxima and sums of exponentials (rows, n_tiles)."""
    row_tiles = tl.cdiv(rows, ROWS)
    at = tl.program_id(0)
    # programs of one tile of columns follow each other
    row = (at % row_tiles) * ROWS + tl.arange(0, ROWS)
    tile = at // row_tiles
    column = tile * COLUMNS + tl.arange(0, COLUMNS)
    within = tl.arange(0, DEPTH)
    ours = hidden + row[:, None].to(tl.int64) * width + within[None, :]
    theirs = weight + column[None, :].to(tl.int64) * width + within[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, width, DEPTH):
        inside = within < width - start
        a = tl.load(ours, mask=(row[:, None] < rows) & inside[None, :], other=0.0)
        b = tl.load(theirs, mask=(column[None, :] < vocabulary) & inside[:, None], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
        ours += DEPTH
        theirs += DEPTH
    sums = _forbid(sums, column[None, :], forbidden, n_forbidden, vocabulary)
    best = tl.max(sums, axis=1)
    base = tl.where(best == float("-inf"), 0.0, best)
    exponentials = tl.sum(tl.exp(sums - base[:, None]), axis=1)
    tl.store(tile_sum + row.to(tl.int64) * n_tiles + tile, exponentials, mask=row < rows)
    tl.store(tile_best + row.to(tl.int64) * n_tiles + tile, best, mask=row < rows)
    only = tl.load(forced + row, mask=row < rows, other=-1)[:, None]
    sums = tl.where((only < 0) | (only == column[None, :]), sums, float("-inf"))
    maxima = tl.max(tl.reshape(sums, (ROWS, COLUMNS // GROUP, GROUP)), axis=2)
    group = tile * (COLUMNS // GROUP) + tl.arange(0, COLUMNS // GROUP)
    place = groups + row[:, None].to(tl.int64) * n_groups + group[None, :]
    tl.store(place, maxima, mask=(row[:, None] < rows) & (group[None, :] < n_groups))


@triton.jit
def _normalise(
    running, groups, tile_best, tile_sum, total, tile_top, n_tiles, n_groups,
    TILES: tl.constexpr, PER_TILE: tl.constexpr,
):  # fmt: skip
    """One row: the logarithm of its sum, and the best score within each tile."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, TILES)
    best = tl.load(tile_best + row * n_tiles + tile, mask=tile < n_tiles, other=float("-inf"))
    sums = tl.load(tile_sum + row * n_tiles + tile, mask=tile < n_tiles, other=0.0)
    high = tl.max(best, axis=0)
    high = tl.where(high == float("-inf"), 0.0, high)
    logarithm = high + tl.log(tl.sum(tl.where(sums > 0, sums * tl.exp(best - high), sums), axis=0))
    so_far = tl.load(running + row)
    # x - x is 0 for numbers and NaN for everything else
    number = (logarithm - logarithm == 0.0) & (so_far - so_far == 0.0)
    tl.store(total + row, tl.where(number, so_far - logarithm, float("-inf")))
    within = tl.arange(0, PER_TILE)
    group = tile[:, None] * PER_TILE + within[None, :]
    inside = (tile[:, None] < n_tiles) & (group < n_groups)
    maxima = tl.load(groups + row * n_groups + group, mask=inside, other=float("-inf"))
    top = tl.max(maxima, axis=1) + so_far - logarithm
    tl.store(tile_top + row * n_tiles + tile, tl.where(number, top, float("-inf")), mask=tile < n_tiles)


@triton.jit
def _take_best(values, places, K: tl.constexpr, n):
    """The ``n`` highest of a vector, in order, as vectors of K: scores and what ``places`` has there."""
    out = tl.arange(0, K)
    scores = tl.full((K,), float("-inf"), tl.float32)
    found = tl.zeros((K,), tl.int32)
    for i in range(n):
        best, at = tl.max(values, axis=0, return_indices=True)
        here = tl.arange(0, values.shape[0]) == at
        scores = tl.where(out == i, best, scores)
        found = tl.where(out == i, tl.sum(tl.where(here, places, 0), axis=0), found)
        values = tl.where(here, float("-inf"), values)
    return scores, found


@triton.jit
def _choose(
    groups, total, tile_top, chosen, n_tiles, n_groups, beams, wanted,
    ALL_TILES: tl.constexpr, K: tl.constexpr, PER_TILE: tl.constexpr,
):  # fmt: skip
    """One sentence: its best ``wanted`` groups, as beam * n_groups + group; -1 for none."""
    sentence = tl.program_id(0).to(tl.int64)
    first = sentence * beams
    at = tl.arange(0, ALL_TILES)
    tops = tl.load(tile_top + first * n_tiles + at, mask=at < beams * n_tiles, other=float("-inf"))
    tops, tiles = _take_best(tops, at, K, wanted)
    beam, tile = tiles // n_tiles, tiles % n_tiles
    within = tl.arange(0, PER_TILE)
    group = tile[:, None] * PER_TILE + within[None, :]
    inside = (tops[:, None] > float("-inf")) & (group < n_groups)
    maxima = tl.load(groups + (first + beam[:, None]) * n_groups + group, mask=inside, other=float("-inf"))
    scores = maxima + tl.load(total + first + beam)[:, None]
    flat = tl.reshape(tl.where(inside, scores, float("-inf")), (K * PER_TILE,))
    where = tl.reshape(beam[:, None] * n_groups + group, (K * PER_TILE,))
    scores, places = _take_best(flat, where, K, wanted)
    out = tl.arange(0, K)
    tl.store(chosen + sentence * wanted + out, tl.where(scores > float("-inf"), places, -1), mask=out < wanted)


@triton.jit
def _again(
    hidden, weight, forbidden, forced, total, chosen, scores, vocabulary, width, n_forbidden, n_groups, beams, wanted,
    DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One chosen group: the scores of its columns."""
    at = tl.program_id(0).to(tl.int64)
    place = tl.load(chosen + at)
    known = place >= 0
    place = tl.where(known, place, 0)
    row = (at // wanted) * beams + place // n_groups
    column = (place % n_groups) * GROUP + tl.arange(0, GROUP)
    within = tl.arange(0, DEPTH)
    sums = tl.zeros((GROUP,), tl.float32)
    for start in range(0, width, DEPTH):
        inside = within < width - start
        a = tl.load(hidden + row * width + start + within, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(
            weight + column[:, None].to(tl.int64) * width + start + within[None, :],
            mask=(column[:, None] < vocabulary) & inside[None, :],
            other=0.0,
        ).to(tl.float32)
        sums += tl.sum(b * a[None, :], axis=1)
    sums = _forbid(sums, column, forbidden, n_forbidden, vocabulary)
    only = tl.load(forced + row)
    sums = tl.where((only < 0) | (only == column), sums, float("-inf"))
    sums += tl.load(total + row)
    # what is no number is no candidate either
    sums = tl.where(known & (sums == sums), sums, float("-inf"))
    tl.store(scores + at * GROUP + tl.arange(0, GROUP), sums)


@triton.jit
def _order(
    scores, chosen, best, beam_out, token_out, n_groups, wanted,
    ALL: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One sentence: its ``wanted`` best continuations, in order."""
    sentence = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, ALL)
    values = tl.load(scores + sentence * wanted * GROUP + at, mask=at < wanted * GROUP, other=float("-inf"))
    values, places = _take_best(values, at, K, wanted)
    group = tl.load(chosen + sentence * wanted + places // GROUP)
    group = tl.where(group >= 0, group, 0)
    out = tl.arange(0, K)
    mask = out < wanted
    tl.store(best + sentence * wanted + out, values, mask=mask)
    tl.store(beam_out + sentence * wanted + out, (group // n_groups).to(tl.int64), mask=mask)
    tl.store(token_out + sentence * wanted + out, ((group % n_groups) * GROUP + places % GROUP).to(tl.int64), mask=mask)


def launch(
    hidden: Tensor,
    weight: Tensor,
    running: Tensor,
    beams: int,
    forbidden: Tensor,
    forced: Tensor,
    tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``beam_topk.reference``; ``tiles`` overrules the choice."""
    rows, width = hidden.shape
    vocabulary, wanted = len(weight), 2 * beams
    hidden, weight = hidden.contiguous(), weight.contiguous()
    t = tiles or tiles_for(rows, width)
    n_tiles, n_groups = triton.cdiv(vocabulary, t.columns), triton.cdiv(vocabulary, GROUP)
    sentences = rows // beams
    per_tile, k = t.columns // GROUP, triton.next_power_of_2(wanted)

    def floats(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=hidden.device)

    groups, tile_best, tile_sum = floats(rows, n_groups), floats(rows, n_tiles), floats(rows, n_tiles)
    total, tile_top = floats(rows), floats(rows, n_tiles)
    chosen = torch.empty((sentences, wanted), dtype=torch.int32, device=hidden.device)
    scores, best = floats(sentences, wanted, GROUP), floats(sentences, wanted)
    beam = torch.empty((sentences, wanted), dtype=torch.int64, device=hidden.device)
    token = torch.empty_like(beam)
    n_forbidden = len(forbidden)
    _product[(triton.cdiv(rows, t.rows) * n_tiles,)](
        hidden, weight, forbidden, forced, groups, tile_best, tile_sum,
        rows, vocabulary, width, n_forbidden, n_tiles, n_groups,
        ROWS=t.rows, COLUMNS=t.columns, DEPTH=t.depth, GROUP=GROUP,
        PRECISION="ieee" if hidden.dtype == torch.float32 else "tf32",
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    _normalise[(rows,)](
        running, groups, tile_best, tile_sum, total, tile_top, n_tiles, n_groups,
        TILES=triton.next_power_of_2(n_tiles), PER_TILE=per_tile, num_warps=4,
    )  # fmt: skip
    _choose[(sentences,)](
        groups, total, tile_top, chosen, n_tiles, n_groups, beams, wanted,
        ALL_TILES=triton.next_power_of_2(beams * n_tiles), K=k, PER_TILE=per_tile, num_warps=4,
    )  # fmt: skip
    _again[(sentences * wanted,)](
        hidden, weight, forbidden, forced, total, chosen, scores,
        vocabulary, width, n_forbidden, n_groups, beams, wanted,
        DEPTH=min(256, triton.next_power_of_2(width)), GROUP=GROUP, num_warps=4,
    )  # fmt: skip
    _order[(sentences,)](
        scores, chosen, best, beam, token, n_groups, wanted,
        ALL=triton.next_power_of_2(wanted * GROUP), K=k, GROUP=GROUP, num_warps=2,
    )  # fmt: skip
    return best, beam, token
