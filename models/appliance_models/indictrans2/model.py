"""IndicTrans2 as a plain PyTorch module whose parameters bear the names of the published checkpoints.

What it is: encoder, decoder with a key/value cache, and head; the reference for the converter, and what the embedded
model is trained with.
What it refuses to be: fast at serving; CTranslate2 is (see ``convert``).
What it costs: the weights. Sinusoidal positions are computed, never stored.

The traps: a source is padded on the left, so positions count tokens and not columns; position ids begin at pad + 1;
the final LayerNorm exists only where the configuration normalises before a layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:  # so that a machine with nothing but torch can run the module (kernels/gpu_check.py)
    from appliance_models.indictrans2.config import Config

Cache = list[dict[str, Tensor]]


def sinusoids(positions: int, width: int) -> Tensor:
    """Tensor2tensor's layout, shape (positions, width): all sines, then all cosines."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / (half - 1)))
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * rates[None]
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return functional.pad(table, (0, width % 2))


class Positions(nn.Module):
    """Sinusoidal positions of token ids; row pad is zero and the first token has row pad + 1."""

    weights: Tensor

    def __init__(self, positions: int, width: int, pad: int) -> None:
        super().__init__()
        self.positions, self.width, self.pad = positions, width, pad
        self.register_buffer("weights", self.table(), persistent=False)

    def table(self) -> Tensor:
        """The rows, made on the CPU whatever the default device: a module on the meta device has none."""
        with torch.device("cpu"):
            table = sinusoids(self.positions + 2, self.width)
        table[self.pad] = 0
        return table

    def forward(self, ids: Tensor, past: int = 0) -> Tensor:
        """(batch, length) ids, after ``past`` earlier tokens, to (batch, length, width)."""
        mask = ids.ne(self.pad).long()
        rows = (mask.cumsum(1) + past) * mask + self.pad
        # the padded length bounds the positions; only where that is too long are they looked at (a wait on a GPU)
        if ids.shape[1] + past + self.pad >= len(self.weights) and int(rows.max()) >= len(self.weights):
            raise ValueError(f"a sentence of {int(rows.max()) - self.pad} tokens is longer than the model's positions")
        return self.weights[rows]


class Attention(nn.Module):
    """Multi-head attention with biased projections."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, heads, length, width of a head)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``x``, split into heads."""
        return self.split(self.k_proj(x)), self.split(self.v_proj(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from ``x`` to the keys where ``mask`` is True."""
        dropout = self.dropout if self.training else 0.0
        out = functional.scaled_dot_product_attention(
            self.split(self.q_proj(x)), keys, values, attn_mask=mask, dropout_p=dropout
        )
        mixed: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """What encoder and decoder layers share: self-attention, feed-forward, their norms, dropout."""

    def __init__(self, width: int, heads: int, hidden: int, before: bool, config: Config) -> None:
        super().__init__()
        self.before, self.dropout = before, config.dropout
        self.activation = functional.gelu if config.activation_function == "gelu" else functional.relu
        self.self_attn = Attention(width, heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def enter(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The input of a sub-layer."""
        return norm(x) if self.before else x

    def leave(self, x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The output of a sub-layer."""
        x = residual + functional.dropout(x, self.dropout, self.training)
        return x if self.before else norm(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half of every layer."""
        hidden = self.activation(self.fc1(self.enter(x, self.final_layer_norm)))
        return self.leave(self.fc2(hidden), x, self.final_layer_norm)


class EncoderLayer(Layer):
    """Self-attention and feed-forward."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, length, width) to the same."""
        entered = self.enter(x, self.self_attn_layer_norm)
        attended = self.self_attn(entered, *self.self_attn.keys(entered), mask)
        return self.feed_forward(self.leave(attended, x, self.self_attn_layer_norm))


class DecoderLayer(Layer):
    """Self-attention, attention to the source, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, before: bool, config: Config) -> None:
        super().__init__(width, heads, hidden, before, config)
        self.encoder_attn = Attention(width, heads, config.attention_dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor, cache: dict[str, Tensor] | None
    ) -> Tensor:
        """(batch, length, width) to the same; ``cache`` holds this layer's keys and values and is extended."""
        entered = self.enter(x, self.self_attn_layer_norm)
        keys, values = self.self_attn.keys(entered)
        if cache is not None:
            if "k" in cache:
                keys, values = torch.cat([cache["k"], keys], 2), torch.cat([cache["v"], values], 2)
            cache["k"], cache["v"] = keys, values
        x = self.leave(self.self_attn(entered, keys, values, mask), x, self.self_attn_layer_norm)
        if cache is None:
            keys, values = self.encoder_attn.keys(memory)
        else:
            if "mk" not in cache:
                cache["mk"], cache["mv"] = self.encoder_attn.keys(memory)
            keys, values = cache["mk"], cache["mv"]
        entered = self.enter(x, self.encoder_attn_layer_norm)
        x = self.leave(self.encoder_attn(entered, keys, values, memory_mask), x, self.encoder_attn_layer_norm)
        return self.feed_forward(x)


class Stack(nn.Module):
    """Embeddings, positions and layers of one side."""

    def __init__(self, vocabulary: int, width: int, positions: int, before: bool, config: Config) -> None:
        super().__init__()
        self.config = config
        self.scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(vocabulary, width, config.pad_token_id)
        self.embed_positions = Positions(positions, width, config.pad_token_id)
        self.layernorm_embedding = nn.LayerNorm(width) if config.layernorm_embedding else None
        self.layer_norm = nn.LayerNorm(width) if before else None

    def embed(self, ids: Tensor, past: int = 0) -> Tensor:
        """(batch, length) ids to the first layer's input."""
        x = self.embed_tokens(ids) * self.scale + self.embed_positions(ids, past)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return functional.dropout(x, self.config.dropout, self.training)

    def last(self, x: Tensor) -> Tensor:
        """The last layer's output, normalised where layers normalise before."""
        return x if self.layer_norm is None else self.layer_norm(x)


class Encoder(Stack):
    """The source side."""

    def __init__(self, c: Config) -> None:
        width, before = c.encoder_embed_dim, c.encoder_normalize_before
        super().__init__(c.encoder_vocab_size, width, c.max_source_positions, before, c)
        shape = (width, c.encoder_attention_heads, c.encoder_ffn_dim, before, c)
        self.layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(c.encoder_layers))

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) ids, padded on either side, to (batch, length, width)."""
        mask = ids.ne(self.config.pad_token_id)[:, None, None]
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, mask)
        return self.last(x)


class Decoder(Stack):
    """The target side."""

    def __init__(self, c: Config) -> None:
        width, before = c.decoder_embed_dim, c.decoder_normalize_before
        super().__init__(c.decoder_vocab_size, width, c.max_target_positions, before, c)
        shape = (width, c.decoder_attention_heads, c.decoder_ffn_dim, before, c)
        self.layers = nn.ModuleList(DecoderLayer(*shape) for _ in range(c.decoder_layers))

    def forward(self, ids: Tensor, memory: Tensor, memory_mask: Tensor, cache: Cache | None = None) -> Tensor:
        """(batch, length) ids to (batch, length, width); with a cache, ``ids`` are the new ones only."""
        past = cache[0]["k"].shape[2] if cache and "k" in cache[0] else 0
        length = ids.shape[1]
        mask = torch.ones(length, past + length, dtype=torch.bool, device=ids.device).tril(past) if length > 1 else None
        x = self.embed(ids, past)
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, memory, memory_mask, cache[i] if cache is not None else None)
        return self.last(x)


class Seq2Seq(nn.Module):
    """Encoder and decoder, as the checkpoints nest them under ``model.``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)


class IndicTrans(nn.Module):
    """The whole model."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = Seq2Seq(config)
        self.lm_head = nn.Linear(config.decoder_embed_dim, config.decoder_vocab_size, bias=False)
        if config.share_decoder_input_output_embed:
            self.lm_head.weight = self.model.decoder.embed_tokens.weight

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length) ids to the memory and the mask that the decoder attends through."""
        return self.model.encoder(source), source.ne(self.config.pad_token_id)[:, None, None]

    def decode(self, ids: Tensor, memory: Tensor, memory_mask: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (batch, length, vocabulary) after each of ``ids``."""
        logits: Tensor = self.lm_head(self.model.decoder(ids, memory, memory_mask, cache))
        return logits

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (batch, length, vocabulary) for a ``target`` that begins with the decoder's start token."""
        return self.decode(target, *self.encode(source))

    def new_cache(self) -> Cache:
        """An empty cache for ``decode``."""
        return [{} for _ in range(self.config.decoder_layers)]
