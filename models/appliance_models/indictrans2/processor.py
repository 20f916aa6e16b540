"""From a sentence as people write it to the line the model reads, and from the model's line to text again.

What it is: ``prepare`` and ``finish``, pure functions of their arguments, safe in any number of threads and the same
in every process. A text of several lines becomes one model input a line; what holds no words (an address, a number,
blank space) is never sent to the model. Entities, line breaks and outer spaces come back byte for byte.
What it refuses to be: a sentence splitter, or a judge: entities that the model lost are named, not invented back.
What it costs: 0.05–0.2 ms a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import msgspec

from appliance_models.indictrans2 import english, entities, indic, tags
from appliance_models.indictrans2.scripts import from_devanagari, to_devanagari
from appliance_models.indictrans2.tags import ENGLISH, Tag

Digits = Literal["ascii", "native", "source"]

_ZEROS = "०০੦૦୦௦౦೦൦꯰᱐۰٠０"
_ASCII_DIGITS = {ord(zero) + i: str(i) for zero in _ZEROS for i in range(10)}
# Lone surrogates and noncharacters cannot be encoded or are used as marks; bidirectional controls only change display.
_NEVER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_LINES = re.compile(r"(\r\n|[\n\r\v\f\u0085\u2028\u2029]+)")
# Marks without a shape that no training text had; joiners are the normaliser's business, which needs to see them.
_SHAPELESS = dict.fromkeys(map(ord, "\u200e\u200f\u061c\u2060\ufeff\u00ad"))
_JOINERS = {0x200B: " ", 0x200C: None, 0x200D: None}
_QUOTES = str.maketrans({**dict.fromkeys("`´‘‚’", "'"), **dict.fromkeys("„“”«»", '"'), **dict.fromkeys("–—", "-")})
_PUNCTUATION = (
    (re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000]+"), " "),
    (re.compile(r"\(\s*"), "("),
    (re.compile(r"\s*\)"), ")"),
    (re.compile(r"\s:\s?"), ":"),
    (re.compile(r"\s;\s?"), ";"),
    (re.compile(r" ([?!;%])"), r"\1"),
    (re.compile(r"\) ([.!:?;,])"), r")\1"),
    (re.compile(r"\"([,.]+)"), r'\1"'),
)
_HAS_WORD = re.compile(r"[^\W\d_]")
_FINAL_VISARGA = re.compile(r"\s?[\u0903\u0983\u0a03\u0a83\u0b03\u0b83\u0c03\u0c83\u0d03]$")
_MTEI_STOP = "꯫"


class Segment(msgspec.Struct, frozen=True):
    """One stretch of the text: ``line`` is what the model reads, or None where ``text`` passes as it is."""

    text: str
    line: str | None = None
    before: str = ""
    after: str = ""
    entities: tuple[entities.Entity, ...] = ()
    native_digits: bool = False


class Prepared(msgspec.Struct, frozen=True):
    """What ``finish`` needs besides the model's output."""

    source: str
    target: str
    segments: tuple[Segment, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The model's inputs, with both language tags in front; ``finish`` wants one output for each."""
        return tuple(s.line for s in self.segments if s.line is not None)


class Finished(msgspec.Struct, frozen=True):
    """The translated text, and the entities of the source that the model did not return."""

    text: str
    lost: tuple[str, ...] = ()


def prepare(text: str, source: str, target: str) -> Prepared:
    """``text`` as model inputs; raises ``UnknownTag`` for a language that IndicTrans2 has not."""
    reads, writes = tags.find(source), tags.find(target)
    parts = _LINES.split(_NEVER.sub("", text))
    segments = [
        Segment(part) if i % 2 else _segment(part, reads, writes) for i, part in enumerate(parts) if part or i % 2
    ]
    return Prepared(source, target, tuple(segments))


def finish(prepared: Prepared, outputs: Sequence[str], digits: Digits = "ascii") -> Finished:
    """The translation of a whole text from one model ``output`` (joined pieces, no tags) per prepared line."""
    if len(outputs) != len(prepared.lines):
        raise ValueError(f"finish needs {len(prepared.lines)} outputs, one a prepared line, and got {len(outputs)}")
    tag = tags.find(prepared.target)
    waiting = iter(outputs)
    texts: list[str] = []
    lost: list[str] = []
    for segment in prepared.segments:
        if segment.line is None:
            texts.append(segment.text)
            continue
        text, missing = _finish_line(segment, next(waiting), tag, digits)
        texts.append(segment.before + text + segment.after)
        lost += missing
    return Finished("".join(texts), tuple(lost))


def _segment(text: str, source: Tag, target: Tag) -> Segment:
    stripped = text.strip()
    wrapped = entities.wrap(stripped)
    if not _HAS_WORD.search(re.sub(r"<ID\d+>", "", wrapped.text)):
        return Segment(text)
    start = text.index(stripped)
    words = normal_form(wrapped.text, source)
    return Segment(
        text,
        f"{source.name} {target.name} {words}",
        before=text[:start],
        after=text[start + len(stripped) :],
        entities=wrapped.entities,
        native_digits=_mostly_native(stripped),
    )


def _mostly_native(text: str) -> bool:
    digits = [c for c in text if c.isdigit()]
    return bool(digits) and 2 * sum(c in "0123456789" for c in digits) < len(digits)


def normal_form(text: str, tag: Tag) -> str:
    """The tokens, parted by spaces, that the model reads or was trained to write for ``text`` of ``tag``."""
    # Perso-Arabic was trained on as people type it, letter and hamza apart.
    text = text if tag.script == "Arab" else unicodedata.normalize("NFC", text)
    text = text.translate(_SHAPELESS).translate(_QUOTES).replace("…", "...")
    for pattern, to in _PUNCTUATION:
        text = pattern.sub(to, text)
    text = text.strip().translate(_ASCII_DIGITS)
    if tag.name == ENGLISH:
        return " ".join(english.tokenise(text.translate(_JOINERS)))
    tokens = " ".join(indic.tokenise(indic.normalise(text, tag), tag))
    return to_devanagari(tokens, tag).replace(" ् ", "्")


def surface_form(line: str, tag: Tag) -> str:
    """Text of ``tag`` from the tokens that the model wrote: the reverse of ``normal_form``."""
    tokens = line.split()
    if tag.name == ENGLISH:
        return english.detokenise(tokens)
    text = from_devanagari(indic.detokenise(tokens, tag), tag)
    if tag.script == "Arab":
        return text.replace("ٮ۪", "ؠ")
    return text.replace(f" {_MTEI_STOP}", _MTEI_STOP) if tag.script == "Mtei" else text


def _finish_line(segment: Segment, output: str, tag: Tag, digits: Digits) -> tuple[str, list[str]]:
    native = digits == "native" or (digits == "source" and segment.native_digits)
    bare = not entities.speaks_of_ids(segment.text)
    text = surface_form(entities.mark(output.replace("<unk>", " "), segment.entities, bare), tag)
    text = _digits(text, tag, native)
    if segment.text.rstrip().endswith(":"):
        # A colon after a letter is normalised to a visarga (see indic), and so the model writes it.
        text = _FINAL_VISARGA.sub(":", text)
    values = [
        msgspec.structs.replace(e, text=_digits(e.text, tag, native)) if e.number and digits != "source" else e
        for e in segment.entities
    ]
    text, seen = entities.unmark(text, values)
    return text, [e.text for i, e in enumerate(segment.entities) if i not in seen]


def _digits(text: str, tag: Tag, native: bool) -> str:
    text = text.translate(_ASCII_DIGITS)
    if not native or tag.zero == "0":
        return text
    return text.translate({ord("0") + i: chr(ord(tag.zero) + i) for i in range(10)})
