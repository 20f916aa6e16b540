"""Runs in a process whose Triton interprets: every case of ``test_kernels`` as one JSON object."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from appliance_kernels import beam_attention, beam_topk, log_mel
from appliance_kernels.beam_attention_triton import launch as attend
from appliance_kernels.beam_topk_triton import Tiles, launch
from appliance_kernels.log_mel_triton import launch as features

np.seterr(all="ignore")  # NaN and infinities are among the cases
torch.manual_seed(7)
FLOAT, HALF = torch.float32, torch.float16


def topk(
    sentences: int, beams: int, vocabulary: int, width: int, dtype: torch.dtype = FLOAT, *,
    forbidden: tuple[int, ...] = (3,), force: bool = False, poison: bool = False, dead: bool = False,
    ties: bool = False, tiles: Tiles | None = None,
) -> dict[str, Any]:  # fmt: skip
    rows = sentences * beams
    hidden = torch.randn(rows, width).to(dtype)
    weight = (torch.randn(vocabulary, width) * 3 / width**0.5).to(dtype)
    running = -5 * torch.rand(rows)
    running[torch.rand(rows) < 0.1] = -torch.inf
    if dead:
        running[:] = -torch.inf
    if ties:
        weight[10:20] = weight[5]
    if poison:
        hidden[1], hidden[2] = torch.nan, torch.inf
    forced = torch.full((rows,), -1)
    if force:
        forced[::3] = torch.randint(4, vocabulary, (len(forced[::3]),))
    given = hidden, weight, running, beams, torch.tensor(forbidden, dtype=torch.int64), forced
    kernel, truth = launch(*given, tiles), beam_topk.reference(*given)
    number = torch.isfinite(truth[0])
    same = ((kernel[1] == truth[1]) & (kernel[2] == truth[2])) | ~number
    if ties:  # which of several equals comes first is not promised
        same = torch.ones_like(same)
    best = kernel[0].nan_to_num(neginf=-1e30)
    return {
        "same_numbers": bool((torch.isfinite(kernel[0]) == number).all()),
        "largest_error": float((kernel[0] - truth[0])[number].abs().max()) if number.any() else 0.0,
        "same_places": float(same.float().mean()),
        "ordered": bool((best[:, :-1] >= best[:, 1:]).all()),
    }


def attention(
    rows: int, heads: int, longest: int, width: int, dtype: torch.dtype, short: bool = False
) -> dict[str, Any]:
    query, keys, values = (
        torch.randn(*shape).to(dtype) for shape in ((rows, heads, width), *[(rows, heads, longest, width)] * 2)
    )
    table = torch.randint(0, rows, (rows, longest), dtype=torch.int32)
    lengths = torch.randint(0, longest + 1, (rows,), dtype=torch.int32)
    if short:
        lengths[::2] = 0
    kernel = attend(query, keys, values, table, lengths)
    truth = beam_attention.reference(query, keys, values, table, lengths)
    difference = (kernel.float() - truth.float()).abs().max()
    return {"largest_error": float(difference), "finite": bool(torch.isfinite(kernel).all())}


def paged() -> dict[str, Any]:
    """More rows of keys than queries, fewer columns in the table than positions: the runner's pool and sources."""
    query, keys, values = torch.randn(4, 2, 16), torch.randn(9, 2, 30, 16), torch.randn(9, 2, 30, 16)
    table = torch.randint(0, 9, (4, 12), dtype=torch.int32)
    lengths = torch.tensor([12, 1, 0, 7], dtype=torch.int32)
    difference = attend(query, keys, values, table, lengths)
    difference -= beam_attention.reference(query, keys, values, table, lengths)
    return {"largest_error": float(difference.abs().max()), "finite": bool(torch.isfinite(difference).all())}


def heard(
    rate: int,
    front: str,
    mels: int = 80,
    channels: int = 1,
    floats: bool = False,
    samples: int = 2560,
    frames: int = 18,
) -> dict[str, Any]:
    """Two sounds, the second shorter: noise that falls silent, so that quiet bands stand beside loud ones."""
    longest = samples * rate // 16000
    pcm = torch.randint(-30000, 30000, (2, longest, channels)) * torch.linspace(1, 0, longest)[None, :, None] ** 3
    pcm = (pcm / 32768).float() if floats else pcm.to(torch.int16)
    lengths = torch.tensor([longest, longest // 3])
    pcm[1, longest // 3 :] = torch.nan if floats else 12345  # may not be read
    clean = pcm.clone()
    clean[1, longest // 3 :] = 0
    truth = log_mel.reference(clean, lengths, rate, front, mels, frames)
    found = features(pcm, lengths, rate, front, mels, frames, bins=32)
    return {
        "largest_error": float((found - truth).abs().max()),
        "finite": bool(torch.isfinite(found).all()),
        "spread": float(truth.max() - truth.min()),
    }


def poisoned() -> dict[str, bool]:
    """NaN where nothing may be read: columns of a forbidden token, positions beyond a beam's length."""
    hidden, weight = torch.randn(4, 32), torch.randn(200, 32)
    clean, none = torch.zeros(4), torch.full((4,), -1)
    forbidden = torch.tensor([3, 50])
    before = launch(hidden, weight, clean, 2, forbidden, none)
    weight[50] = 1e30
    after = launch(hidden, weight, clean, 2, forbidden, none)
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    query, keys, values = torch.randn(4, 2, 16), torch.randn(4, 2, 20, 16), torch.randn(4, 2, 20, 16)
    table = torch.arange(4, dtype=torch.int32)[:, None].repeat(1, 20)
    lengths = torch.full((4,), 7, dtype=torch.int32)
    first = attend(query, keys, values, table, lengths)
    keys[:, :, 7:], values[:, :, 7:], table[:, 7:] = torch.nan, torch.nan, 0
    return {"topk": same, "attention": torch.equal(first, attend(query, keys, values, table, lengths))}


def main() -> None:
    small = Tiles(16, 64, 32, 4, 2)
    cases = {
        "one_row": topk(1, 1, 40, 16),
        "one_beam": topk(6, 1, 333, 32),
        "odd_width": topk(2, 5, 500, 37),
        "groups_beyond_the_vocabulary": topk(2, 3, 129, 16),
        "half": topk(3, 5, 1000, 128, HALF),
        "many_rows": topk(8, 5, 4099, 256, HALF, tiles=Tiles(16, 128, 64, 4, 3)),
        "forbidden": topk(3, 4, 400, 48, forbidden=(0, 1, 2, 3, 399)),
        "forced": topk(3, 4, 400, 48, force=True),
        "forbidden_and_forced": topk(3, 4, 400, 48, HALF, forbidden=(0, 3), force=True),
        "nan_and_infinite_rows": topk(3, 5, 777, 64, poison=True),
        "all_dead": topk(2, 2, 64, 16, dead=True),
        "ties": topk(2, 4, 100, 16, ties=True),
        "small_tiles": topk(4, 5, 700, 48, tiles=small),
    }
    heads = {
        "float32": attention(10, 4, 70, 64, FLOAT),
        "half": attention(10, 2, 33, 64, HALF),
        "odd_width": attention(6, 3, 20, 48, FLOAT),
        "one_position": attention(3, 1, 1, 16, FLOAT),
        "lengths_of_zero": attention(8, 2, 20, 32, FLOAT, short=True),
        "long": attention(4, 2, 256, 64, FLOAT),
        "pool": paged(),
    }
    sounds = {
        "whisper": heard(16000, "whisper"),
        "whisper_128": heard(16000, "whisper", 128),
        "whisper_8000_stereo": heard(8000, "whisper", channels=2),
        "whisper_44100": heard(44100, "whisper", samples=600, frames=6),
        "whisper_48000_float": heard(48000, "whisper", floats=True, samples=600, frames=6),
        "conformer": heard(16000, "conformer"),
        "conformer_8000_float": heard(8000, "conformer", floats=True),
        "conformer_44100": heard(44100, "conformer", samples=600, frames=6),
        "conformer_three_channels": heard(16000, "conformer", channels=3),
        "one_sample": heard(16000, "whisper", samples=1, frames=3),
    }
    print(json.dumps({"topk": cases, "attention": heads, "log_mel": sounds, "poisoned": poisoned()}))


if __name__ == "__main__":
    main()
