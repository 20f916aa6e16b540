"""What is computed: sentences taken into slots, and one token more for every beam of some slots.

What it is: ``Decoder``, the arithmetic of the PyTorch module over a ``Pool``, without a look at the host: every shape
comes from the arguments' shapes, so that ``join`` and ``step`` can be CUDA graphs. Attention and the choice of
continuations are ``appliance_kernels``', which are the Triton kernels on a GPU and plain torch elsewhere; where that
package is not installed this module cannot be used, and says so.
What it refuses to be: another search than ``appliance_models.indictrans2.generate``: what that finds, this finds.
What it costs: the decoder's attention matrices a second time, joined, so that one product does the work of three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from appliance.hosts.indictrans_pool import Pool

if TYPE_CHECKING:
    from appliance_models.indictrans2.model import IndicTrans

UNKNOWN = 3
_PARAMETERS = ("weight", "bias")


class Decoder:
    """A model on its pool. One caller at a time."""

    def __init__(self, model: IndicTrans, pool: Pool, length_penalty: float = 1.0) -> None:
        from appliance_kernels.beam_attention import beam_attention
        from appliance_kernels.beam_topk import beam_topk

        self._attend, self._topk = beam_attention, beam_topk
        self._encode, self._stack, self._head = model.model.encoder, model.model.decoder, model.lm_head.weight
        self._config, self._pool, self._penalty = model.config, pool, length_penalty
        device, beams = self._head.device, pool.room.beams
        layers: Any = self._stack.layers
        self._layers = list(layers)
        attentions = [layer.self_attn for layer in self._layers]
        self._joined = [
            tuple(torch.cat([getattr(part, name) for part in (a.q_proj, a.k_proj, a.v_proj)]) for name in _PARAMETERS)
            for a in attentions
        ]
        self._beams = torch.arange(beams, device=device)
        self._ranks = torch.arange(2 * beams, device=device)
        self._unknown = torch.tensor([UNKNOWN], device=device)
        self._at_first = torch.tensor([UNKNOWN, self._config.eos_token_id], device=device)
        # only the first beam counts at the start, or all beams would be alike
        self._start = torch.full((beams,), -torch.inf, device=device)
        self._start[0] = 0.0

    def join(self, ids: Tensor, slots: Tensor, lengths: Tensor, most: Tensor) -> Tensor:
        """Encode ``ids`` (n, length), padded behind, into ``slots`` (n,), and choose their first tokens.

        ``lengths`` (n,) of the sources, ``most`` (n,) tokens that each may write, 0 for a row that only fills up.
        Returns which of the slots go on.
        """
        pool, length = self._pool, ids.shape[1]
        memory = self._encode(ids)
        for i, layer in enumerate(self._layers):
            keys, values = layer.encoder_attn.keys(memory)
            pool.source_keys[i][slots, :, :length] = keys
            pool.source_values[i][slots, :, :length] = values
        pool.source_length[slots] = lengths.int()
        pool.position[slots] = 0
        pool.ended[slots] = 0
        pool.most[slots] = most
        pool.alive[slots] = most > 0
        pool.last[slots] = self._config.decoder_start_token_id
        pool.running[slots] = self._start.expand(len(slots), -1)
        pool.table[slots, :, 0] = self._rows(slots).int()
        return self.step(slots, 1, length, first=True)

    def step(self, slots: Tensor, upto: int, sources: int, first: bool = False) -> Tensor:
        """One token more for the beams of ``slots`` (n,), at positions below ``upto`` and sources up to ``sources``.

        Slots that have ended stay as they are. Returns which of the slots go on, (n,).
        """
        pool = self._pool
        position, alive = pool.position[slots], pool.alive[slots]
        hidden = self._hidden(slots, position, alive, upto, sources)
        running = pool.running[slots].reshape(-1)
        forced = torch.full_like(running, -1, dtype=torch.int64)
        best = self._topk(
            hidden, self._head, running, pool.room.beams, self._at_first if first else self._unknown, forced
        )
        return self._advance(slots, position, alive, upto, *best)

    def _rows(self, slots: Tensor) -> Tensor:
        """(n, beams): where the beams of ``slots`` write."""
        return slots[:, None] * self._pool.room.beams + self._beams

    def _each(self, of_slots: Tensor) -> Tensor:
        """(n,) to (n * beams,)."""
        return of_slots[:, None].expand(-1, self._pool.room.beams).reshape(-1)

    def _hidden(self, slots: Tensor, position: Tensor, alive: Tensor, upto: int, sources: int) -> Tensor:
        """(n * beams, width): the decoder's last hidden states, its keys and values written."""
        pool, stack, pad = self._pool, self._stack, self._config.pad_token_id
        rows, at = self._rows(slots).reshape(-1), self._each(position)
        lengths = self._each(torch.where(alive, position + 1, 0)).int()
        table = pool.table[slots].flatten(0, 1)[:, :upto].contiguous()
        source_table = self._each(slots).int()[:, None].expand(-1, sources).contiguous()
        source_lengths = self._each(torch.where(alive, pool.source_length[slots], 0)).int()
        ids = pool.last[slots].reshape(-1)
        places = torch.where(ids == pad, pad, at + 1 + pad)
        x = stack.embed_tokens(ids) * stack.scale + stack.embed_positions.weights[places]
        if stack.layernorm_embedding is not None:
            x = stack.layernorm_embedding(x)
        heads = self._config.decoder_attention_heads
        for i, layer in enumerate(self._layers):
            entered = layer.enter(x, layer.self_attn_layer_norm)
            query, key, value = functional.linear(entered, *self._joined[i]).unflatten(-1, (3, heads, -1)).unbind(1)
            pool.keys[i][rows, :, at] = key
            pool.values[i][rows, :, at] = value
            mixed = self._attend(query, pool.keys[i], pool.values[i], table, lengths)
            x = layer.leave(layer.self_attn.out_proj(mixed.flatten(1)), x, layer.self_attn_layer_norm)
            entered = layer.enter(x, layer.encoder_attn_layer_norm)
            query = layer.encoder_attn.q_proj(entered).unflatten(-1, (heads, -1))
            mixed = self._attend(query, pool.source_keys[i], pool.source_values[i], source_table, source_lengths)
            x = layer.leave(layer.encoder_attn.out_proj(mixed.flatten(1)), x, layer.encoder_attn_layer_norm)
            x = layer.feed_forward(x)
        last: Tensor = stack.last(x)
        return last

    def _advance(
        self, slots: Tensor, position: Tensor, alive: Tensor, upto: int, scores: Tensor, beam: Tensor, token: Tensor
    ) -> Tensor:
        """The search's own step over (n, 2 * beams) candidates, best first: what ends, and which beams go on."""
        pool, beams = self._pool, self._pool.room.beams
        written = position + 1
        final = written >= pool.most[slots]
        ends = (token == self._config.eos_token_id) | final[:, None]
        # an end among the better half is kept while fewer than ``beams`` are
        kept = ends & (self._ranks < beams) & alive[:, None]
        place = pool.ended[slots][:, None] + kept.cumsum(1) - 1
        kept = kept & (place < beams)
        place = torch.where(kept, place, beams)
        at = slots[:, None]
        pool.end_score[at, place] = scores / (written.float() ** self._penalty)[:, None]
        pool.end_length[at, place] = written[:, None].expand_as(place)
        pool.end_beam[at, place] = beam
        pool.end_token[at, place] = torch.where(token == self._config.eos_token_id, -1, token)
        ended = pool.ended[slots] + kept.sum(1)
        pool.ended[slots] = ended
        # of the others the first ``beams`` go on
        chosen = (self._ranks + ends * 2 * beams).sort(1).values[:, :beams] % (2 * beams)
        running, origin, token = (x.gather(1, chosen) for x in (scores, beam, token))
        went_on, alive = alive, alive & (ended < beams) & ~final
        pool.alive[slots] = alive
        pool.last[slots] = token
        pool.running[slots] = torch.where(alive[:, None], running, -torch.inf)
        here, each = position[:, None], self._beams
        pool.tokens[at, each, here] = token.int()
        pool.came[at, each, here] = origin.int()
        # a slot that has ended stands still behind its last token, where nothing is read
        following = torch.where(went_on, written.clamp(max=pool.room.longest - 1), position)
        table = pool.table[slots][:, :, :upto]
        pool.table[slots, :, :upto] = table.gather(1, origin[:, :, None].expand_as(table))
        pool.table[at, each, following[:, None]] = self._rows(slots).int()
        pool.position[slots] = following
        return alive
