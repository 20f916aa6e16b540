"""SentencePiece pieces and the dictionaries that turn them into ids.

What it is: both sides of one checkpoint directory (``model.SRC``, ``dict.SRC.json``, ``model.TGT``, ``dict.TGT.json``).
Ids come from the dictionaries, never from SentencePiece, whose own numbering differs; a piece that the dictionary
lacks is cut into characters that it knows before it becomes ``<unk>``.
What it refuses to be: a text processor; lines come from ``processor``.
What it costs: the official files load in 0.3 s; 10–20 µs a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.tags import TAGS

SPACE = "▁"
TOKENIZER_FILES = ("model.SRC", "dict.SRC.json", "model.TGT", "dict.TGT.json")
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


class Side:
    """One side's pieces and ids. Immutable after construction; any number of threads may use it."""

    def __init__(self, pieces: Path, dictionary: Path) -> None:
        try:
            self.ids: dict[str, int] = json.loads(dictionary.read_text(encoding="utf-8"))
            self._spm = SentencePieceProcessor(model_file=str(pieces))
        except (OSError, ValueError, RuntimeError) as e:  # SentencePiece raises RuntimeError
            raise CheckpointError(f"{dictionary.parent} has no usable {pieces.name} and {dictionary.name}: {e}") from e
        absent = [token for token in _SPECIAL if token not in self.ids]
        if absent:
            raise CheckpointError(f"{dictionary} lacks {', '.join(absent)}: is it complete?")
        self.pieces = {i: piece for piece, i in self.ids.items()}
        self._unknown = self.ids["<unk>"]
        self._silent = frozenset(self.ids[token] for token in ("<s>", "<pad>", "</s>"))

    def cut(self, text: str) -> list[str]:
        """The pieces of ``text``."""
        out: list[str] = []
        for piece in self._spm.encode(text, out_type=str):
            if piece in self.ids or len(piece) < 2:
                out.append(piece)
            else:
                out += self._smaller(piece)
        return out

    def _smaller(self, piece: str) -> Iterable[str]:
        """Longest known pieces from the left; SentencePiece knows thousands that the dictionary does not."""
        start = 0
        while start < len(piece):
            end = next((e for e in range(len(piece), start, -1) if piece[start:e] in self.ids), start + 1)
            yield piece[start:end]
            start = end

    def to_ids(self, pieces: Iterable[str]) -> list[int]:
        """An id a piece; unknown ones are ``<unk>``."""
        return [self.ids.get(piece, self._unknown) for piece in pieces]

    def text(self, ids: Iterable[int]) -> str:
        """The line that ids spell; ``</s>`` and padding vanish."""
        return self.join(self.pieces.get(i, "<unk>") for i in ids if i not in self._silent)

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        """The line that pieces spell."""
        return "".join(pieces).replace(SPACE, " ").strip()


class Tokenizer:
    """Both sides of one checkpoint."""

    def __init__(self, directory: Path) -> None:
        self.source = Side(directory / "model.SRC", directory / "dict.SRC.json")
        self.target = Side(directory / "model.TGT", directory / "dict.TGT.json")

    def source_pieces(self, line: str) -> list[str]:
        """Pieces of a prepared line: both tags as they are, then the words; CTranslate2 adds ``</s>`` itself."""
        source, target, words = line.split(" ", 2)
        for tag in (source, target):
            if tag not in TAGS or tag not in self.source.ids:
                raise CheckpointError(f"this checkpoint does not translate {tag}")
        return [source, target, *self.source.cut(words)]

    def source_ids(self, line: str) -> list[int]:
        """Ids of a prepared line, ``</s>`` included, no BOS."""
        return self.source.to_ids([*self.source_pieces(line), "</s>"])

    def target_ids(self, line: str) -> list[int]:
        """Ids of a target line for training, ``</s>`` included."""
        return self.target.to_ids([*self.target.cut(line), "</s>"])


def left_padded(rows: Sequence[Sequence[int]], pad: int = 1) -> list[list[int]]:
    """Rows of equal length, padded in front as the published tokenizer pads sources."""
    width = max(map(len, rows), default=0)
    return [[pad] * (width - len(row)) + list(row) for row in rows]
