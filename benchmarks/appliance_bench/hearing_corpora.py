"""What ``make bench-hearing`` listens to: prompts of 3 to 8 s, music on hold, spoken sentences, your own directory.

What it is: clips with their words. Debian's prompts (human, English, 8 kHz), Debian's music on hold whole and in pieces
(nobody speaks), sentences that espeak-ng reads in 15 Indian languages (a smoke test: no quality claim follows from it),
and any directory of ``NAME.wav`` beside ``NAME.txt``.
What it refuses to be: committed. Packages are fetched with apt into the cache and unpacked without installing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path

from appliance_bench import wer
from appliance_bench.speech_corpus import Clip, NoCorpus, fetch, load

MUSIC = "asterisk-moh-opsound-wav"
SPEAKER = "espeak-ng"
_NO_LIBRARIES = {"libc6", "libgcc-s1"}  # the machine's own, which everything else here runs on
_MUSIC_AT = "usr/share/asterisk/moh"
_PIECE_S = 8
# One line a language, of everyday words that are written as they are spoken.
SENTENCES = {
    "as": "মোৰ নাম ৰাম আৰু মই অসমত থাকোঁ",
    "bn": "আমার নাম রাম এবং আমি কলকাতায় থাকি",
    "gu": "મારું નામ રામ છે અને હું અમદાવાદમાં રહું છું",
    "hi": "मेरा नाम राम है और मैं दिल्ली में रहता हूँ",
    "kn": "ನನ್ನ ಹೆಸರು ರಾಮ ಮತ್ತು ನಾನು ಬೆಂಗಳೂರಿನಲ್ಲಿ ವಾಸಿಸುತ್ತೇನೆ",
    "kok": "म्हजें नांव राम आनी हांव गोंयांत रावतां",
    "ml": "എന്റെ പേര് രാമൻ ഞാൻ കൊച്ചിയിൽ താമസിക്കുന്നു",
    "mr": "माझे नाव राम आहे आणि मी पुण्यात राहतो",
    "ne": "मेरो नाम राम हो र म काठमाडौंमा बस्छु",
    "or": "ମୋର ନାମ ରାମ ଏବଂ ମୁଁ ଭୁବନେଶ୍ୱରରେ ରହେ",
    "pa": "ਮੇਰਾ ਨਾਮ ਰਾਮ ਹੈ ਅਤੇ ਮੈਂ ਅੰਮ੍ਰਿਤਸਰ ਵਿੱਚ ਰਹਿੰਦਾ ਹਾਂ",
    "sd": "منهنجو نالو رام آهي ۽ مان حيدرآباد ۾ رهندو آهيان",
    "ta": "என் பெயர் ராமன் நான் சென்னையில் வசிக்கிறேன்",
    "te": "నా పేరు రాము నేను హైదరాబాదులో ఉంటాను",
    "ur": "میرا نام رام ہے اور میں لاہور میں رہتا ہوں",
}


def prompts(cache: Path, least_s: float, most_s: float) -> list[Clip]:
    """Debian's prompts with words, between ``least_s`` and ``most_s`` long."""
    return [c for c in load(fetch(cache)) if least_s <= c.seconds <= most_s and wer.normalise(c.text)]


def directory(path: Path) -> list[Clip]:
    """Every ``NAME.wav`` with its ``NAME.txt``."""
    found = [_clip(wav, wav.with_suffix(".txt").read_text(encoding="utf-8")) for wav in sorted(path.glob("*.wav"))]
    if not found:
        raise NoCorpus(f"{path} holds no NAME.wav with a NAME.txt beside it")
    return found


def music(cache: Path) -> list[Clip]:
    """Music on hold: each piece of music whole, and in pieces of eight seconds."""
    root = unpacked(cache, (MUSIC,)) / _MUSIC_AT
    pieces = cache / "music"
    pieces.mkdir(parents=True, exist_ok=True)
    clips = []
    for path in sorted(root.glob("*.wav")):
        clips.append(_clip(path, ""))
        with wave.open(str(path)) as whole:
            rate = whole.getframerate()
            for number in range(whole.getnframes() // (_PIECE_S * rate)):
                piece = pieces / f"{path.stem}-{number:03}.wav"
                with wave.open(str(piece), "wb") as out:
                    out.setparams(whole.getparams())
                    out.writeframes(whole.readframes(_PIECE_S * rate))
                clips.append(_clip(piece, ""))
    return clips


def spoken(cache: Path) -> dict[str, Clip]:
    """The sentence of each language, read by espeak-ng."""
    root = unpacked(cache, _with_dependencies(SPEAKER))
    data = next(root.glob("usr/lib/*/espeak-ng-data"))
    libraries = [data.parent, data.parent / "pulseaudio", root / "lib" / data.parent.name]
    (cache / "spoken").mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "ESPEAK_DATA_PATH": str(data),
    }
    found = {}
    for language, text in SENTENCES.items():
        path = cache / "spoken" / f"{language}.wav"
        command = [str(root / "usr/bin/espeak-ng"), "-v", language, "-w", str(path), text]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoCorpus(f"espeak-ng cannot read {language}: {done.stderr.strip()[-200:]}")
        found[language] = _clip(path, text)
    return found


def _with_dependencies(package: str) -> list[str]:
    """``package`` and the libraries it needs, which a server without sound does not have. Raises NoCorpus."""
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in kinds), package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise NoCorpus(f"apt-cache is not on this machine ({e}); run this on Debian") from None
    names = [line for line in done.stdout.splitlines() if line and not line.startswith((" ", "<"))]
    if not names:
        raise NoCorpus(f"{package} is in no package list; run apt-get update ({done.stderr.strip()[-200:]})")
    wanted = [name for name in names if name not in _NO_LIBRARIES and not name.startswith("gcc-")]
    return [package, *(name for name in wanted if name != package)]


def unpacked(cache: Path, packages: Sequence[str]) -> Path:
    """Debian packages, fetched with apt and unpacked below ``cache``. Raises NoCorpus."""
    root = cache / packages[0]
    if root.is_dir():
        return root
    part = cache / f"{packages[0]}.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "debs").mkdir(parents=True)
    for command in (["apt-get", "download", *packages], ["sh", "-c", "for d in *.deb; do dpkg -x $d ..; done"]):
        try:
            done = subprocess.run(command, cwd=part / "debs", capture_output=True, text=True, check=False)
        except OSError as e:
            raise NoCorpus(f"{command[0]} is not on this machine ({e}); run this on Debian") from None
        if done.returncode:
            raise NoCorpus(f"{' '.join(packages)} cannot be fetched; run apt-get update ({done.stderr.strip()[-200:]})")
    part.rename(root)
    return root


def _clip(path: Path, text: str) -> Clip:
    with wave.open(str(path)) as file:
        return Clip(path.stem, text.strip(), path, file.getnframes() / file.getframerate())
