"""Safetensors, as far as completeness shows without loading them: every shard of the index, and no file cut off.

What it is: for files nobody has a hash of, such as a directory copied by hand.
What it refuses to be: proof of the bytes; that is what hashes are for.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

_MOST_HEADER = 100_000_000  # as the format's own library has it
# what reading JSON that somebody made up can come to
_NOT_OURS = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


def problem(directory: Path) -> str:
    """What is missing below ``directory``, in words; empty when nothing is."""
    for index in sorted(directory.rglob("*.safetensors.index.json")):
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except _NOT_OURS:
            return f"{index.name} cannot be read"
        for shard in shards:
            if not (index.parent / str(shard)).is_file():
                return f"{shard} is missing, which {index.name} names"
    for path in sorted(directory.rglob("*.safetensors")):
        if cut_off(path):
            return f"{path.name} is cut off"
    return ""


def cut_off(path: Path) -> bool:
    """Whether a safetensors file is shorter or longer than its own header says."""
    size = path.stat().st_size
    try:
        with path.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > min(size, _MOST_HEADER):
                return True
            header = json.loads(source.read(length))
        ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
    except (struct.error, *_NOT_OURS):
        return True
    return bool(size != 8 + length + max(ends, default=0))
