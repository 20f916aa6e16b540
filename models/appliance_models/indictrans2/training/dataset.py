"""Corpus, SentencePiece models, dictionaries and ids: everything that training reads, made once into one directory.

What it is: ``build``. Dictionaries follow the official layout: specials, then (source only) the 26 tags, then pieces by
frequency. Entities that both sides of a pair share become ``<IDn>``, as the processor does at run time.
What it refuses to be: clever about re-use: a directory holds one data file's work, named by its checksum.
What it costs: about 3 minutes and 40 MB for 266k lines.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import sentencepiece

from appliance_models.indictrans2 import entities, tags
from appliance_models.indictrans2.processor import normal_form
from appliance_models.indictrans2.tags import ENGLISH
from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer
from appliance_models.indictrans2.training import corpus
from appliance_models.indictrans2.training.corpus import Pair

Direction = Literal["en-indic", "indic-en"]
DIRECTIONS: tuple[Direction, ...] = ("en-indic", "indic-en")
ENGLISH_PIECES, INDIC_PIECES = 6000, 8000
MAX_TOKENS = 96
# Raised when the corpus is read differently, so that a directory is never a mixture.
RULES = 2


class Example(msgspec.Struct, frozen=True):
    """A pair as the model sees it: both sides in normal form, and how the source line begins."""

    tag: str
    english: str
    indic: str


def examples(pairs: Iterable[Pair]) -> list[Example]:
    """Normal forms, shared entities replaced alike on both sides."""
    out = []
    for pair in pairs:
        theirs = {pair.indic[a:b] for a, b, _ in entities.spans(pair.indic)}
        left = entities.wrap(pair.english, theirs.__contains__)
        numbers = {entity.text: i + 1 for i, entity in enumerate(left.entities)}
        right = pair.indic
        for text in sorted(numbers, key=len, reverse=True):
            right = right.replace(text, f" {entities.placeholder(numbers[text])} ")
        english = normal_form(left.text, tags.find(ENGLISH))
        out.append(Example(pair.tag, english, normal_form(right, tags.find(pair.tag))))
    return out


def lines(example: Example, direction: Direction) -> tuple[str, str]:
    """The source line, tags included, and the target line."""
    if direction == "en-indic":
        return f"{ENGLISH} {example.tag} {example.english}", example.indic
    return f"{example.tag} {ENGLISH} {example.indic}", example.english


def build(
    data: Path,
    directory: Path,
    vocabularies: Path | None = None,
    pieces: tuple[int, int] | None = None,
) -> None:
    """Make everything in ``directory`` from the file ``data``; does nothing where that is done already.

    ``vocabularies`` names an exported model whose pieces and dictionaries are taken instead of made anew;
    ``pieces`` are the sizes of those that are made, English and Indic.
    """
    pieces = pieces or (ENGLISH_PIECES, INDIC_PIECES)
    stamp = {
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "pieces": list(pieces),
        "rules": RULES,
    }
    done = directory / "dataset.json"
    if done.exists():
        made_from = json.loads(done.read_text())
        if {key: made_from.get(key) for key in stamp} != stamp:
            raise ValueError(f"{directory} was made from other data or by other rules: name another --state directory")
        return
    directory.mkdir(parents=True, exist_ok=True)
    pairs, dropped = corpus.read(data)
    train = examples(corpus.of(pairs, "train"))
    if vocabularies is None:
        _vocabularies(train, directory, pieces)
    else:
        _copied(vocabularies, directory)
    for direction in DIRECTIONS:
        tokenizer = Tokenizer(directory / direction)
        for part in corpus.PARTS:
            some = train if part == "train" else examples(corpus.of(pairs, part))
            _write_ids(some, direction, tokenizer, directory / direction / f"{part}.npz")
    for part in ("dev", "test"):
        (directory / f"{part}.json").write_bytes(msgspec.json.encode(corpus.of(pairs, part)))
    counts = {part: len(corpus.of(pairs, part)) for part in ("train", "dev", "test")}
    made = sum(pair.made for pair in pairs)
    done.write_text(json.dumps({**stamp, **counts, "made": made, "dropped": dropped}, indent=2) + "\n")


def _vocabularies(train: Sequence[Example], directory: Path, pieces: tuple[int, int]) -> None:
    english = _spm(sorted({e.english for e in train}), pieces[0])
    indic = _spm(sorted({e.indic for e in train}), pieces[1])
    for direction in DIRECTIONS:
        into = directory / direction
        into.mkdir(exist_ok=True)
        sides = {"SRC": english, "TGT": indic} if direction == "en-indic" else {"SRC": indic, "TGT": english}
        for side, model in sides.items():
            (into / f"model.{side}").write_bytes(model)
            dictionary = json.dumps(_dictionary(model, with_tags=side == "SRC"), ensure_ascii=False, indent=0)
            (into / f"dict.{side}.json").write_text(dictionary + "\n", encoding="utf-8")


def _copied(exported: Path, directory: Path) -> None:
    for direction in DIRECTIONS:
        into = directory / direction
        into.mkdir(exist_ok=True)
        for name in TOKENIZER_FILES:
            shutil.copyfile(exported / direction / name, into / name)


def _spm(texts: Sequence[str], size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        character_coverage=1.0,
        normalization_rule_name="identity",
        num_threads=1,
        shuffle_input_sentence=False,
        input_sentence_size=0,
        minloglevel=2,
    )
    return model.getvalue()


def _dictionary(model: bytes, with_tags: bool) -> dict[str, int]:
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [spm.id_to_piece(i) for i in range(spm.get_piece_size()) if not (spm.is_control(i) or spm.is_unknown(i))]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(tags.TAGS if with_tags else ()), *pieces]
    return {token: i for i, token in enumerate(tokens)}


def _write_ids(some: Sequence[Example], direction: Direction, tokenizer: Tokenizer, path: Path) -> None:
    """Sources and targets end to end, with the lengths that part them."""
    rows = []
    for example in some:
        source, target = lines(example, direction)
        row = tokenizer.source_ids(source), tokenizer.target_ids(target)
        if max(map(len, row)) <= MAX_TOKENS:
            rows.append(row)
    arrays = {}
    for name, side in (("source", 0), ("target", 1)):
        arrays[name] = np.fromiter((i for row in rows for i in row[side]), np.uint16)
        arrays[f"{name}_lengths"] = np.array([len(row[side]) for row in rows], np.int32)
    np.savez_compressed(path, allow_pickle=False, **arrays)
