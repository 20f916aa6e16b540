"""``python -m appliance_models.indictrans2.training``: what ``make train-embedded`` calls.

``train``: build the data set if need be and train one direction, or both in turns, up to ``--minutes`` of all runs
together. ``export``: convert what came out, measure it on the test set, and write what the repository carries.
What it refuses to be: unattended advice; it prints a line every 100 steps and chrF at every checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch

from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.generate import translate_ids
from appliance_models.indictrans2.tokenizer import Tokenizer
from appliance_models.indictrans2.training import dataset, evaluate
from appliance_models.indictrans2.training.batches import Pairs
from appliance_models.indictrans2.training.corpus import Pair
from appliance_models.indictrans2.training.dataset import DIRECTIONS, Direction
from appliance_models.indictrans2.training.train import Recipe, Trainer, config_for

DEV_SAMPLE = 160


def main(arguments: Sequence[str]) -> int:
    """Run one command; 1 and a sentence where it cannot."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        if options.command == "train":
            _train(options)
        else:
            _export(options)
    except (OSError, ValueError, CheckpointError) as e:
        print(f"train-embedded: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train-embedded: interrupted; the next run goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train-embedded", description="Train the embedded translation model.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train, or go on training")
    train.add_argument("--data", type=Path, required=True, help="lines of tag, English, Indic; .xz or not")
    train.add_argument("--minutes", type=float, default=90, help="a direction, all runs together (default 90)")
    train.add_argument("--checkpoint-minutes", type=float, default=10)
    train.add_argument("--begin-from", type=Path, help="an exported model whose vocabulary and weights to start from")
    train.add_argument("--pieces", help="sizes of both vocabularies (default 6000,8000)")
    train.add_argument("--device", default="cpu", help="cpu, or cuda where PyTorch has one")
    train.add_argument("--recipe", help='JSON that changes the recipe of a new run, as {"width": 256}')
    out = commands.add_parser("export", help="convert, measure, and write what the repository carries")
    out.add_argument("--into", type=Path, required=True)
    out.add_argument("--weights", action="store_true", help="write half-precision weights too, for --begin-from")
    out.add_argument("--beside", default="last.pt", help="which state file (default last.pt)")
    for command in (train, out):
        command.add_argument("--state", type=Path, default=_default_state(), help="default: APPLIANCE_HOME/training")
        command.add_argument("--direction", choices=[*DIRECTIONS, "both"], default="both")
        command.add_argument("--threads", type=int, default=1)
    return parser


def _default_state() -> Path:
    return Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute() / "training"


def _directions(chosen: str) -> tuple[Direction, ...]:
    return tuple(d for d in DIRECTIONS if chosen in (d, "both"))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _trainer(state: Path, direction: Direction, recipe: Recipe, device: str = "cpu") -> Trainer:
    directory = state / direction
    tokenizer = Tokenizer(directory)
    config = config_for(recipe, len(tokenizer.source.ids), len(tokenizer.target.ids))
    return Trainer(directory, recipe, config, _say, device)


def _recipe(options: argparse.Namespace, direction: Direction) -> Recipe:
    """What was asked for, or what the state was begun with; both only where they agree."""
    asked = msgspec.json.decode(options.recipe or "{}", type=Recipe)
    path = options.state / direction / "last.pt"
    if not path.exists():
        return asked
    begun = msgspec.convert(torch.load(path, weights_only=True, mmap=True, map_location="cpu")["recipe"], Recipe)
    if options.recipe is not None and asked != begun:
        raise ValueError(f"{path} was begun with another recipe: leave --recipe out, or name another --state")
    return begun


def _train(options: argparse.Namespace) -> None:
    sizes = [int(size) for size in options.pieces.split(",")] if options.pieces else []
    dataset.build(options.data, options.state, options.begin_from, (sizes[0], sizes[1]) if sizes else None)
    for direction in _directions(options.direction):
        recipe = _recipe(options, direction)
        trainer = _trainer(options.state, direction, recipe, options.device)
        if not trainer.resume(options.minutes * 60) and options.begin_from is not None:
            trainer.begin_from(options.begin_from / f"{direction}-weights")
        tokenizer = Tokenizer(options.state / direction)
        pairs = evaluate.sample(_pairs(options.state, "dev"), DEV_SAMPLE, seed=1)

        _say(f"{direction}: {sum(p.numel() for p in trainer.model.parameters())} parameters, {recipe}")
        trainer.run(
            Pairs(options.state / direction / "train.npz"),
            options.minutes * 60,
            options.checkpoint_minutes * 60,
            on_save=partial(_report, direction, tokenizer, pairs, Pairs(options.state / direction / "dev.npz")),
        )


def _report(direction: Direction, tokenizer: Tokenizer, pairs: Sequence[Pair], dev: Pairs, trainer: Trainer) -> None:
    trainer.model.eval()
    scores = evaluate.score(pairs, direction, _torch_translate(trainer, tokenizer))
    trainer.model.train()
    mean = sum(s.chrf * s.pairs for s in scores.tags.values()) / len(pairs)
    loss = trainer.loss(dev)
    _say(f"{direction}: chrF {mean:.1f} on {len(pairs)} development pairs, loss {loss:.3f} on {len(dev)}")


def _torch_translate(trainer: Trainer, tokenizer: Tokenizer) -> evaluate.Translate:
    def translate(lines: Sequence[str]) -> list[str]:
        if not lines:
            return []
        found = translate_ids(trainer.model, [tokenizer.source_ids(line) for line in lines], beams=1, max_tokens=64)
        return [tokenizer.target.text(hypothesis.ids) for hypothesis in found]

    return translate


def _pairs(state: Path, part: str) -> list[Pair]:
    return msgspec.json.decode((state / f"{part}.json").read_bytes(), type=list[Pair])


def _export(options: argparse.Namespace) -> None:
    from appliance_models.indictrans2.training import export  # needs CTranslate2, which training does not

    for direction in _directions(options.direction):
        path = options.state / direction / options.beside
        if not path.exists():
            raise ValueError(f"{path} is not there: run train first")
        state = torch.load(path, weights_only=True, map_location="cpu")
        trainer = _trainer(options.state, direction, msgspec.convert(state["recipe"], Recipe))
        trainer.model.load_state_dict(state["model"])
        facts = {
            "recipe": state["recipe"],
            "progress": state["progress"],
            "data": json.loads((options.state / "dataset.json").read_text()),
        }
        options.into.mkdir(parents=True, exist_ok=True)
        scores = export.export(
            trainer.model, direction, options.state, options.into, facts, _pairs(options.state, "test"), options.weights
        )
        _say(f"{direction}: chrF {scores.macro} macro; {options.into / direction}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
