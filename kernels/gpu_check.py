"""``make gpu-check``: are the kernels right on this GPU, and what do they win?

What it is: one script for a machine with a GPU and torch, triton and numpy, nothing else: correctness at full shapes,
a whole search of IndicTrans2's published shapes (random weights) by the runner and by a graphed plain beam search
(``end_to_end``), a decoding step with and without the kernels, and their time beside eager, compiled and CUDA-graphed
torch with the share of the roofline measured in the same run. Sections run in the order of their worth and the JSON is
rewritten after each, so a run that is cut off keeps what it had.
What it refuses to be: a claim about quality or about other GPUs.
What it costs: under eight minutes, and 40 GB of GPU memory at the most; ``--tiny --device cpu`` walks through on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "models"), str(HERE.parent)]

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import end_to_end  # noqa: E402
from appliance_kernels import beam_attention as attention  # noqa: E402
from appliance_kernels import beam_topk as ours  # noqa: E402
from appliance_kernels import log_mel as mel  # noqa: E402
from end_to_end import SHAPES, graphed, plain  # noqa: E402

UNK = 3
VOCABULARIES = {"en-indic": 122_672, "indic-en": 32_322}


class Clock:
    """Milliseconds of calls on a device, the median of several."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, calls: list[Callable[[], Any]], repeats: int = 5, inner: int = 10) -> dict[str, float]:
        """Each repeat runs ``inner`` of ``calls`` in turn (different inputs, so that L2 holds none of them)."""
        for call in calls[:3]:
            call()
        self._wait()
        taken = []
        for _ in range(repeats):
            if self.device == "cpu":
                began = time.perf_counter()
                for i in range(inner):
                    calls[i % len(calls)]()
                taken.append((time.perf_counter() - began) * 1000 / inner)
                continue
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for i in range(inner):
                calls[i % len(calls)]()
            end.record()
            self._wait()
            taken.append(start.elapsed_time(end) / inner)
        return {"ms": round(statistics.median(taken), 4), "least": round(min(taken), 4), "most": round(max(taken), 4)}

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


class Check:
    """One run: its options, its results so far."""

    def __init__(self, device: str, tiny: bool, seconds: float, out: Path) -> None:
        self.device, self.tiny, self.out = device, tiny, out
        self.until = time.monotonic() + seconds
        self.clock = Clock(device)
        self.results: dict[str, Any] = {"bench": "gpu-check", "began": datetime.now(UTC).isoformat(), "tiny": tiny}
        self.name = f"gpu-check-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"

    def section(self, name: str, work: Callable[[], Any]) -> None:
        """Run, keep what it returns or how it failed, write everything."""
        if time.monotonic() > self.until:
            self.results[name] = "left out: no time"
        else:
            began = time.monotonic()
            try:
                self.results[name] = work()
            except Exception:
                self.results[name] = {"failed": traceback.format_exc()[-3000:]}
            print(f"{name}: {time.monotonic() - began:.1f} s {json.dumps(self.results[name])[:1500]}", flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / self.name).write_text(json.dumps(self.results, indent=1) + "\n")

    def late(self) -> bool:
        return time.monotonic() > self.until

    # sections

    def machine(self) -> dict[str, Any]:
        """What this is, and its measured ceilings."""
        found: dict[str, Any] = {"torch": torch.__version__}
        if self.device == "cpu":
            return found
        import triton

        properties = torch.cuda.get_device_properties(0)
        found |= {"triton": triton.__version__, "gpu": properties.name, "l2_mb": properties.L2_cache_size / 1e6}
        source = torch.empty(1 << 29, dtype=torch.int32, device=self.device)
        target = torch.empty_like(source)
        copy = self.clock([lambda: target.copy_(source)])["ms"]
        found["copy_gb_s"] = round(2 * source.nbytes / copy / 1e6, 1)
        a, b = (torch.randn(8192, 8192, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        found["matmul_tflop_s"] = round(2 * 8192**3 / self.clock([lambda: a @ b])["ms"] / 1e9, 1)
        return found

    def inputs(self, rows: int, vocabulary: int, width: int, dtype: torch.dtype, beams: int = 5) -> tuple[Any, ...]:
        """Hidden states and weights whose logits spread as a model's do, running scores, one dead beam in ten."""
        hidden = torch.randn(rows, width, device=self.device).to(dtype)
        weight = (torch.randn(vocabulary, width, device=self.device) * 3 / width**0.5).to(dtype)
        running = -5 * torch.rand(rows, device=self.device)
        running[torch.rand(rows, device=self.device) < 0.1] = -torch.inf
        forced = torch.full((rows,), -1, device=self.device)
        return hidden, weight, running, beams, torch.tensor([UNK], device=self.device), forced

    def correct(self) -> list[dict[str, Any]]:
        """Against the float32 reference: every score, and the share of identical places."""
        found = []
        cases = [
            (rows, v, w, dtype)
            for dtype in (torch.bfloat16, torch.float16, torch.float32)
            for rows, v, w in ((5, 122_672, 1024), (320, 122_672, 1024), (2560, 122_672, 512), (45, 32_322, 512))
        ]
        if self.tiny:
            cases = [(10, 999, 64, torch.float32), (5, 333, 48, torch.float16)]
        for rows, vocabulary, width, dtype in cases:
            torch.manual_seed(rows)
            given = self.inputs(rows, vocabulary, width, dtype)
            given[5][rows // 2] = 7
            if rows > 40:
                given[0][1] = torch.nan
            kernel, truth = ours.beam_topk(*given), ours.reference(*given)
            number = torch.isfinite(truth[0])
            same = (kernel[1] == truth[1]) & (kernel[2] == truth[2])
            found.append({
                "rows": rows, "vocabulary": vocabulary, "width": width, "dtype": str(dtype),
                "largest_error": float((kernel[0] - truth[0])[number].abs().max()),
                "same_places": round(float(same[number].float().mean()), 5),
                "same_numbers": bool((torch.isfinite(kernel[0]) == number).all()),
            })  # fmt: skip
        return found

    def correct_attention(self) -> list[dict[str, Any]]:
        """beam_attention against its reference, tables and lengths drawn at random."""
        found = []
        cases = [(320, 16, 64, 64), (2560, 8, 128, 64), (5, 16, 256, 64)]
        for rows, heads, longest, width in [(10, 2, 40, 16)] if self.tiny else cases:
            for dtype in (torch.float16,) if self.device == "cpu" else (torch.bfloat16, torch.float16, torch.float32):
                torch.manual_seed(rows)
                q, k, v = (
                    torch.randn(*shape, device=self.device).to(dtype)
                    for shape in ((rows, heads, width), *[(rows, heads, longest, width)] * 2)
                )
                table = torch.randint(0, rows, (rows, longest), dtype=torch.int32, device=self.device)
                lengths = torch.randint(0, longest + 1, (rows,), dtype=torch.int32, device=self.device)
                kernel = attention.beam_attention(q, k, v, table, lengths)
                truth = attention.reference(q, k, v, table, lengths)
                found.append({
                    "rows": rows, "heads": heads, "longest": longest, "dtype": str(dtype),
                    "largest_error": float((kernel.float() - truth.float()).abs().max()),
                })  # fmt: skip
        return found

    def sounds(self, batch: int, seconds: float, rate: int, channels: int) -> tuple[Any, ...]:
        """Loud noise that falls silent, so that quiet bands stand beside loud ones, of different lengths."""
        longest = int(seconds * rate)
        fades = torch.linspace(1, 0, longest, device=self.device)[None, :, None] ** 3
        pcm = (torch.randint(-30000, 30000, (batch, longest, channels), device=self.device) * fades).to(torch.int16)
        return pcm, torch.linspace(longest // 2, longest, batch, device=self.device).long()

    def correct_log_mel(self) -> list[dict[str, Any]]:
        """log_mel against its reference, every rate and both front ends."""
        found = []
        for rate, front, mels, channels in (
            (16000, "whisper", 80, 1), (16000, "whisper", 128, 1), (16000, "conformer", 80, 1),
            (8000, "whisper", 80, 2), (44100, "conformer", 80, 2), (48000, "whisper", 80, 1),
        ):  # fmt: skip
            torch.manual_seed(rate)
            given = (*self.sounds(2, 0.1 if self.tiny else 10, rate, channels), rate, front, mels)
            frames = 12 if self.tiny else 1000
            kernel, truth = mel.log_mel(*given, frames), mel.reference(*given, frames)
            error = float((kernel - truth).abs().max())
            found.append({"rate": rate, "front": front, "mels": mels, "channels": channels, "largest_error": error})
        return found

    def log_mel(self) -> list[dict[str, Any]]:
        """32 sounds of 30 s at once, beside the reference (float64) and what torch does in float32."""
        found = []
        batch, seconds = (2, 0.2) if self.tiny else (32, 30)
        for rate, front in ((16000, "whisper"), (48000, "whisper"), (16000, "conformer")):
            if self.late():
                break
            given = (*self.sounds(batch, seconds, rate, 1), rate, front, 80, int(seconds * 100))
            table = mel.front_of(front, 80)
            window, bands = (t.float().to(self.device) for t in (table.window, table.bands))

            def eager(given: tuple[Any, ...] = given, window: Tensor = window, bands: Tensor = bands) -> Tensor:
                sound = given[0][:, :: given[2] // 16000, 0].float() / 32768  # as if resampling cost nothing
                power = torch.stft(sound, len(window), 160, window=window, return_complex=True).abs() ** 2
                return (power.transpose(1, 2) @ bands).clamp(min=1e-10).log10()

            found.append({
                "rate": rate, "front": front, "batch": batch, "seconds": seconds,
                "ours": self.clock([lambda g=given: mel.log_mel(*g)], inner=3),
                "reference": self.clock([lambda g=given: mel.reference(*g)], repeats=3, inner=1),
                "float32_without_resampling": self.clock([eager], inner=3),
            })  # fmt: skip
        return found

    def correct_runner(self) -> dict[str, Any]:
        """The runner with kernels and graphs: against itself in plain torch, and the plain side against it."""
        same = end_to_end.same_as_on_the_cpu(self.device, 12 if self.tiny else 60)
        return same | {"plain_side_writes_the_same": end_to_end.both_sides_write_the_same(self.device)}

    def end_to_end(self, shape: str) -> list[dict[str, Any]]:
        """Sentences a second and waiting times, see ``end_to_end``."""
        found = end_to_end.measure(shape, self.device, self.tiny, self.late)
        if self.device != "cpu":
            torch.cuda.empty_cache()
        return found

    def speed(self) -> list[dict[str, Any]]:
        """beam_topk beside torch, eager, compiled and graphed."""
        found = []
        cases = [(320, 122_672, 1024), (320, 122_672, 512), (5, 122_672, 1024), (40, 122_672, 1024),
                 (2560, 122_672, 1024), (320, 32_322, 1024), (40, 32_322, 512)]  # fmt: skip
        if self.tiny:
            cases = [(10, 999, 64)]
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        for rows, vocabulary, width in cases:
            if self.late():
                break
            sets = [self.inputs(rows, vocabulary, width, dtype) for _ in range(1 if rows > 1000 else 2)]
            entry: dict[str, Any] = {"rows": rows, "vocabulary": vocabulary, "width": width}
            entry["eager"] = self.clock([lambda s=s: plain(*s) for s in sets])
            entry["graphed"] = self.clock([graphed(lambda s=s: plain(*s), self.device) for s in sets])
            if self.device != "cpu":
                if rows == 320:
                    compiled = torch.compile(plain, dynamic=False)
                    entry["compiled_graphed"] = self.clock(
                        [graphed(lambda s=s, c=compiled: c(*s), self.device) for s in sets]
                    )
                entry["product_alone_graphed"] = self.clock(
                    [graphed(lambda s=s: s[0] @ s[1].T, self.device) for s in sets]
                )
            entry["ours"] = self.clock([lambda s=s: ours.beam_topk(*s) for s in sets])
            entry["ours_graphed"] = self.clock([graphed(lambda s=s: ours.beam_topk(*s), self.device) for s in sets])
            entry |= self._against(entry, rows, vocabulary, width)
            found.append(entry)
            print(json.dumps(entry), flush=True)
        return found

    def _against(self, entry: dict[str, Any], rows: int, vocabulary: int, width: int) -> dict[str, Any]:
        """The ratio to graphed torch, and the share of what bandwidth and arithmetic allow."""
        ms = entry["ours_graphed"]["ms"]
        machine = self.results["machine"]
        bytes_, flops = 2 * vocabulary * width, 2 * rows * vocabulary * width
        out: dict[str, Any] = {"times_graphed_torch": round(entry["graphed"]["ms"] / ms, 2)}
        if isinstance(machine, dict) and "copy_gb_s" in machine:
            floor = max(bytes_ / machine["copy_gb_s"] / 1e6, flops / machine["matmul_tflop_s"] / 1e9)
            out |= {"gb_s": round(bytes_ / ms / 1e6, 1), "floor_ms": round(floor, 4), "of_floor": round(floor / ms, 3)}
        return out

    def sweep(self) -> list[dict[str, Any]]:
        """Tiles at three row counts, for ``tiles_for``."""
        from appliance_kernels.beam_topk_triton import Tiles, launch

        tried = {
            320: [(64, 256, 64, 8, 3), (64, 256, 64, 8, 4), (128, 256, 64, 8, 3), (128, 128, 64, 8, 3),
                  (64, 128, 64, 4, 4), (128, 128, 64, 4, 4), (64, 256, 128, 8, 2), (128, 256, 64, 16, 3)],
            40: [(64, 128, 64, 4, 4), (64, 256, 64, 8, 3), (64, 128, 128, 4, 3), (64, 64, 128, 4, 4)],
            5: [(16, 128, 64, 4, 4), (16, 64, 128, 4, 4), (16, 128, 128, 4, 4), (16, 256, 64, 8, 4)],
        }  # fmt: skip
        found: list[dict[str, Any]] = []
        for rows, tiles in tried.items():
            given = self.inputs(rows, 122_672, 1024, torch.bfloat16)
            for tile in tiles:
                if self.late():
                    return found
                try:
                    call = graphed(lambda g=given, t=tile: launch(*g, tiles=Tiles(*t)), self.device)
                    found.append({"rows": rows, "tile": tile, **self.clock([call])})
                except Exception as e:
                    found.append({"rows": rows, "tile": tile, "failed": str(e)[:200]})
        return found

    def steps(self) -> list[dict[str, Any]]:
        """One decoding step, CUDA-graphed, with torch's beam step and with ours."""
        found = []
        cases = [("1B", 64), ("200M", 64), ("1B", 8), ("1B", 1), ("200M", 512), ("200M", 8)]
        if self.tiny:
            cases = [("200M", 2)]
        for shape, sentences in cases:
            if self.late():
                break
            width, hidden, heads, layers, _ = SHAPES[shape]
            vocabulary = VOCABULARIES["en-indic"]
            if self.tiny:
                width, hidden, heads, layers, vocabulary = 64, 128, 4, 2, 999
            entry: dict[str, Any] = {"shape": shape, "sentences": sentences, "beams": 5}
            step = Step(width, hidden, heads, layers, vocabulary, sentences, 5, 32, 64, self.device)
            kinds: dict[str, tuple[Any, bool, bool]] = {
                "plain": (plain, False, True), "beam_topk": (ours.beam_topk, False, True),
                "beam_topk_and_attention": (ours.beam_topk, True, False),
                "plain_and_attention": (plain, True, False), "layers_alone": (None, False, False),
            }  # fmt: skip
            for kind, (top, table, reorder) in kinds.items():
                call = graphed(lambda s=step, t=top, a=table, r=reorder: s(t, a, r), self.device)
                entry[kind] = self.clock([call], inner=5 if self.device == "cpu" else 20)
            entry["times_plain"] = round(entry["plain"]["ms"] / entry["beam_topk_and_attention"]["ms"], 2)
            found.append(entry)
            print(json.dumps(entry), flush=True)
            del step, call
        return found


class Step:
    """One step of a static beam search over random weights of a shape: layers, beam step, reordering of the cache."""

    def __init__(
        self, width: int, hidden: int, heads: int, layers: int, vocabulary: int, sentences: int, beams: int,
        source: int, longest: int, device: str,
    ) -> None:  # fmt: skip
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self.heads, self.beams, self.sentences = heads, beams, sentences
        rows, per_head = sentences * beams, width // heads

        def linear(a: int, b: int) -> nn.Linear:
            return nn.Linear(a, b, device=device, dtype=dtype)

        self.layers = [
            {"qkv": linear(width, 3 * width), "out": linear(width, width), "q": linear(width, width),
             "mixed": linear(width, width), "fc1": linear(width, hidden), "fc2": linear(hidden, width),
             "norm": nn.LayerNorm(width, device=device, dtype=dtype)}
            for _ in range(layers)
        ]  # fmt: skip
        self.weight = torch.randn(vocabulary, width, device=device).to(dtype)
        # keys and values: of the target by row, of the source once a sentence
        self.cache = torch.zeros(layers, 2, rows, heads, longest, per_head, device=device, dtype=dtype)
        self.memory = torch.randn(layers, 2, sentences, heads, source, per_head, device=device).to(dtype)
        self.ids = torch.zeros(rows, dtype=torch.long, device=device)
        self.running = torch.zeros(rows, device=device)
        self.at = torch.tensor([longest // 2], device=device)
        self.mask = (torch.arange(longest, device=device) <= longest // 2)[None, None, None]
        self.forbidden = torch.tensor([UNK], device=device)
        self.forced = torch.full((rows,), -1, device=device)
        self.table = torch.arange(rows, dtype=torch.int32, device=device)[:, None].repeat(1, longest)
        self.lengths = torch.full((rows,), longest // 2 + 1, dtype=torch.int32, device=device)
        self.first = torch.arange(sentences, device=device)[:, None] * beams

    @torch.no_grad()
    def __call__(self, top: Any, table: bool, reorder: bool) -> None:
        attend = nn.functional.scaled_dot_product_attention
        x = self.weight[self.ids]
        rows = len(x)
        for i, layer in enumerate(self.layers):
            q, k, v = layer["qkv"](layer["norm"](x)).view(rows, 3, self.heads, 1, -1).unbind(1)
            self.cache[i, 0].index_copy_(2, self.at, k)
            self.cache[i, 1].index_copy_(2, self.at, v)
            if table:
                keys, values = self.cache[i].unbind(0)
                mixed = attention.beam_attention(q[:, :, 0], keys, values, self.table, self.lengths)
            else:
                mixed = attend(q, self.cache[i, 0], self.cache[i, 1], attn_mask=self.mask)
            x = x + layer["out"](mixed.reshape(rows, -1))
            q = layer["q"](layer["norm"](x)).view(self.sentences, self.beams, self.heads, -1).transpose(1, 2)
            mixed = attend(q, self.memory[i, 0], self.memory[i, 1]).transpose(1, 2)
            x = x + layer["mixed"](mixed.reshape(rows, -1))
            x = x + layer["fc2"](nn.functional.gelu(layer["fc1"](layer["norm"](x))))
        if top is None:
            return
        scores, beam, token = top(x, self.weight, self.running, self.beams, self.forbidden, self.forced)
        self.ids.copy_(token[:, : self.beams].reshape(-1))
        self.running.copy_((scores[:, : self.beams] - scores[:, :1]).reshape(-1))
        origins = (self.first + beam[:, : self.beams]).reshape(-1)
        if table:
            attention.advance(self.table, origins, self.at)
        if reorder:
            self.cache.copy_(self.cache.index_select(2, origins))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to see that the script itself works")
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--out", type=Path, default=HERE.parent / "benchmarks" / "results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: torch sees no GPU here; `--device cpu --tiny` walks through without one", file=sys.stderr)
        return 1
    check = Check(options.device, options.tiny, options.seconds, options.out)
    check.section("machine", check.machine)
    check.section("correct", check.correct)
    check.section("correct_attention", check.correct_attention)
    check.section("correct_log_mel", check.correct_log_mel)
    check.section("correct_runner", check.correct_runner)
    for shape in ("200M",) if options.tiny else SHAPES:
        check.section(f"end_to_end_{shape}", lambda s=shape: check.end_to_end(s))
    check.section("log_mel", check.log_mel)
    check.section("speed", check.speed)
    check.section("steps", check.steps)
    if options.device != "cpu":
        check.section("sweep", check.sweep)
    failed = [name for name, found in check.results.items() if isinstance(found, dict) and "failed" in found]
    print(f"written to {check.out / check.name}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
