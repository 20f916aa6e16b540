"""What ``make bench-hearing`` found, as docs/speech.md shows it: read from the newest committed run of each part.

What it refuses to be: a summary. Speed stands beside its error rate, and each line names its file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PARTS = ("prompts", "long", "hours", "music", "live", "spoken")


def measured(results: Path) -> str:
    """The section; parts that were never run are left out."""
    lines: list[str] = []
    # of the live part one run for each number of sessions and setting of the silence
    for part in _PARTS:
        newest: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {}
        for path in sorted(results.glob(f"hearing-{part}-*.json")):
            run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            newest[run.get("silence_ms", 0), run.get("sessions", 0)] = path.name, run
        for _, (name, run) in sorted(newest.items(), reverse=True):
            lines += [*_SHOWN[part](run), f"  - `{name}`: {run['model']}, {_where(run)}.", ""]
    return "\n".join(lines)


def _where(run: dict[str, Any]) -> str:
    machine = run["machine"]
    load = machine["load_average_before"]
    return f"{run['compute_type']}, {machine['cores']} cores, load {load:.1f} before, beam {run['beam']}"


def _race(run: dict[str, Any], what: str) -> list[str]:
    base = run["baseline"]
    lines = [
        f"- {what} ({run['clips']} clips, {run['audio_s'] / 60:.1f} min), against faster-whisper's batched pipeline at"
        f" {base['rtfx']:.1f}× real time with WER {base['wer']:.1f} %, CER {base['cer']:.1f} %:",
    ]
    for concurrency, one in run["host"].items():
        wer = one["points"]["wer"]
        sure = (
            f"; {wer['difference']:+.1f} points, 95 % {wer['low']:+.1f} to {wer['high']:+.1f}"
            if run["clips"] > 1
            else ""
        )
        turns = one.get("speed_ratios")
        ratio = f"{one['speed_ratio']:.1f}× the pipeline"
        if turns:
            ratio = (
                f"{one['speed_ratio']:.2f}× the pipeline (median of {len(turns)} turns,"
                f" {min(turns):.2f} to {max(turns):.2f})"
            )
        lines.append(
            f"  - {concurrency} at once: {one['rtfx']:.1f}× real time, {ratio}, WER"
            f" {one['wer']:.1f} %, CER {one['cer']:.1f} %{sure}."
        )
    return lines


def _prompts(run: dict[str, Any]) -> list[str]:
    return _race(run, "Human English prompts of 3 to 8 s, 8 kHz, one speaker")


def _long(run: dict[str, Any]) -> list[str]:
    return _race(run, "The prompts as one recording")


def _music(run: dict[str, Any]) -> list[str]:
    ours, theirs = run["host"], run["baseline"]
    return [
        f"- Music on hold (Debian's `asterisk-moh-opsound-wav`, whole and in pieces of 8 s, {ours['clips']} clips): the"
        f" host writes words for {ours['clips_with_words']} of them, the batched pipeline with its own detector for"
        f" {theirs['clips_with_words']}.",
    ]


def _live(run: dict[str, Any]) -> list[str]:
    after = run["ms_after_the_end_of_speech"]
    beyond = run["beyond_compute_ms"]
    if isinstance(beyond, dict):  # clip by clip; older runs have the difference of the medians
        beyond = f"{beyond['median']} ms later than that (median; 90 %: {beyond['p90']})"
    else:
        beyond = f"{beyond} ms later than that"
    of_words = f" WER {run['wer']:.1f} %." if "wer" in run else ""
    return [
        f"- Live, {run['sessions']} at once at the speed of speech, {run['clips']} human prompts: from the end of"
        f" speech to `completed` {after['completed']['median']} ms (median; 90 %: {after['completed']['p90']});"
        f" `speech_stopped` comes after {after['speech_stopped']['median']} ms (`silence_duration_ms`"
        f" {run['silence_ms']}), the transcript {after['completed_after_stopped']['median']} ms later."
        f" The same clips as uploads, alone on the machine, take {run['upload_alone_ms']['median']} ms each:"
        f" `completed` comes {beyond}.{of_words}"
        f" {run['with_delta_before_the_end']} of them had a delta while they were spoken.",
    ]


def _hours(run: dict[str, Any]) -> list[str]:
    before, most = run["resident_mb_before"], run["resident_mb_most"]
    beside = run["short_clip_s"]
    return [
        f"- {run['audio_s'] / 3600:.1f} hours as one job (the prompts {run['rounds']} times over, ogg/opus,"
        f" {run['upload_mb']:.0f} MB): {run['wall_s'] / 60:.0f} minutes, {run['rtfx']:.0f}× real time, WER"
        f" {run['wer']:.1f} %, {len(run['progress'])} different figures of progress. Resident memory before and at"
        f" most: host {before['host']:.0f} and {most['host']:.0f} MB, gateway {before['gateway']:.0f} and"
        f" {most['gateway']:.0f} MB, decoders {before['decoders']:.0f} and {most['decoders']:.0f} MB."
        f" A clip of 3 s sent beside it took {beside['median']:.1f} s (median of {run['short_clips_beside_it']};"
        f" {beside['most']:.1f} s at most).",
    ]


def _spoken(run: dict[str, Any]) -> list[str]:
    found = run["languages"]
    heard = {language: one for language, one in found.items() if "refused" not in one}
    rates = ", ".join(f"{language} {one['cer']:.0f}" for language, one in heard.items())
    refused = ", ".join(language for language in found if language not in heard)
    return [
        f"- One sentence a language read by espeak-ng (a smoke test; a robot's voice says nothing of people's): CER"
        f" {rates}. Refused, as Whisper has no token: {refused or 'none'}.",
    ]


_SHOWN = {"prompts": _prompts, "long": _long, "hours": _hours, "music": _music, "live": _live, "spoken": _spoken}
