"""Sentences a second of a whole search, for ``gpu_check``: the runner against a graphed plain beam search.

What it is: random weights of IndicTrans2's published shapes, sentences of real lengths (``lengths.json``: 2,000 pairs
of source and target lengths in pieces of the official vocabularies, from the test part of the parallel data: interface
texts of three words and more, median 10, longest 59), and callers who ask again when they are answered. Random weights
never write an end, so a sentence runs to the length that its translation really has, on both sides.
What the plain side is: the PyTorch module's layers over a static cache, CUDA-graphed by length, batches of up to 128 of
about one length, torch's beam step and reordering of the cache. It never looks whether it is done: a host that does
would be slower, so the comparison errs on its side.
What it refuses to be: a measurement of queues and HTTP; those are the host's and alike on both sides.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from appliance.hosts.indictrans_pool import Room
from appliance.hosts.indictrans_runner import Runner, Sentence
from appliance_models.indictrans2.model import IndicTrans

UNK, EOS, PAD = 3, 2, 1
BEAMS = 5
# width, feed-forward, heads, layers each side, and whether embeddings are normalised and shared with the head
SHAPES = {"200M": (512, 2048, 8, 18, True), "1B": (1024, 8192, 16, 18, False)}
TINY = (64, 128, 4, 2, True)
PLAIN_BATCH = 128
Lengths = list[tuple[int, int]]


def plain(
    hidden: Tensor, weight: Tensor, running: Tensor, beams: int, forbidden: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a beam search in torch does: the product in half precision, float32 from there."""
    logits = (hidden @ weight.T).float()
    logits.index_fill_(1, forbidden, -torch.inf)
    scores = running[:, None] + logits.log_softmax(-1)
    best, places = scores.view(len(hidden) // beams, -1).topk(2 * beams, dim=1)
    return best, places // len(weight), places % len(weight)


def graphed(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """``call`` as one CUDA graph; as it is on a CPU."""
    if device == "cpu":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def lengths(longest: int) -> Lengths:
    """Of the file, source and target in tokens, ends included; longer ones cut."""
    pairs = json.loads((Path(__file__).parent / "lengths.json").read_text())
    return [(min(source, longest), min(target, longest)) for source, target in pairs]


def random_model(
    shape: tuple[int, int, int, int, bool], vocabularies: tuple[int, int], device: str, dtype: torch.dtype, ends: bool
) -> IndicTrans:
    """Weights that nobody trained; ``ends`` says whether an end of sentence can be written at all."""
    width, hidden, heads, layers, shared = shape
    config: Any = SimpleNamespace(
        encoder_vocab_size=vocabularies[0], decoder_vocab_size=vocabularies[1], encoder_embed_dim=width,
        decoder_embed_dim=width, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden, encoder_attention_heads=heads, decoder_attention_heads=heads,
        encoder_normalize_before=True, decoder_normalize_before=True, layernorm_embedding=shared, scale_embedding=True,
        share_decoder_input_output_embed=shared, activation_function="gelu", max_source_positions=256,
        max_target_positions=256, bos_token_id=0, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS,
        dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    with torch.device(device):
        model = IndicTrans(config)
    model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    if not ends:  # its logit is 0, far under the best of so many
        model.lm_head.weight[EOS] = 0
    return model


class Plain:
    """A static batch of ``sentences``: ``translate`` runs it to its longest member."""

    def __init__(self, model: IndicTrans, sentences: int, room: Room, device: str) -> None:
        c = model.config
        self.model, self.device, self.room, self.sentences = model, device, room, sentences
        self.heads = c.decoder_attention_heads
        self.layers: Any = list(model.model.decoder.layers)
        rows, head, dtype = sentences * BEAMS, c.decoder_embed_dim // self.heads, model.lm_head.weight.dtype

        def zeros(*shape: int, of: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=of, device=device)

        self.cache = zeros(len(self.layers), 2, rows, self.heads, room.longest, head, of=dtype)
        self.memory = zeros(len(self.layers), 2, sentences, self.heads, room.source, head, of=dtype)
        self.mask = zeros(sentences, 1, 1, room.source, of=torch.bool)
        self.ids, self.running, self.at = zeros(rows), zeros(rows, of=torch.float32), zeros(1)
        self.written = zeros(rows, room.longest)
        self.source = zeros(sentences, room.source)
        self.first = torch.arange(sentences, device=device)[:, None] * BEAMS
        self.forbidden, self.forced = torch.tensor([UNK], device=device), torch.full((rows,), -1, device=device)
        self.start = torch.full((sentences, BEAMS), -torch.inf, device=device)
        self.start[:, 0] = 0.0
        self.graphs: dict[tuple[str, int], Callable[[], Any]] = {}

    def sizes(self, longest: int) -> list[int]:
        """The lengths that graphs are made for."""
        return sorted({min(size, longest) for size in (16, 32, longest)})

    def translate(self, sources: Sequence[Sequence[int]], steps: int) -> None:
        """Encode and write ``steps`` tokens for each; waits for the device."""
        wide = next(size for size in self.sizes(self.room.source) if size >= max(map(len, sources)))
        rows = [[*ids, *[PAD] * (self.room.source - len(ids))] for ids in sources]
        rows += [rows[0]] * (self.sentences - len(rows))
        self.source.copy_(torch.tensor(rows))
        self.run("encode", wide)
        for step in range(steps):
            self.run("step", next(size for size in self.sizes(self.room.longest) if size > step))
        if self.device != "cpu":
            torch.cuda.synchronize()

    def run(self, what: str, size: int) -> None:
        """Encode or step, as a graph from the second time on."""
        if (what, size) not in self.graphs:
            work = self.encode if what == "encode" else self.step
            before = self.at.clone()
            self.graphs[what, size] = graphed(lambda: work(size), self.device)
            self.at.copy_(before)
        self.graphs[what, size]()

    def encode(self, wide: int) -> None:
        """Keys and values of the source, and a search that has written nothing."""
        ids = self.source[:, :wide]
        memory = self.model.model.encoder(ids)
        for i, layer in enumerate(self.layers):
            keys, values = layer.encoder_attn.keys(memory)
            self.memory[i, 0, :, :, :wide] = keys
            self.memory[i, 1, :, :, :wide] = values
        self.mask.copy_((self.source != PAD)[:, None, None])
        self.ids.fill_(EOS)
        self.running.copy_(self.start.view(-1))
        self.at.zero_()

    def step(self, upto: int) -> None:
        """One token more at positions below ``upto``."""
        stack, attend = self.model.model.decoder, nn.functional.scaled_dot_product_attention
        x = stack.embed_tokens(self.ids) * stack.scale + stack.embed_positions.weights[self.at + 1 + PAD]
        if stack.layernorm_embedding is not None:
            x = stack.layernorm_embedding(x)
        seen = (torch.arange(upto, device=self.device) <= self.at)[None, None, None]
        for i, layer in enumerate(self.layers):
            entered = layer.enter(x, layer.self_attn_layer_norm)
            q, k, v = (
                p(entered).view(len(x), self.heads, 1, -1)
                for p in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            )
            self.cache[i, 0].index_copy_(2, self.at, k)
            self.cache[i, 1].index_copy_(2, self.at, v)
            mixed = attend(q, self.cache[i, 0, :, :, :upto], self.cache[i, 1, :, :, :upto], attn_mask=seen)
            x = layer.leave(layer.self_attn.out_proj(mixed.reshape(len(x), -1)), x, layer.self_attn_layer_norm)
            entered = layer.enter(x, layer.encoder_attn_layer_norm)
            q = layer.encoder_attn.q_proj(entered).view(self.sentences, BEAMS, self.heads, -1).transpose(1, 2)
            mixed = attend(q, self.memory[i, 0], self.memory[i, 1], attn_mask=self.mask).transpose(1, 2)
            x = layer.leave(layer.encoder_attn.out_proj(mixed.reshape(len(x), -1)), x, layer.encoder_attn_layer_norm)
            x = layer.feed_forward(x)
        best = plain(stack.last(x), self.model.lm_head.weight, self.running, BEAMS, self.forbidden, self.forced)
        scores, beam, token = (each[:, :BEAMS] for each in best)
        origins = (self.first + beam).reshape(-1)
        self.written.copy_(self.written.index_select(0, origins))
        self.written.index_copy_(1, self.at, token.reshape(-1, 1))
        self.ids.copy_(token.reshape(-1))
        self.running.copy_(scores.reshape(-1))
        part = self.cache[:, :, :, :, :upto]
        part.copy_(part.index_select(2, origins))
        self.at += 1


def ask(rng: random.Random, pairs: Lengths, vocabulary: int) -> tuple[list[int], int]:
    """A source of random tokens and the length of its translation."""
    source, target = rng.choice(pairs)
    return [*(rng.randrange(4, vocabulary) for _ in range(source - 1)), EOS], target


def figures(began: float, taken: list[float]) -> dict[str, float]:
    """Sentences a second and how long one took, in milliseconds."""
    seconds = time.perf_counter() - began
    taken.sort()
    return {
        "sentences_s": round(len(taken) / seconds, 1),
        "p50_ms": round(taken[len(taken) // 2] * 1000, 1),
        "p95_ms": round(taken[int(len(taken) * 0.95)] * 1000, 1),
    }


def drive_runner(runner: Runner, asks: Sequence[tuple[list[int], int]], at_once: int) -> dict[str, float]:
    """``at_once`` callers, each asking again when it is answered."""
    todo, taken, since = deque(asks), [], {}
    began = time.perf_counter()

    def one_more() -> None:
        sentence = Sentence(*todo.popleft())
        since[sentence] = time.perf_counter()
        runner.add(sentence, since[sentence])

    for _ in range(min(at_once, len(todo))):
        one_more()
    while runner.busy:
        for done in runner.turn():
            taken.append(time.perf_counter() - since.pop(done.sentence))
            if todo:
                one_more()
    return figures(began, taken)


def drive_plain(batches: dict[int, Plain], asks: Sequence[tuple[list[int], int]], at_once: int) -> dict[str, float]:
    """The same callers before batches that run to their end: the oldest's length first, as the host's batcher does."""
    todo, taken = deque(asks), []
    began = time.perf_counter()
    waiting = [(todo.popleft(), began) for _ in range(min(at_once, len(todo)))]
    while waiting:
        size = len(waiting[0][0][0]).bit_length()
        group = [each for each in waiting if len(each[0][0]).bit_length() == size][:PLAIN_BATCH]
        if len(waiting) <= PLAIN_BATCH:  # everybody fits: nobody waits for a batch of his own length
            group = waiting[:]
        chosen = {id(each) for each in group}
        waiting = [each for each in waiting if id(each) not in chosen]
        batch = next(batches[n] for n in sorted(batches) if n >= len(group))
        batch.translate([ids for (ids, _), _ in group], max(target for (_, target), _ in group))
        now = time.perf_counter()
        taken += [now - since for _, since in group]
        waiting += [(todo.popleft(), now) for _ in range(min(len(group), len(todo)))]
    return figures(began, taken)


@torch.inference_mode()
def measure(shape: str, device: str, tiny: bool, late: Callable[[], bool]) -> list[dict[str, Any]]:
    """Both sides at 1 to 512 callers at once."""
    levels = (1, 3) if tiny else (1, 8, 64, 256, 512)
    room = Room(slots=levels[-1], beams=BEAMS, longest=16 if tiny else 64, source=16 if tiny else 64)
    vocabularies = (500, 999) if tiny else (32_322, 122_672)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = random_model(TINY if tiny else SHAPES[shape], vocabularies, device, dtype, ends=False)
    runner = Runner(model, room, ahead=True)
    graphs = runner.warm()
    batches = {n: Plain(model, n, room, device) for n in {min(level, PLAIN_BATCH) for level in levels}}
    pairs, found = lengths(room.longest), []
    for at_once in levels:
        if late():
            break
        rng = random.Random(at_once)
        asks = [ask(rng, pairs, vocabularies[0]) for _ in range(4 if tiny else max(96, 5 * at_once))]
        warm = asks[: max(2, min(len(asks), 2 * at_once))]
        drive_runner(runner, warm, at_once)
        drive_plain(batches, warm, at_once)
        entry: dict[str, Any] = {"shape": shape, "at_once": at_once, "sentences": len(asks), "graphs": graphs}
        entry["plain"] = drive_plain(batches, asks, at_once)
        entry["runner"] = drive_runner(runner, asks, at_once)
        entry["times_plain"] = round(entry["runner"]["sentences_s"] / entry["plain"]["sentences_s"], 2)
        found.append(entry)
        print(json.dumps(entry), flush=True)
    return found


@torch.inference_mode()
def same_as_on_the_cpu(device: str, sentences: int = 60) -> dict[str, Any]:
    """The runner here (kernels, graphs, a round ahead) against itself in plain torch on the CPU, float32, with ends."""
    torch.manual_seed(5)
    room = Room(slots=7, beams=BEAMS, longest=40, source=40)
    model = random_model((128, 256, 4, 3, False), (500, 33), "cpu", torch.float32, ends=True)
    rng, pairs = random.Random(2), lengths(30)
    asks = [ask(rng, pairs, 500) for _ in range(sentences)]
    # an end that is nearly as likely as what it writes most, so that sentences end at different times
    probe = Runner(model, room)
    probe.add(Sentence(asks[0][0], 30), 0.0)
    ids: list[int] = []
    while probe.busy:
        ids += [i for each in probe.turn() for i in each.hypotheses[0][0]]
    model.lm_head.weight[EOS] = 0.7 * model.lm_head.weight[max(ids, key=ids.count)]
    results: list[list[tuple[tuple[int, ...], float]]] = []
    for where in ("cpu", device):
        runner = Runner(model.to(where), room, ahead=where != "cpu" or device == "cpu")
        order = {}
        for n, (ids, target) in enumerate(asks):
            order[sentence := Sentence(ids, min(target + 5, room.longest))] = n
            runner.add(sentence, float(n))
        found: dict[int, tuple[tuple[int, ...], float]] = {}
        while runner.busy:
            found |= {order[each.sentence]: each.hypotheses[0] for each in runner.turn()}
        results.append([found[n] for n in range(sentences)])
    pairs_of = list(zip(*results, strict=True))
    return {
        "sentences": sentences,
        "same": sum(a[0] == b[0] for a, b in pairs_of),
        "largest_error": max((abs(a[1] - b[1]) for a, b in pairs_of if a[0] == b[0]), default=0.0),
        "ended_by_themselves": sum(len(a[0]) < min(t + 5, 40) for (a, _), (_, t) in zip(pairs_of, asks, strict=True)),
    }


@torch.inference_mode()
def both_sides_write_the_same(device: str, sentences: int = 8, written: int = 12) -> float:
    """The share of sentences whose best beam is the same: both sides do the work that is timed. float32."""
    torch.manual_seed(6)
    room = Room(slots=sentences, beams=BEAMS, longest=16, source=24)
    model = random_model((128, 256, 4, 3, False), (500, 999), device, torch.float32, ends=False)
    rng, pairs = random.Random(3), lengths(24)
    sources = [ask(rng, pairs, 500)[0] for _ in range(sentences)]
    batch, runner = Plain(model, sentences, room, device), Runner(model, room)
    batch.translate(sources, written)
    asked = [Sentence(ids, written) for ids in sources]
    for sentence in asked:
        runner.add(sentence, 0.0)
    found: dict[Sentence, tuple[int, ...]] = {}
    while runner.busy:
        found |= {each.sentence: each.hypotheses[0][0] for each in runner.turn()}
    plain_side = batch.written[::BEAMS, :written].tolist()
    return sum(list(found[s]) == ids for s, ids in zip(asked, plain_side, strict=True)) / sentences
