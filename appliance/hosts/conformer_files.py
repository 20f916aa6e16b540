"""IndicConformer's published files, checked before ONNX Runtime is asked to open them.

What it is: ``read_layout`` finds the graphs, their weight blobs, the vocabularies and the language masks, and says in
one sentence what is missing, linked or of another model. ONNX Runtime's own words for these name a tensor.
What it refuses to be: a reader of weights. Of a graph it reads which files it names, by walking protobuf fields.
Cost: the graphs are read once; 7 ms for the 0.9 MB of the tests' graphs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.languages import SCHEDULED

TOKENS = 256
"""Of one language; local id 256 is its blank."""
GLOBAL_TOKENS = 5632
"""22 languages of 256; the head has one more output, the blank they share."""
BLANK = TOKENS
CTC = ("encoder", "ctc_decoder")
RNNT = ("rnnt_decoder", "joint_enc", "joint_pred", "joint_pre_net")
_HELP = "fetch the model again with `appliance models pull indic-conformer-600m-multilingual`"


class ModelUnusable(Exception):
    """The model cannot be served from these files; the text is one sentence that says what to do."""


@dataclass(frozen=True)
class Layout:
    """``vocabulary`` and ``columns`` by language: 257 pieces, and which of the head's 5633 outputs are theirs."""

    assets: Path
    vocabulary: dict[str, tuple[str, ...]]
    columns: dict[str, NDArray[np.intp]]

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP-47 codes, sorted."""
        return tuple(sorted(self.vocabulary))

    def graph(self, name: str) -> Path:
        """The file of graph ``name``."""
        return self.assets / f"{name}.onnx"

    def post_net(self, language: str) -> str:
        """The name of a language's last joint network."""
        return f"joint_post_net_{language}"


def read_layout(model_dir: Path, *, rnnt: bool) -> Layout:
    """The layout below ``model_dir`` (or its ``assets/``). Raises ModelUnusable."""
    assets = model_dir / "assets" if (model_dir / "assets").is_dir() else model_dir
    masks = _json(assets / "language_masks.json")
    vocabulary = _json(assets / "vocab.json")
    layout = Layout(assets, _vocabulary(vocabulary), _columns(masks))
    if set(layout.vocabulary) != set(layout.columns):
        odd = sorted(set(layout.vocabulary) ^ set(layout.columns))[0]
        raise ModelUnusable(f"vocab.json and language_masks.json disagree about language {odd!r}; {_HELP}")
    names = [*CTC, *(RNNT if rnnt else ()), *(map(layout.post_net, layout.languages) if rnnt else ())]
    for name in names:
        _check_graph(layout.graph(name))
    return layout


def _json(path: Path) -> Any:
    _check_file(path)
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise ModelUnusable(f"{path} is not readable JSON ({e}); {_HELP}") from None


def _vocabulary(read: Any) -> dict[str, tuple[str, ...]]:
    wanted = {language.bcp47 for language in SCHEDULED}
    if not isinstance(read, dict) or set(read) != wanted:
        odd = sorted(set(read) ^ wanted)[:3] if isinstance(read, dict) else "no languages"
        raise ModelUnusable(
            f"vocab.json is another model's: IndicConformer has the 22 scheduled languages, and it differs in {odd}; "
            f"{_HELP}"
        )
    for code, pieces in read.items():
        if not isinstance(pieces, list) or len(pieces) != TOKENS + 1 or not all(isinstance(p, str) for p in pieces):
            count = len(pieces) if isinstance(pieces, list) else 0
            raise ModelUnusable(
                f"vocab.json has {count} pieces for {code!r} where this model has {TOKENS + 1}; "
                f"it is another model's vocabulary; {_HELP}"
            )
    return {code: tuple(pieces) for code, pieces in read.items()}


def _columns(read: Any) -> dict[str, NDArray[np.intp]]:
    found: dict[str, NDArray[np.intp]] = {}
    for code, mask in (read if isinstance(read, dict) else {}).items():
        columns = np.flatnonzero(np.asarray(mask, dtype=bool)) if isinstance(mask, list) else np.zeros(0, np.intp)
        whole = isinstance(mask, list) and len(mask) == GLOBAL_TOKENS + 1
        if not whole or len(columns) != TOKENS + 1 or columns[-1] != GLOBAL_TOKENS:
            raise ModelUnusable(
                f"language_masks.json marks {len(columns)} outputs for {code!r} where this model has {TOKENS + 1} of"
                f" {GLOBAL_TOKENS + 1}, the last of them the blank; {_HELP}"
            )
        found[code] = columns
    return found


def _check_file(path: Path) -> None:
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise ModelUnusable(
            f"{path} is a symbolic link out of its directory, as in a hub's cache, and ONNX Runtime refuses those; "
            f"copy the files themselves (`cp -rL`), or {_HELP}"
        )
    if not path.is_file():
        raise ModelUnusable(f"{path} is missing; {_HELP}")


def _check_graph(path: Path) -> None:
    _check_file(path)
    try:
        blobs = external_files(path.read_bytes())
    except (IndexError, ValueError, UnicodeDecodeError):
        raise ModelUnusable(f"{path} is not an ONNX graph, or only a part of one; {_HELP}") from None
    for blob in sorted(blobs):
        _check_file(path.parent / blob)


# Field numbers of onnx.proto: ModelProto.graph, GraphProto.node and .initializer, NodeProto.attribute,
# AttributeProto.t, TensorProto.external_data, StringStringEntryProto.key and .value.
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR, _EXTERNAL, _KEY, _VALUE = 7, 1, 5, 5, 5, 13, 1, 2


def external_files(model: bytes) -> set[str]:
    """The files that an ONNX model keeps weights in. Raises ValueError or IndexError for bytes that are none."""
    found = set()
    graphs = [body for number, body in _fields(memoryview(model)) if number == _GRAPH]
    if not graphs:
        raise ValueError("no graph")
    for graph in graphs:
        for number, body in _fields(graph):
            tensors: Sequence[memoryview] = ()
            if number == _INITIALIZER:
                tensors = [body]
            elif number == _NODE:
                attributes = [inner for n, inner in _fields(body) if n == _ATTRIBUTE]
                tensors = [inner for a in attributes for n, inner in _fields(a) if n == _TENSOR]
            for tensor in tensors:
                found |= _locations(tensor)
    return found


def _locations(tensor: memoryview) -> set[str]:
    entries = [dict(_fields(body)) for number, body in _fields(tensor) if number == _EXTERNAL]
    return {bytes(e[_VALUE]).decode() for e in entries if bytes(e.get(_KEY, b"")) == b"location" and _VALUE in e}


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field number and bytes of each length-delimited field; the others are stepped over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field reaches past its message")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("not protobuf")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("not protobuf")
