"""Sound to the features that Whisper and IndicConformer read, in one pass over the samples.

What it is: 16-bit or float samples of any number of channels at 8, 16, 44.1 or 48 kHz to log-mel features: channels
averaged, resampled, (for IndicConformer) emphasised, windowed, transformed, summed in mel bands, logarithm, scaled.
``reference`` says it in torch, and ``log_mel`` chooses between it and the Triton kernel by what is there.
What it refuses to be: a decoder of files, or FFmpeg's resampler: that one rounds to 16 bits again. At 16 kHz and one
channel the result is within 1e-4 of the CPU front ends (``hosts/conformer_features``; faster-whisper's extractor in
``hosts/whisper_model.features``), at other rates within 1e-4 of the same front ends after the resampling that
``filters`` defines: a sinc of 16 zero crossings a side under a Kaiser window, flat to 0.7 of the lower half rate.
What it costs: float64 throughout, because in float32 a band 80 dB under its neighbours is off by more than 1e-4. About
100,000 float64 multiplications a frame of 10 ms; not yet measured on a GPU (kernels/NOTES.md).
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from appliance_kernels.beam_topk import has_triton

RATE, HOP = 16_000, 160
RATES = (8_000, 16_000, 44_100, 48_000)
FRONTS = ("whisper", "conformer")
MELS = {"whisper": (80, 128), "conformer": (80,)}
PREEMPHASIS = 0.97
# the least that IndicConformer's statistics and strides make sense of; shorter sound is followed by silence
LEAST = {"whisper": 0, "conformer": RATE // 4}
_CROSSINGS, _BETA, _PASSED = 16, 9.0, 0.94


class Front(NamedTuple):
    """``points`` of the transform, its ``window`` (points,), the mel ``bands`` (points / 2 + 1, mels); in float64."""

    points: int
    window: Tensor
    bands: Tensor


class Filters(NamedTuple):
    """Resampling from ``down`` to ``up``: ``taps`` (up, n); output m begins at input m * down // up - ``before``."""

    up: int
    down: int
    before: int
    taps: Tensor


def reference(pcm: Tensor, lengths: Tensor, rate: int, front: str, mels: int, frames: int) -> Tensor:
    """Features in plain torch.

    ``pcm`` (batch, longest, channels), int16 or float32 (full scale 1); ``lengths`` (batch,) int64, samples of each
    that count; ``rate`` in Hz, one of ``RATES``; ``front`` "whisper" or "conformer"; ``mels`` 80, for Whisper also 128.

    Returns (batch, mels, ``frames``) float32, 100 frames a second. Whisper: (log10 of the power, at most 8 under the
    highest of this sound, + 4) / 4; frames behind the sound are those of silence. IndicConformer: natural logarithms,
    each band to mean 0 and deviation 1 over the frames of the sound (of a quarter of a second at least); frames behind
    it are 0.
    """
    _check(pcm, rate, front, mels)
    f, r = front_of(front, mels), filters(rate)
    scale = 1 / 32768 if pcm.dtype == torch.int16 else 1.0
    mono = pcm.double().mean(-1) * scale
    mono = mono * (torch.arange(pcm.shape[1], device=pcm.device) < lengths[:, None])
    sound, heard = _resampled(mono, r), heard_of(lengths, rate)
    sound = torch.nn.functional.pad(sound, (0, max(0, LEAST[front] - sound.shape[1])))
    at = torch.arange(sound.shape[1], device=pcm.device)
    sound = sound * (at < heard[:, None])
    if front == "conformer":
        sound = sound - PREEMPHASIS * torch.nn.functional.pad(sound, (1, 0))[:, :-1]
        sound = sound * (at < heard.clamp(min=LEAST[front])[:, None])
    place = (
        torch.arange(frames, device=pcm.device)[:, None] * HOP
        + torch.arange(f.points, device=pcm.device)
        - f.points // 2
    )
    known = place < sound.shape[1]
    if front == "whisper":
        place = place.abs()  # the beginning is mirrored
        known = place < sound.shape[1]
    known &= place >= 0
    cut = sound[:, torch.where(known, place, 0)] * known * f.window.to(pcm.device)
    power = torch.fft.rfft(cut, dim=-1).abs() ** 2
    return finish(_logarithm(power @ f.bands.to(pcm.device), front).transpose(1, 2), heard, front)


def log_mel(pcm: Tensor, lengths: Tensor, rate: int, front: str, mels: int, frames: int) -> Tensor:
    """``reference`` by the fastest way there is here; the same arguments and result."""
    if pcm.is_cuda and has_triton():
        found: Tensor = torch.ops.appliance.log_mel(pcm, lengths, rate, front, mels, frames)
        return found
    return reference(pcm, lengths, rate, front, mels, frames)


def heard_of(lengths: Tensor, rate: int) -> Tensor:
    """Samples at 16 kHz of sounds with ``lengths`` samples."""
    r = filters(rate)
    return lengths * r.up // r.down


def finish(logarithms: Tensor, heard: Tensor, front: str) -> Tensor:
    """What takes a look at the whole sound: (batch, mels, frames) of logarithms to features."""
    if front == "whisper":
        highest = logarithms.amax((1, 2), keepdim=True)
        return ((torch.maximum(logarithms, highest - 8.0) + 4.0) / 4.0).float()
    values = logarithms.double()
    count = heard.clamp(min=LEAST[front])[:, None, None] // HOP
    inside = torch.arange(values.shape[2], device=values.device) < count
    mean = (values * inside).sum(2, keepdim=True) / count
    away = (values - mean) * inside
    deviation = (away.square().sum(2, keepdim=True) / (count - 1)).sqrt()
    return (away / (deviation + 1e-5)).float()


@cache
def filters(rate: int) -> Filters:
    """From ``rate`` to 16 kHz."""
    common = math.gcd(RATE, rate)
    up, down = RATE // common, rate // common
    if up == down:
        return Filters(1, 1, 0, torch.ones(1, 1, dtype=torch.float64))
    narrow = min(1.0, up / down)
    half = math.ceil(_CROSSINGS / narrow)
    cut = _PASSED * narrow
    # distance of tap j from where output m lies between inputs, for each remainder of m * down / up
    away = torch.arange(2 * half, dtype=torch.float64) - (half - 1)
    away = away[None] - torch.arange(up, dtype=torch.float64)[:, None] / up
    inside = (1 - (away / half).square()).clamp(min=0).sqrt()
    taps = cut * torch.sinc(cut * away) * torch.special.i0(_BETA * inside) / torch.special.i0(torch.tensor(_BETA))
    return Filters(up, down, half - 1, taps / taps.sum(1, keepdim=True))


@cache
def front_of(front: str, mels: int) -> Front:
    """Window and bands, as the two models' extractors have them."""
    if front == "whisper":
        n = torch.arange(400, dtype=torch.float64)
        return Front(400, 0.5 - 0.5 * torch.cos(2 * math.pi * n / 400), _bands(400, mels))
    n = torch.arange(400, dtype=torch.float64)
    window = torch.zeros(512, dtype=torch.float64)
    window[56:456] = 0.5 - 0.5 * torch.cos(2 * math.pi * n / 399)
    return Front(512, window, _bands(512, mels))


def _bands(points: int, mels: int) -> Tensor:
    """(points / 2 + 1, mels): triangles of equal area, even on Slaney's scale from 0 to 8 kHz."""
    top = 15.0 + 27.0 * math.log(8.0) / math.log(6.4)
    scale = torch.linspace(0.0, top, mels + 2, dtype=torch.float64)
    edges = torch.where(scale < 15, scale * 200 / 3, 1000 * torch.exp((scale - 15) * math.log(6.4) / 27))
    bins = torch.linspace(0.0, RATE / 2, points // 2 + 1, dtype=torch.float64)[:, None]
    rising, falling = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (edges[2:] - edges[:-2])


def _resampled(mono: Tensor, r: Filters) -> Tensor:
    """(batch, n) to (batch, n * up // down); what lies outside is silence."""
    out = torch.arange(mono.shape[1] * r.up // r.down, device=mono.device)
    taps = r.taps.to(mono.device)
    sound = torch.zeros(len(mono), len(out), dtype=torch.float64, device=mono.device)
    for j in range(taps.shape[1]):
        place = out * r.down // r.up - r.before + j
        known = (place >= 0) & (place < mono.shape[1])
        sound += mono[:, torch.where(known, place, 0)] * known * taps[out * r.down % r.up, j]
    return sound


def _logarithm(power: Tensor, front: str) -> Tensor:
    return power.clamp(min=1e-10).log10() if front == "whisper" else (power + 2.0**-24).log()


def _check(pcm: Tensor, rate: int, front: str, mels: int) -> None:
    if pcm.dim() != 3 or pcm.dtype not in (torch.int16, torch.float32):
        raise ValueError(f"samples have to be (batch, longest, channels) of int16 or float32, not {pcm.dtype}")
    if rate not in RATES:
        raise ValueError(f"{rate} Hz is none of {', '.join(map(str, RATES))}")
    if front not in FRONTS or mels not in MELS[front]:
        raise ValueError(f"there is no front end {front!r} with {mels} bands")


@torch.library.custom_op("appliance::log_mel", mutates_args=())
def _op(pcm: Tensor, lengths: Tensor, rate: int, front: str, mels: int, frames: int) -> Tensor:
    from appliance_kernels import log_mel_triton

    _check(pcm, rate, front, mels)
    return log_mel_triton.launch(pcm, lengths, rate, front, mels, frames)


@_op.register_fake
def _fake(pcm: Tensor, lengths: Tensor, rate: int, front: str, mels: int, frames: int) -> Tensor:
    return pcm.new_empty((pcm.shape[0], mels, frames), dtype=torch.float32)
