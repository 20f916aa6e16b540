"""Human telephone speech with transcripts: Debian's Asterisk prompts.

What it is: fetches ``asterisk-core-sounds-en-wav`` and ``asterisk-core-sounds-en`` (8 kHz, one speaker, 25
minutes, CC-BY-SA) with apt into a cache directory, unpacked without installing, and pairs clips with words.
What it refuses to be: committed. The recordings stay in the cache; results carry their checksums.
Cost: 19 MB to fetch once.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-en")
_SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
_TEXT = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
# Remarks about a recording are in brackets; what is spoken is written as keys on a telephone.
_REMARK = re.compile(r"\([^)]*\)|\[[^]]*\]|<[^>]*>")
_KEYS = {"*": " star ", "#": " pound "}


class NoCorpus(Exception):
    """The recordings are not here and cannot be fetched; the text says what to do."""


@dataclass(frozen=True)
class Clip:
    """One recording: ``text`` is empty where nobody speaks (tones, silence, an animal)."""

    name: str
    text: str
    path: Path
    seconds: float


def fetch(cache: Path) -> Path:
    """The unpacked packages below ``cache``, fetched if need be. Raises NoCorpus."""
    root = cache / "unpacked"
    if (root / _TEXT).is_file() and (root / _SOUNDS).is_dir():
        return root
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise NoCorpus(
                f"{tool} is not on this machine; unpack Debian's {' and '.join(PACKAGES)} elsewhere"
                " and name the directory with --corpus"
            )
    cache.mkdir(parents=True, exist_ok=True)
    _command(["apt-get", "download", *PACKAGES], cache)
    partial = cache / "unpacked.part"
    shutil.rmtree(partial, ignore_errors=True)
    for package in sorted(cache.glob("asterisk-core-sounds-en*.deb")):
        _command(["dpkg", "-x", package.name, partial.name], cache)
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)
    return root


def _command(arguments: list[str], cwd: Path) -> None:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise NoCorpus(
            f"{' '.join(arguments[:2])} failed ({last}); run apt-get update, check that a Debian mirror can be reached,"
            " or name a directory with the packages unpacked with --corpus"
        )


def load(root: Path) -> list[Clip]:
    """Every clip that has both a recording and a line in the list, by name."""
    if not (root / _TEXT).is_file():
        raise NoCorpus(f"{root} does not hold {_TEXT}; unpack Debian's {' and '.join(PACKAGES)} there with dpkg -x")
    clips = []
    for name, text in sorted(transcripts(gzip.decompress((root / _TEXT).read_bytes()).decode("utf-8")).items()):
        path = root / _SOUNDS / f"{name}.wav"
        if path.is_file():
            with wave.open(str(path)) as file:
                seconds = file.getnframes() / file.getframerate()
            clips.append(Clip(name, text, path, seconds))
    return clips


def transcripts(listing: str) -> dict[str, str]:
    """``name: what is said`` lines; ``;`` begins a comment. Remarks are taken out."""
    found: dict[str, str] = {}
    for line in listing.splitlines():
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        name, _, text = line.partition(":")
        text = _REMARK.sub(" ", text)
        for key, spoken in _KEYS.items():
            text = text.replace(key, spoken)
        found.setdefault(name.strip(), " ".join(text.split()))
    return found


def digest(clips: list[Clip]) -> str:
    """SHA-256 over names, texts and recordings: what exactly was measured."""
    sha = hashlib.sha256()
    for clip in clips:
        sha.update(f"{clip.name}\0{clip.text}\0".encode())
        sha.update(clip.path.read_bytes())
    return sha.hexdigest()
