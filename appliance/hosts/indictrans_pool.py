"""Where sentences live while they are translated: keys, values and the state of each beam, in slots made once.

What it is: ``Pool``, tensors on one device whose first axis (the second of keys and values) is the slot. A slot holds a
sentence's source (keys and values of every decoder layer, once for all its beams), its beams' own keys and values, and
the search: running scores, written tokens, what has ended. Nothing is ever moved or freed: a slot is taken by writing
its state anew. One slot more than asked for is there for rows that only fill a CUDA graph up.
What it refuses to be: paged. A slot has room for the longest translation whether it is needed or not; see ``size``.
What it costs: ``size`` bytes, which is 0.05 GB a slot of the 200M shape and 0.1 GB of the 1B shape in half precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from appliance_models.indictrans2.config import Config


class Room(NamedTuple):
    """How much fits: sentences at once, beams of each, tokens of a translation and of a source (its end included)."""

    slots: int
    beams: int
    longest: int
    source: int


def size(config: Config, room: Room, itemsize: int) -> int:
    """Bytes of keys and values; everything else is a thousandth of that."""
    width, layers = config.decoder_embed_dim, config.decoder_layers
    return (room.slots + 1) * layers * 2 * width * (room.beams * room.longest + room.source) * itemsize


class Pool:
    """The tensors; ``step`` says how they change."""

    def __init__(self, config: Config, room: Room, device: str, dtype: torch.dtype) -> None:
        self.room = room
        self.scratch = room.slots
        slots, beams, longest = room.slots + 1, room.beams, room.longest
        layers, heads = config.decoder_layers, config.decoder_attention_heads
        head = config.decoder_embed_dim // heads

        def zeros(*shape: int, of: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=of, device=device)

        # rows are slots times beams: row r belongs to slot r // beams
        self.keys, self.values = (zeros(layers, slots * beams, heads, longest, head, of=dtype) for _ in range(2))
        self.source_keys, self.source_values = (
            zeros(layers, slots, heads, room.source, head, of=dtype) for _ in range(2)
        )
        self.source_length = zeros(slots, of=torch.int32)
        # tokens written so far; how many may be; whether the search goes on
        self.position, self.most, self.alive = zeros(slots), zeros(slots), zeros(slots, of=torch.bool)
        self.last, self.running = zeros(slots, beams), zeros(slots, beams, of=torch.float32)
        # which row holds a beam's key and value at each position (``appliance_kernels.beam_attention``)
        self.table = zeros(slots, beams, longest, of=torch.int32)
        # what each beam wrote at each position, and which beam it came from there: the way back to the first token
        self.tokens, self.came = (zeros(slots, beams, longest, of=torch.int32) for _ in range(2))
        # hypotheses that have ended; the last place takes what counts no more
        self.ended = zeros(slots)
        self.end_score = zeros(slots, beams + 1, of=torch.float32)
        self.end_length, self.end_beam, self.end_token = (zeros(slots, beams + 1) for _ in range(3))


class Ended(NamedTuple):
    """A slot's hypotheses as they lie in the pool, on the host: rows of lists, see ``Pool``."""

    ended: int
    score: list[float]
    length: list[int]
    beam: list[int]
    token: list[int]
    tokens: list[list[int]]
    came: list[list[int]]

    def best(self, wanted: int) -> list[tuple[tuple[int, ...], float]]:
        """The best ``wanted``, or as many as there are: ids without start and end, and the normalised score."""
        order = sorted(range(self.ended), key=lambda i: -self.score[i])  # of equals, what ended first
        return [(self._ids(i), self.score[i]) for i in order[:wanted]]

    def _ids(self, which: int) -> tuple[int, ...]:
        """The way back: an end of length n was chosen among the beams after n - 1 tokens."""
        beam, token = self.beam[which], self.token[which]
        ids = [token] if token >= 0 else []
        for at in range(self.length[which] - 2, -1, -1):
            ids.append(self.tokens[beam][at])
            beam = self.came[beam][at]
        return tuple(reversed(ids))
