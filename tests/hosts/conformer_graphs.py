"""Small ONNX graphs in the names, shapes and layout of IndicConformer-600M, built to be understood.

Each of the 257 local ids has a code of nine signs. The encoder reads the nine signs out of pairs of mel bands, every
eighth frame; both heads answer with the id whose code it is. So features, and sound made of tones, spell known text
in every language, through the code that reads the real files.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from appliance.hosts.conformer_features import RATE, _to_hertz, _to_mel
from appliance.languages import SCHEDULED, script_of

BITS = 9
BLANK, TOKENS, HEAD = 256, 256, 5633
STRIDE, FIRST = 8, 4
FRAME_S = STRIDE / 100
LANGUAGES = tuple(language.bcp47 for language in SCHEDULED)
_BLOCKS = {
    "Arab": 0x0600, "Beng": 0x0980, "Deva": 0x0900, "Gujr": 0x0A80, "Guru": 0x0A00, "Knda": 0x0C80, "Mlym": 0x0D00,
    "Olck": 0x1C50, "Orya": 0x0B00, "Taml": 0x0B80, "Telu": 0x0C00,
}  # fmt: skip
CODES = np.array([[1.0 if i >> (BITS - 1 - b) & 1 else -1.0 for b in range(BITS)] for i in range(257)], np.float32)
# mel bands for each bit: where the sign is plus, and where it is minus
PLUS = np.arange(BITS) * 8 + 6
MINUS = PLUS + 4
GRAPH_FILES = ("encoder", "ctc_decoder", "rnnt_decoder", "joint_enc", "joint_pred", "joint_pre_net")
BLOBS = ("onnx__MatMul_1", "onnx__MatMul_2", "layers.0.bias")


def letters(code: str) -> str:
    """Letters of a language's script, at most 120, in code order."""
    tag = next(language.tags[0] for language in SCHEDULED if language.bcp47 == code)
    start = _BLOCKS[script_of(tag)]
    size = 48 if start == 0x1C50 else 0x100 if start == 0x0600 else 0x80
    found = (chr(c) for c in range(start, start + size))
    return "".join(c for c in found if unicodedata.category(c) in ("Lo", "Mc", "Mn"))[:120]


def vocabulary(code: str) -> list[str]:
    """257 pieces: each letter alone, each at the start of a word, fillers, the bare mark, the blank."""
    alphabet = letters(code)
    pieces = ["<unk>", *alphabet, *("▁" + c for c in alphabet)]
    pieces += [f"<unused{i}>" for i in range(TOKENS - 1 - len(pieces))]
    return [*pieces, "▁", "|"]


def sentence(code: str) -> str:
    """Three words of a language's own letters; no letter follows itself."""
    loud = [c for c in letters(code) if unicodedata.category(c) == "Lo"][:40]
    return " ".join(("".join(loud[2:5]), "".join(loud[7:9]), "".join(loud[10:14])))


def ids(text: str, code: str) -> list[int]:
    """Local ids of ``text``."""
    pieces = vocabulary(code)
    return [pieces.index(("▁" if n == 0 else "") + c) for word in text.split() for n, c in enumerate(word)]


def features(tokens: list[int], *, frames: int = 2) -> NDArray[np.float32]:
    """[80, T]: each token for ``frames`` encoder frames, a blank after each."""
    out = []
    for token in tokens:
        out += [token] * frames + [BLANK]
    signs = np.repeat(CODES[out], STRIDE, axis=0).T
    mel = np.zeros((80, signs.shape[1]), np.float32)
    mel[PLUS], mel[MINUS] = signs, -signs
    return mel


def tones(text: str, code: str) -> NDArray[np.int16]:
    """Sound that the encoder's bands hear as ``text``; begins and ends with a blank."""
    order = [BLANK, TOKENS - 1, BLANK]  # every band is loud once and silent once, or normalising would lose it
    for token in ids(text, code):
        order += [token, token, BLANK]
    length = round(FRAME_S * RATE)
    hertz = _to_hertz(np.linspace(0.0, _to_mel(8000.0), 82))[1:-1]
    t = np.arange(len(order) * length) / RATE
    sound = np.zeros(len(t))
    for bit in range(BITS):
        on = np.repeat(CODES[order][:, bit] > 0, length)
        sound += np.where(on, np.sin(2 * np.pi * hertz[PLUS[bit]] * t), np.sin(2 * np.pi * hertz[MINUS[bit]] * t))
    return np.asarray(sound / BITS * 20000, np.int16)


def build(root: Path) -> Path:
    """Write everything below ``root``/assets; returns ``root``."""
    assets = root / "assets"
    assets.mkdir(parents=True)
    (assets / "vocab.json").write_text(json.dumps({code: vocabulary(code) for code in LANGUAGES}))
    masks = {}
    for n, code in enumerate(LANGUAGES):
        mask = np.zeros(HEAD, bool)
        mask[n * TOKENS : (n + 1) * TOKENS] = mask[-1] = True
        masks[code] = mask.tolist()
    (assets / "language_masks.json").write_text(json.dumps(masks))
    _encoder(assets)
    _ctc(assets)
    _rnnt(assets)
    return root


def _encoder(assets: Path) -> None:
    weights = np.zeros((1024, 80), np.float32)
    weights[np.arange(BITS), PLUS], weights[np.arange(BITS), MINUS] = 4.0, -4.0
    # channel 9 says that every band is quiet: a pair of bands adds up to 0 while a tone is on
    weights[BITS, PLUS] = weights[BITS, MINUS] = -8.0 / BITS
    bias = np.zeros((1024, 1), np.float32)
    bias[BITS] = -8.0
    nodes = [
        helper.make_node("Slice", ["audio_signal", "first", "end", "axis", "step"], ["kept"]),
        helper.make_node("MatMul", ["w1", "kept"], ["a"]),
        helper.make_node("MatMul", ["w2", "kept"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Add", ["c", "bias"], ["d"]),
        helper.make_node("Tanh", ["d"], ["outputs"]),
        helper.make_node("Add", ["length", "three"], ["longer"]),
        helper.make_node("Div", ["longer", "eight"], ["encoded_lengths"]),
    ]
    constants = {
        "first": np.array([FIRST]), "end": np.array([1 << 40]), "axis": np.array([2]), "step": np.array([STRIDE]),
        "three": np.array(3), "eight": np.array(STRIDE),
    }  # fmt: skip
    blobs = dict(zip(("w1", "w2", "bias"), (weights / 2, weights / 2, bias), strict=True))
    initializers = [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in constants.items()]
    for (name, value), file in zip(blobs.items(), BLOBS, strict=True):
        tensor = numpy_helper.from_array(np.asarray(value, np.float32), name)
        (assets / file).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", file), ("offset", "0"), ("length", str(value.nbytes))):
            tensor.external_data.add(key=key, value=text)
        initializers.append(tensor)
    _save(
        assets / "encoder.onnx",
        nodes,
        [("audio_signal", TensorProto.FLOAT, ["B", 80, "T"]), ("length", TensorProto.INT64, ["B"])],
        [("outputs", TensorProto.FLOAT, ["B", 1024, "S"]), ("encoded_lengths", TensorProto.INT64, ["B"])],
        initializers,
    )


def _ctc(assets: Path) -> None:
    head = np.zeros((BITS + 1, HEAD), np.float32)
    head[:BITS] = np.concatenate([np.tile(CODES[:TOKENS], (22, 1)), CODES[BLANK:]]).T * 3.0
    head[BITS, -1] = 30.0
    silent = np.zeros(HEAD, np.float32)
    silent[-1] = 30.0
    nodes = [
        helper.make_node("Transpose", ["encoder_output"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["t", "zero", "ten", "two"], ["code"]),
        helper.make_node("MatMul", ["code", "head"], ["near"]),
        helper.make_node("Add", ["near", "silent"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["logprobs"], axis=-1),
    ]
    initializers = [*_slicing(), numpy_helper.from_array(head, "head"), numpy_helper.from_array(silent, "silent")]
    _save(
        assets / "ctc_decoder.onnx",
        nodes,
        [("encoder_output", TensorProto.FLOAT, ["B", 1024, "S"])],
        [("logprobs", TensorProto.FLOAT, ["B", "S", HEAD])],
        initializers,
    )


def _rnnt(assets: Path) -> None:
    f, i = TensorProto.FLOAT, TensorProto.INT32
    table = np.zeros((HEAD, BITS), np.float32)
    table[: BLANK + 1] = CODES  # local ids, and 5632 for the start: no sign at all
    table[HEAD - 1] = 0.0
    pads = np.array([0, 0, 0, 0, 640 - BITS, 0])
    state = [2, "B", 640]
    _save(
        assets / "rnnt_decoder.onnx",
        [
            helper.make_node("Gather", ["table", "targets"], ["code"]),
            helper.make_node("Transpose", ["code"], ["up"], perm=[0, 2, 1]),
            helper.make_node("Pad", ["up", "pads"], ["outputs"]),
            helper.make_node("Identity", ["target_length"], ["prednet_lengths"]),
            helper.make_node("Add", ["states.1", "one"], ["states"]),
            helper.make_node("Add", ["onnx::Slice_3", "one"], ["162"]),
        ],
        [("targets", i, ["B", "U"]), ("target_length", i, ["B"]), ("states.1", f, state), ("onnx::Slice_3", f, state)],
        [("outputs", f, ["B", 640, "U"]), ("prednet_lengths", i, ["B"]), ("states", f, state), ("162", f, state)],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(pads, "pads"),
            numpy_helper.from_array(np.array(1.0, np.float32), "one"),
        ],
    )
    for name, width, pads in (
        ("joint_enc", 1024, np.array([0, 0, 0, 0, 0, 640 - BITS])),
        ("joint_pred", 640, np.array([0, 0, BITS, 0, 0, 640 - 2 * BITS])),
    ):
        _save(
            assets / f"{name}.onnx",
            [
                helper.make_node("Slice", ["input", "zero", "nine", "two"], ["code"]),
                helper.make_node("Pad", ["code", "pads"], ["output"]),
            ],
            [("input", f, ["B", "T", width])],
            [("output", f, ["B", "T", 640])],
            [*_slicing(), numpy_helper.from_array(pads, "pads")],
        )
    hidden = [("input", f, ["B", "T", 640])]
    _save(assets / "joint_pre_net.onnx", [helper.make_node("Identity", ["input"], ["output"])], hidden,
          [("output", f, ["B", "T", 640])], [])  # fmt: skip
    for code in LANGUAGES:
        _post_net(assets / f"joint_post_net_{code}.onnx")


def _post_net(path: Path) -> None:
    """What the frame spells, unless that was said last: then the blank, which always stands at 8 of 9."""
    heard = CODES.T.copy()
    heard[:, BLANK] = 0.0
    said = CODES.T.copy()
    said[:, BLANK] = 0.0
    nodes = [
        helper.make_node("Slice", ["input", "zero", "nine", "two"], ["frame"]),
        helper.make_node("Slice", ["input", "nine", "eighteen", "two"], ["last"]),
        helper.make_node("MatMul", ["frame", "heard"], ["near"]),
        helper.make_node("MatMul", ["last", "said"], ["match"]),
        helper.make_node("Add", ["match", "minus8"], ["over"]),
        helper.make_node("Relu", ["over"], ["again"]),
        helper.make_node("Mul", ["again", "minus4"], ["less"]),
        helper.make_node("Add", ["near", "less"], ["sum"]),
        helper.make_node("Add", ["sum", "floor"], ["output"]),
    ]
    floor = np.zeros(257, np.float32)
    floor[BLANK] = 8.0
    values = {"heard": heard, "said": said, "minus8": np.array(-8.0), "minus4": np.array(-4.0), "floor": floor}
    _save(
        path,
        nodes,
        [("input", TensorProto.FLOAT, ["B", "T", 640])],
        [("output", TensorProto.FLOAT, ["B", "T", 257])],
        [*_slicing(), *(numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items())],
    )


def _slicing() -> list[TensorProto]:
    values = {"zero": [0], "nine": [BITS], "ten": [BITS + 1], "eighteen": [2 * BITS], "two": [2]}
    return [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in values.items()]


def _save(path: Path, nodes: list, inputs: list, outputs: list, initializers: list) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert isinstance(onnx.load_model_from_string(path.read_bytes()), onnx.ModelProto)
