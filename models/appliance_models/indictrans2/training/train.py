"""Training of one direction of the embedded model, on a CPU or a GPU, as long as it is given, over any number of runs.

What it is: a loop. Matrices learn by Muon and the rest by AdamW (measured: see the model's card); bf16 where the CPU
multiplies it natively; warm-up, then a constant rate, then a linear fall to zero in the last part of the time limit.
State is written every ten minutes to a new file that then takes the old one's place, so a killed run loses at most
those. What came before the fall is kept apart (``stable.pt``): a later run with a larger limit goes on from there.
What it refuses to be: a framework.
What it costs: one core; about 250 MB.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional

from appliance_models.indictrans2 import checkpoint
from appliance_models.indictrans2.config import Config
from appliance_models.indictrans2.model import IndicTrans
from appliance_models.indictrans2.training.batches import Pairs, endless

Say = Callable[[str], None]
# sources, what the decoder reads, what it should write
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the outcome besides the data and the time."""

    width: int = 256
    hidden: int = 1024
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 2
    tokens: int = 1536
    muon_rate: float = 0.02
    rate: float = 0.003
    warmup_steps: int = 200
    fall: float = 0.3
    smoothing: float = 0.1
    dropout: float = 0.05
    attention_dropout: float = 0.0
    seed: int = 20261125
    bf16: bool = True


class Progress(msgspec.Struct, kw_only=True):
    """Where training stands; ``limit_s`` is the time limit whose fall has begun, 0 before."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    limit_s: float = 0.0


def config_for(recipe: Recipe, source_size: int, target_size: int) -> Config:
    """The configuration of the embedded model; its head shares the decoder's embeddings."""
    return Config(
        encoder_vocab_size=source_size,
        decoder_vocab_size=target_size,
        encoder_embed_dim=recipe.width,
        decoder_embed_dim=recipe.width,
        encoder_layers=recipe.encoder_layers,
        decoder_layers=recipe.decoder_layers,
        encoder_ffn_dim=recipe.hidden,
        decoder_ffn_dim=recipe.hidden,
        encoder_attention_heads=recipe.heads,
        decoder_attention_heads=recipe.heads,
        encoder_normalize_before=True,
        decoder_normalize_before=True,
        layernorm_embedding=True,
        scale_embedding=True,
        share_decoder_input_output_embed=True,
        activation_function="gelu",
        max_source_positions=256,
        max_target_positions=256,
        dropout=recipe.dropout,
        attention_dropout=recipe.attention_dropout,
    )


def new_model(config: Config, seed: int) -> IndicTrans:
    """A model with seeded weights."""
    torch.manual_seed(seed)
    model = IndicTrans(config)
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name:
            nn.init.normal_(parameter, std=config.encoder_embed_dim**-0.5)
            with torch.no_grad():
                parameter[config.pad_token_id].zero_()
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


class Trainer:
    """One direction in one directory."""

    def __init__(self, directory: Path, recipe: Recipe, config: Config, say: Say, device: str = "cpu") -> None:
        self.directory, self.recipe, self.say = directory, recipe, say
        self.device = torch.device(device)
        self.model = new_model(config, recipe.seed).to(self.device)
        self.progress = Progress()
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (matrices if parameter.dim() == 2 and "embed" not in name and "lm_head" not in name else others).append(
                parameter
            )
        muon: Any = torch.optim.Muon
        self.optimizers: list[Any] = [
            muon(matrices, lr=recipe.muon_rate, weight_decay=0.01, momentum=0.95),
            torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.rates = (recipe.muon_rate, recipe.rate)

    def resume(self, limit_s: float) -> bool:
        """Go on from the newest state, or from before the fall where that belonged to another limit; False if none."""
        for left_by_a_kill in self.directory.glob(".*.pt.*"):
            left_by_a_kill.unlink()
        for name in ("last.pt", "stable.pt"):
            path = self.directory / name
            if not path.exists():
                continue
            state = torch.load(path, weights_only=True, map_location=self.device)
            progress = msgspec.convert(state["progress"], Progress)
            if progress.limit_s in (0.0, limit_s) or name == "stable.pt":
                self.model.load_state_dict(state["model"])
                for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                    optimizer.load_state_dict(saved)
                self.progress = progress
                self.say(f"resumed from {name}: step {progress.step}, {progress.seconds / 60:.0f} minutes so far")
                return True
        return False

    def begin_from(self, weights: Path) -> None:
        """Take the weights of an exported model instead of random ones."""
        exported = checkpoint.load(weights)
        if exported.config != self.model.config:
            raise ValueError(f"{weights} is of another shape: give --recipe what its card names")
        self.model.load_state_dict(exported.state_dict())
        self.say(f"began from {weights}")

    def save(self, name: str = "last.pt") -> None:
        """Write the state beside its place and move it there: a kill leaves the old one or the new one."""
        state = {
            "progress": msgspec.to_builtins(self.progress),
            "recipe": msgspec.to_builtins(self.recipe),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        beside = self.directory / f".{name}.{os.getpid()}"
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.directory / name)

    def step(self, batch: Batch, factor: float) -> torch.Tensor:
        """One update; the mean loss of a target token, which on a GPU is still to be computed."""
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        loss = self._loss(batch, self.recipe.smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _loss(self, batch: Batch, smoothing: float) -> torch.Tensor:
        source, reads, labels = (part.to(self.device, non_blocking=True) for part in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            logits = self.model(source, reads)
        return functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=self.model.config.pad_token_id,
            label_smoothing=smoothing,
        )

    def loss(self, pairs: Pairs) -> float:
        """Mean loss of a target token of ``pairs``, in nats, without smoothing or dropout."""
        config = self.model.config
        self.model.eval()
        total, tokens = 0.0, 0
        with torch.inference_mode():
            for rows in pairs.order(0, 0, self.recipe.tokens):
                batch = pairs.batch(rows, config.decoder_start_token_id, config.pad_token_id)
                count = int(batch[2].ne(config.pad_token_id).sum())
                total, tokens = total + float(self._loss(batch, 0.0)) * count, tokens + count
        self.model.train()
        return total / tokens

    def run(
        self,
        pairs: Pairs,
        limit_s: float,
        save_every_s: float = 600.0,
        on_save: Callable[[Trainer], None] = lambda trainer: None,
        clock: Callable[[], float] = time.monotonic,
        max_steps: int | None = None,
    ) -> None:
        """Train until the time of all runs together reaches ``limit_s``."""
        p, recipe, config = self.progress, self.recipe, self.model.config
        began, before, saved, first = clock(), p.seconds, clock(), p.step
        fall_s = recipe.fall * limit_s
        losses: list[torch.Tensor] = []
        self.model.train()
        batches = endless(pairs, recipe.seed, recipe.tokens, p.epoch, p.position)
        for epoch, position, rows in batches:
            p.seconds = before + clock() - began
            left = limit_s - p.seconds
            if left <= 0 or (max_steps is not None and p.step >= max_steps):
                break
            if left <= fall_s and p.limit_s == 0.0:
                self.save("stable.pt")
                p.limit_s = limit_s
            torch.manual_seed(recipe.seed + p.step)  # dropout, so that a resumed run repeats an unbroken one
            factor = min(1.0, (p.step + 1) / recipe.warmup_steps, left / fall_s)
            losses.append(self.step(pairs.batch(rows, config.decoder_start_token_id, config.pad_token_id), factor))
            p.step, p.epoch, p.position = p.step + 1, epoch, position
            if p.step % 100 == 0:
                mean = float(torch.stack(losses[-100:]).mean())
                self.say(f"step {p.step} epoch {epoch} {p.seconds / 60:.1f} min rate {factor:.2f} loss {mean:.3f}")
                del losses[:-100]
            if clock() - saved >= save_every_s:
                self.save()
                saved = clock()
                on_save(self)
        if p.step > first:  # a limit that has passed already must not replace what was trained under a larger one
            self.save()
            on_save(self)
