"""Workloads: what is asked, of which engine, arriving how, within which targets. ``workloads/NAME.toml`` and JSONL.

What it is: files read into ``Job``s. Every second item is held out: a search sees the others, verdicts are of these.
Recordings are Debian's telephone prompts, fetched once with apt (``speech_corpus``), or a directory of yours.
What it refuses to be: code. A workload of your own is two files in a directory that ``--workloads`` names.
"""

from __future__ import annotations

import difflib
import io
import os
import tomllib
import wave
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance_bench import hearing_corpora, slo
from appliance_bench.drive import Job
from appliance_bench.records import RecordError
from appliance_bench.slo import Target
from appliance_bench.speech_corpus import Clip, NoCorpus

HERE = Path(__file__).parent / "workloads"
ENGINES = ("chat", "translate", "transcribe")
# what goes through a gateway only, and the engines behind it; the fake one is for the rate of the gateway itself
THROUGH = {"pivot": ("chat", "translate"), "live": ("transcribe",), "rate": ("fake",)}


class Sheet(Struct, frozen=True, forbid_unknown_fields=True):
    """``NAME.toml``. ``items``: the JSONL beside it. ``quality``: a measure of ``quality.py`` against ``reference``."""

    about: str
    engine: str
    slo: str
    arrivals: str = "poisson"
    items: str = ""
    quality: str = ""
    recordings: str = ""
    shortest_s: float = 0.0
    longest_s: float = 60.0
    joined_s: float = 0.0
    language: str = ""


class Workload(Struct, frozen=True):
    """A sheet with what it asks. ``directory``: where its files are."""

    name: str
    sheet: Sheet
    directory: Path

    @property
    def targets(self) -> tuple[Target, ...]:
        """Its own latency targets."""
        return slo.parse(self.sheet.slo)

    def jobs(self, model: str, held_out: bool, count: int = 0, tag: str = "") -> list[Job]:
        """Its requests to ``model``, ``count`` of them (again from the first where there are fewer); 0: each once.

        ``tag`` is written before a chat's first message, so that no prefix cache knows it from another run.
        """
        whole = self._all(model, tag)
        half = [job for n, job in enumerate(whole) if bool(n % 2) == held_out]
        if not half:
            raise RecordError(f"the workload {self.name} has no items")
        return [half[n % len(half)] for n in range(count or len(half))]

    def _all(self, model: str, tag: str) -> list[Job]:
        if self.sheet.engine in ("transcribe", "live"):
            return [_hear(clip, body, self.sheet.language) for clip, body in self.clips()]
        path = self.directory / self.sheet.items
        try:
            items = [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
        except (OSError, msgspec.DecodeError) as e:
            raise RecordError(f"{path} is no JSONL of requests ({e})") from None
        make = {"translate": _translate, "pivot": _pivot}.get(self.sheet.engine, _chat)
        try:
            return [make(item, model, tag) for item in items]
        except (KeyError, TypeError) as e:
            raise RecordError(f"{path}: an item lacks {e}") from None

    def clips(self) -> list[tuple[Clip, bytes]]:
        """Recordings with their bytes. Raises RecordError."""
        cache = Path(os.environ.get("APPLIANCE_BENCH_SPEECH") or _home() / "cache" / "bench-speech")
        try:
            if self.sheet.recordings == "asterisk":
                clips = hearing_corpora.prompts(cache, self.sheet.shortest_s, self.sheet.longest_s)
            else:
                clips = hearing_corpora.directory(self.directory / self.sheet.recordings)
        except NoCorpus as e:
            raise RecordError(str(e)) from None
        if self.sheet.joined_s:
            return _joined(clips, self.sheet.joined_s)
        return [(clip, clip.path.read_bytes()) for clip in clips]


def load(name: str, directory: Path = HERE) -> Workload:
    """Raises RecordError that names the nearest there is."""
    path = directory / f"{name}.toml"
    if not path.is_file():
        known = names(directory)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
        raise RecordError(f"there is no workload {name!r} in {directory}; {hint}")
    try:
        sheet = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Sheet)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as e:
        raise RecordError(f"{path} is no workload: {e}") from None
    if sheet.engine not in (*ENGINES, *THROUGH):
        raise RecordError(f"{path} names the engine {sheet.engine!r}; there are {', '.join((*ENGINES, *THROUGH))}")
    return Workload(name, sheet, directory)


def names(directory: Path = HERE) -> list[str]:
    """What there is."""
    return sorted(path.stem for path in directory.glob("*.toml"))


def _home() -> Path:
    return Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser()


def _chat(item: dict[str, Any], model: str, tag: str) -> Job:
    first, *others = item["messages"]
    if tag:
        first = {**first, "content": f"[{tag}] {first['content']}"}
    body = {"model": model, "messages": [first, *others], "max_tokens": item["max_tokens"]}
    body |= {"temperature": 0, "stream": True}
    return Job("/v1/chat/completions", msgspec.json.encode(body), read_chat, item.get("reference", ""), streamed=True)


def _translate(item: dict[str, Any], model: str, tag: str) -> Job:
    body = {"items": [{"text": item["text"], "source": item["source"]}], "target": item["target"]}
    made = msgspec.json.encode(body)
    return Job("/v1/translate", made, read_translation, item.get("reference", ""), characters=len(item["text"]))


def _pivot(item: dict[str, Any], model: str, tag: str) -> Job:
    """A customer's text into English, the model's answer, and back: as a gateway takes it."""
    then = partial(_answer, model=model, most=item["max_tokens"], back=item["source"])
    return replace(for_gateway(item["text"], item["source"], "eng_Latn"), then=then)


def _answer(text: str, model: str, most: int, back: str) -> Job:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 0}
    then = partial(for_gateway, source="eng_Latn", target=back)
    return Job("/v1/chat/completions", msgspec.json.encode(body), _read_answer, then=then)


def for_gateway(text: str, source: str, target: str) -> Job:
    """A translation as ``POST /v1/translate`` of the gateway takes it."""
    body = msgspec.json.encode({"input": text or "…", "source": source, "target": target})
    return Job("/v1/translate", body, read_translation, characters=len(text))


def through(engine: str, job: Job, model: str) -> Job:
    """An engine's ``job`` as the gateway's API takes it. Chat is the same there."""
    if engine == "translate":
        body = msgspec.json.decode(job.body)
        one = body["items"][0]
        return replace(for_gateway(one["text"], one["source"], body["target"]), reference=job.reference)
    if engine == "transcribe":
        said = job.headers.partition("x-appliance-params:")[2].strip()
        fields = {"model": model, **msgspec.json.decode(said.encode() or b"{}")}
        parts = [f'--bench\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                 for name, value in fields.items()]  # fmt: skip
        parts.append('--bench\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
        data = "".join(parts).encode() + job.body + b"\r\n--bench--\r\n"
        return replace(job, path="/v1/audio/transcriptions", body=data,
                       headers="content-type: multipart/form-data; boundary=bench\r\n")  # fmt: skip
    return job


def _read_answer(answer: bytes) -> str:
    text: str = msgspec.json.decode(answer)["choices"][0]["message"]["content"]
    return text


def _hear(clip: Clip, body: bytes, language: str) -> Job:
    params = msgspec.json.encode({"language": language} if language else {}).decode()
    headers = f"content-type: application/octet-stream\r\nx-appliance-params: {params}\r\n"
    return Job("/v1/transcribe", body, read_transcript, clip.text, headers, seconds=clip.seconds)


def read_chat(answer: bytes) -> str:
    """The text of a stream of chunks."""
    parts = []
    for line in answer.split(b"\n"):
        if line.startswith(b"data: {"):
            choices = msgspec.json.decode(line[6:])["choices"]
            parts.append((choices[0]["delta"].get("content") or "") if choices else "")
    return "".join(parts)


def read_translation(answer: bytes) -> str:
    """The only translation."""
    text: str = msgspec.json.decode(answer)["translations"][0]["text"]
    return text


def read_transcript(answer: bytes) -> str:
    """The whole text."""
    text: str = msgspec.json.decode(answer)["text"]
    return text


def _joined(clips: Sequence[Clip], seconds: float) -> list[tuple[Clip, bytes]]:
    """Recordings of about ``seconds``, of clips with a second of silence between them."""
    found, group, length = [], list[Clip](), 0.0
    for clip in clips:
        group.append(clip)
        length += clip.seconds + 1
        if length >= seconds:
            found.append(_one_recording(group))
            group, length = [], 0.0
    return found


def _one_recording(clips: Sequence[Clip]) -> tuple[Clip, bytes]:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        for number, clip in enumerate(clips):
            with wave.open(str(clip.path)) as file:
                if not number:
                    out.setparams(file.getparams())
                out.writeframes(file.readframes(file.getnframes()) + bytes(2 * file.getframerate()))
        seconds = out.getnframes() / out.getframerate()
    return Clip(
        f"{clips[0].name}+{len(clips) - 1}", " ".join(c.text for c in clips), clips[0].path, seconds
    ), buffer.getvalue()
