"""The Triton kernel of ``log_mel``; that module says what it computes.

How: a program takes some frames of one sound. It makes their samples (channels averaged, resampled, emphasised,
windowed) from the PCM itself, folds each frame about its middle (a cosine is even and a sine odd, which halves the
work), sums cosines and sines for a few bins at a time and adds their power to the bands.
What it refuses to be: a fast Fourier transform. Frames are short, tables stay in L2, and sums in float64 do not add up
the rounding that the logarithm of a quiet band would show.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from appliance_kernels.log_mel import HOP, LEAST, PREEMPHASIS, filters, finish, front_of, heard_of

FRAMES, BINS = 8, 2


@triton.jit
def _sound(pcm, taps, place, inside, length, up, down, before, n_taps, channels):
    """Samples at 16 kHz at ``place``, 0 where not ``inside``."""
    first = place * down // up - before
    phase = place * down % up
    total = tl.zeros(place.shape, tl.float64)
    for j in range(n_taps):
        at = first + j
        known = inside & (at >= 0) & (at < length)
        tap = tl.load(taps + phase * n_taps + j, mask=known, other=0.0)
        for channel in range(channels):
            total += tap * tl.load(pcm + at * channels + channel, mask=known, other=0).to(tl.float64)
    return total


@triton.jit
def _sample(
    pcm, taps, place, wanted, length, heard, end, up, down, before, n_taps, channels,
    MIRRORED: tl.constexpr, EMPHASIS: tl.constexpr,
):  # fmt: skip
    """What a frame has at ``place``: the beginning mirrored, or each sample less a part of the one before."""
    if MIRRORED:
        place = tl.abs(place)
    inside = wanted & (place >= 0) & (place < heard)
    found = _sound(pcm, taps, tl.where(inside, place, 0), inside, length, up, down, before, n_taps, channels)
    if not MIRRORED:
        earlier = wanted & (place > 0) & (place <= heard) & (place < end)
        place = tl.where(earlier, place - 1, 0)
        found -= EMPHASIS * _sound(pcm, taps, place, earlier, length, up, down, before, n_taps, channels)
    return found


@triton.jit
def _logarithms(
    pcm, lengths, heards, taps, window, cosines, sines, bands, out,
    longest, channels, up, down, before, n_taps, points, n_bins, n_mels, n_frames, hop, least,
    MIRRORED: tl.constexpr, EMPHASIS: tl.constexpr, FRAMES: tl.constexpr, HALF: tl.constexpr, BINS: tl.constexpr,
    MELS: tl.constexpr,
):  # fmt: skip
    """``FRAMES`` frames of one sound: logarithms of their bands."""
    item = tl.program_id(1).to(tl.int64)
    length = tl.load(lengths + item)
    heard = tl.load(heards + item)
    end = tl.maximum(heard, least)
    pcm += item * longest * channels
    frame = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    n = 1 + tl.arange(0, HALF)  # the window is 0 at 0
    half = points // 2
    begin = frame[:, None] * hop - half
    wanted = (frame[:, None] < n_frames) & (n[None, :] <= half)
    left = _sample(
        pcm,
        taps,
        begin + n[None, :],
        wanted,
        length,
        heard,
        end,
        up,
        down,
        before,
        n_taps,
        channels,
        MIRRORED,
        EMPHASIS,
    )
    left *= tl.load(window + n, mask=n <= half, other=0.0)[None, :]
    pairs = wanted & (n[None, :] < half)
    right = _sample(
        pcm, taps, begin + points - n[None, :], pairs, length, heard, end, up, down, before, n_taps, channels,
        MIRRORED, EMPHASIS,
    )  # fmt: skip
    right *= tl.load(window + points - n, mask=n < half, other=0.0)[None, :]
    even, odd = left + right, left - right
    mel = tl.arange(0, MELS)
    total = tl.zeros((FRAMES, MELS), tl.float64)
    for start in range(0, n_bins, BINS):
        bin_ = start + tl.arange(0, BINS)
        place = bin_[:, None] * HALF + tl.arange(0, HALF)[None, :]
        cosine = tl.load(cosines + place, mask=bin_[:, None] < n_bins, other=0.0)
        sine = tl.load(sines + place, mask=bin_[:, None] < n_bins, other=0.0)
        real = tl.sum(even[:, None, :] * cosine[None, :, :], axis=2)
        imaginary = tl.sum(odd[:, None, :] * sine[None, :, :], axis=2)
        power = real * real + imaginary * imaginary
        inside = (bin_[:, None] < n_bins) & (mel[None, :] < n_mels)
        share = tl.load(bands + bin_[:, None] * n_mels + mel[None, :], mask=inside, other=0.0)
        total += tl.sum(power[:, :, None] * share[None, :, :], axis=1)
    if MIRRORED:  # noqa: SIM108
        total = tl.log(tl.maximum(total, 1e-10)) * 0.4342944819032518
    else:
        total = tl.log(total + 5.9604644775390625e-08)
    place = (item * n_mels + mel[None, :]) * n_frames + frame[:, None]
    tl.store(out + place, total.to(tl.float32), mask=(frame[:, None] < n_frames) & (mel[None, :] < n_mels))


@cache
def _tables(front: str, mels: int, rate: int, device: str) -> tuple[Any, ...]:
    """Everything that does not depend on the sound, on ``device``."""
    f, r = front_of(front, mels), filters(rate)
    half = triton.next_power_of_2(f.points // 2)
    n = torch.arange(1, half + 1, dtype=torch.int64)
    turns = torch.outer(torch.arange(f.points // 2 + 1), n) % f.points  # exact before the cosine
    angles = turns.double() * (2 * math.pi / f.points)
    beyond = n > f.points // 2
    cosines, sines = (table.masked_fill(beyond, 0.0) for table in (angles.cos(), angles.sin()))
    return f, r, half, *(t.contiguous().to(device) for t in (f.window, cosines, sines, f.bands))


def launch(pcm: Tensor, lengths: Tensor, rate: int, front: str, mels: int, frames: int, bins: int = BINS) -> Tensor:
    """As ``log_mel.reference``; ``bins`` of the spectrum are summed at a time."""
    batch, longest, channels = pcm.shape
    f, r, half, window, cosines, sines, bands = _tables(front, mels, rate, str(pcm.device))
    pcm, lengths = pcm.contiguous(), lengths.long()
    heard = heard_of(lengths, rate)
    # averaging and full scale are part of the taps
    taps = r.taps.to(pcm.device) / (channels * (32768 if pcm.dtype == torch.int16 else 1))
    out = torch.empty((batch, mels, frames), dtype=torch.float32, device=pcm.device)
    _logarithms[(triton.cdiv(frames, FRAMES), batch)](
        pcm, lengths, heard, taps, window, cosines, sines, bands, out,
        longest, channels, r.up, r.down, r.before, taps.shape[1], f.points, f.points // 2 + 1, mels, frames, HOP,
        LEAST[front],
        MIRRORED=front == "whisper", EMPHASIS=PREEMPHASIS, FRAMES=FRAMES, HALF=half, BINS=bins,
        MELS=triton.next_power_of_2(mels), num_warps=8,
    )  # fmt: skip
    return finish(out, heard, front)
