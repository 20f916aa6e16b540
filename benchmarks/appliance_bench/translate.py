"""``make bench-translate``: the translation host under load, beside one request at a time and beside plain PyTorch.

What it is: the host as the appliance starts it, on its socket; sentences/s with 1, 8 and 64 requests at once, against
the same host asked one request at a time (that is 1) and against beam search on the PyTorch module, sentence by
sentence; the waiting time at a quarter and at half of what 64 at once reach; and chrF of the very outputs that were
timed. Sides take turns, and the median of the rounds counts. Then documents as one stream each: seconds, and memory.
With ``--official DIR`` (official vocabularies) the same, without documents, for random weights of the 200M shape, whose
texts mean nothing: both sides write a fixed number of pieces there.
The client costs 0.1 ms a request (``wire``); httpx, at ten times that, would take the cores from what is measured.
What it refuses to be: a quality claim beyond the embedded model's own kind of text (its card says which).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import sacrebleu

from appliance_bench.wire import Client

RESULTS = Path(__file__).resolve().parent.parent / "results"
HELD_OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "indictrans2" / "held-out.tsv"
TAGS = ("hin_Deva", "ben_Beng", "tam_Taml", "tel_Telu", "mar_Deva", "urd_Arab")
AT_ONCE = (1, 8, 64)
Ask = tuple[str, str]


@contextmanager
def host(directory: Path, name: str, *more: str) -> Any:
    """A running host over ``directory``: its socket and its process."""
    with tempfile.TemporaryDirectory(prefix="bt-") as scratch:
        path = Path(scratch) / "t.sock"
        argv = [sys.executable, "-m", "appliance.hosts.translate", "--socket", str(path)]
        argv += ["--model", f"{name}={directory}", *more]
        with (Path(scratch) / "log").open("wb") as log:
            process = subprocess.Popen(argv, cwd=scratch, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while not path.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit((Path(scratch) / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield path, process.pid
        finally:
            process.terminate()
            process.wait()


async def closed(path: Path, asks: Sequence[Ask], at_once: int) -> tuple[float, list[float], list[str]]:
    """``at_once`` callers, each asking again when it was answered: seconds in all, of each, and the texts."""
    out = [""] * len(asks)
    taken = [0.0] * len(asks)
    todo = iter(range(len(asks)))
    client = Client(str(path))
    try:

        async def caller() -> None:
            for n in todo:
                began = time.perf_counter()
                out[n] = await one(client, asks[n])
                taken[n] = time.perf_counter() - began

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return time.perf_counter() - began, taken, out
    finally:
        await client.close()


async def one(client: Client, ask: Ask) -> str:
    """One sentence translated."""
    body = {"items": [{"text": ask[0], "source": "eng_Latn"}], "target": ask[1]}
    status, answer = await client.post("/v1/translate", json.dumps(body).encode(), "content-type: application/json\r\n")
    if status != 200:
        raise SystemExit(f"the host answered {status}: {answer.decode()[:300]}")
    text: str = json.loads(answer)["translations"][0]["text"]
    return text


async def document(path: Path, pid: int, size: int, asks: Sequence[Ask], target: str) -> dict[str, float]:
    """``size`` characters of paragraphs as one streamed request: seconds, and what the host's memory grew by.

    No two paragraphs are alike, so nothing is answered from an earlier one.
    """
    rng, paragraphs, length = random.Random(7), list[str](), 0
    while length < size:
        sentences = [text if text[-1] in ".?!" else text + "." for text, _ in rng.sample(asks, 5)]
        paragraphs.append(f"{len(paragraphs) + 1}: " + " ".join(sentences))
        length += len(paragraphs[-1]) + 2
    text = "\n\n".join(paragraphs)
    body = {"items": [{"text": text, "source": "eng_Latn"}], "target": target, "stream": True}
    before, most, first, came, done = resident(pid), 0, None, "", False
    began = time.perf_counter()
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        httpx.AsyncClient(transport=transport, timeout=600) as client,
        client.stream("POST", "http://host/v1/translate", json=body) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            event = json.loads(line)
            done = event["type"] == "done"
            if event["type"] == "delta":
                first = first or time.perf_counter() - began
                came += event["text"]
                most = max(most, resident(pid))
    if came.count("\n\n") != text.count("\n\n") or first is None or not done:
        raise SystemExit(
            f"{text.count(chr(10) * 2)} breaks between paragraphs went in, {came.count(chr(10) * 2)} came out"
        )
    return {
        "characters": len(text),
        "seconds": round(time.perf_counter() - began, 1),
        "first_delta_s": round(first, 2),
        "resident_before_mb": round(before / 1e6, 1),
        "resident_most_mb": round(most / 1e6, 1),
    }


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def opened(path: Path, asks: Sequence[Ask], rate: float, seed: int) -> dict[str, float]:
    """Requests that arrive at random, ``rate`` a second: waiting times in milliseconds, and how late they were sent."""
    rng = random.Random(seed)
    taken: list[float] = []
    late: list[float] = []
    client = Client(str(path))

    async def caller(ask: Ask) -> None:
        began = time.perf_counter()
        await one(client, ask)
        taken.append((time.perf_counter() - began) * 1000)

    tasks = []
    at = time.perf_counter()
    for ask in asks:
        at += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        late.append((time.perf_counter() - at) * 1000)
        tasks.append(asyncio.create_task(caller(ask)))
    await asyncio.gather(*tasks)
    await client.close()
    taken.sort()
    late.sort()
    return {
        "rate": round(rate, 2),
        "p50_ms": round(taken[len(taken) // 2], 1),
        "p95_ms": round(taken[int(len(taken) * 0.95)], 1),
        "sent_late_p95_ms": round(late[int(len(late) * 0.95)], 2),
    }


def plain(directory: Path, asks: Sequence[Ask], most: int) -> dict[str, Any]:
    """Beam search on the module in a process of its own, one sentence after another: seconds, and the texts."""
    argv = [sys.executable, "-m", "appliance_models.indictrans2.baseline", str(directory), str(most)]
    done = subprocess.run(argv, input=json.dumps(asks), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(path: Path, asks: Sequence[Ask], references: Sequence[str] | None, rounds: int, weights: Path | None,
             few: int, most: int) -> dict[str, Any]:  # fmt: skip
    """Everything about one model."""
    speeds: dict[int, list[float]] = {n: [] for n in AT_ONCE}
    module: list[float] = []
    texts: dict[str, list[str]] = {}
    unloaded: list[float] = []
    asyncio.run(closed(path, asks[:16], 8))  # warm
    for round_ in range(rounds):
        for at_once in AT_ONCE:
            some = asks if at_once > 1 else asks[: len(asks) // 2]
            seconds, taken, out = asyncio.run(closed(path, some, at_once))
            speeds[at_once].append(len(some) / seconds)
            texts[f"at_{at_once}"] = out
            unloaded += taken if at_once == 1 else []
            print(f"  round {round_ + 1}: {at_once} at once: {len(some) / seconds:.1f} sentences/s", flush=True)
        if weights is not None:
            found = plain(weights, asks[:few], most)
            module.append(few / found["seconds"])
            texts["module"] = found["texts"]
            print(f"  round {round_ + 1}: PyTorch module: {module[-1]:.2f} sentences/s", flush=True)
    result: dict[str, Any] = {"sentences": len(asks), "rounds": rounds, "sentences_per_s": {}}
    for at_once, values in speeds.items():
        result["sentences_per_s"][str(at_once)] = spread(values)
    saturated = statistics.median(speeds[64])
    unloaded.sort()
    result["unloaded_p50_ms"] = round(unloaded[len(unloaded) // 2] * 1000, 1)
    for name, share in (("quarter", 0.25), ("half", 0.5)):
        waits = asyncio.run(opened(path, asks, saturated * share, 1))
        waits["p95_times_unloaded_p50"] = round(waits["p95_ms"] / result["unloaded_p50_ms"], 2)
        result[f"at_{name}"] = waits
    result["times_one_at_a_time"] = round(saturated / statistics.median(speeds[1]), 2)
    if module:
        result["module_sentences_per_s"] = spread(module)
        result["times_module"] = round(saturated / statistics.median(module), 2)
    if references is not None:
        result["chrf"] = {
            name: round(sacrebleu.corpus_chrf(out, [list(references[: len(out)])]).score, 2)
            for name, out in texts.items()
        }
    return result


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="parallel data (default: 500 held-out pairs)")
    parser.add_argument("--sentences", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="weights of the module (default: the embedded int8, as float32)")
    parser.add_argument(
        "--official", type=Path, help="directory of the official en-indic vocabularies, for the 200M shape"
    )
    parser.add_argument(
        "--documents", type=int, nargs="*", default=[100_000, 1_000_000], help="sizes in characters, streamed whole"
    )
    options = parser.parse_args()
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    embedded = home / "models" / "indictrans2-embedded"
    asks, references = corpus(options.data, options.sentences)
    results: dict[str, Any] = {
        "bench": "translate",
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
        "words_mean": round(statistics.mean(len(text.split()) for text, _ in asks), 1),
    }  # fmt: skip
    with ExitStack() as stack:
        weights = options.weights or dequantized(embedded / "en-indic", Path(stack.enter_context(scratch_directory())))
        path, pid = stack.enter_context(host(embedded, "indictrans2-embedded"))
        print("embedded model", flush=True)
        results["embedded"] = measured(path, asks, references, options.rounds, weights, 64, 128)
        results["documents"] = [asyncio.run(document(path, pid, size, asks, "hin_Deva")) for size in options.documents]
    if options.official is not None:
        with scratch_directory() as scratch:
            make = ["--make", str(options.official), scratch]
            argv = [sys.executable, "-m", "appliance_models.indictrans2.baseline", *make]
            subprocess.run(argv, check=True)
            print("random weights of the 200M shape", flush=True)
            with host(Path(scratch) / "en-indic", "en-indic", "--most-written", "24") as (path, _):
                results["shape_200m"] = measured(
                    path, asks[:96], None, max(1, options.rounds - 1), Path(scratch) / "weights", 6, 24
                )
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"translate-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1), f"\nwritten to {out}")


def scratch_directory() -> tempfile.TemporaryDirectory[str]:
    """For weights, which are large; gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="bench-translate-")


def dequantized(converted: Path, into: Path) -> Path:
    """The same weights for the module's side: what int8 left of them, in float32."""
    argv = [sys.executable, "-m", "appliance_models.indictrans2.dequantize", str(converted), str(into)]
    subprocess.run(argv, check=True)
    return into


def corpus(data: Path | None, count: int) -> tuple[list[Ask], list[str]]:
    """English sentences that the model never saw with their targets, three words and more, and the references."""
    if data is None:
        lines = HELD_OUT.read_text(encoding="utf-8").splitlines()[1:]
        found = [row for row in (line.split("\t") for line in lines) if len(row[1].split()) >= 3][:count]
        return [(english, tag) for tag, english, _ in found], [indic for _, _, indic in found]
    argv = [sys.executable, "-m", "appliance_models.indictrans2.baseline", "--corpus", str(data), str(count), *TAGS]
    rows = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return [(english, tag) for tag, english, _ in rows], [indic for _, _, indic in rows]


if __name__ == "__main__":
    main()
