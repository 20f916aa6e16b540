"""What part of a pivot chat is translation: customers' sentences into English, a model's answer, and back.

What it is: ``python -m appliance_bench.pivot --key FILE --data FILE`` against a running appliance. Each question is
translated, answered and translated back over HTTP, by one caller and by several at once; the time of each call counts.
What it refuses to be: the pivot of the pipeline, which translates back sentence by sentence while the model still
writes, and so hides part of this from the customer (it still has to be computed). Quality is not looked at.
What it costs: the questions; with the embedded models on two cores under a minute for 40.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

RESULTS = Path(__file__).resolve().parent.parent / "results"
PARTS = ("inward", "chat", "outward")


def questions(path: Path) -> list[str]:
    """The last column of a tab-separated file; # begins a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[-1] for line in lines if line and not line.startswith("#")]


class Caller:
    """One question after another through the three calls."""

    def __init__(self, client: httpx.AsyncClient, language: str, tokens: int) -> None:
        self.client, self.language, self.tokens = client, language, tokens
        self.taken: list[dict[str, float]] = []

    async def ask(self, question: str) -> None:
        """Remembers the seconds of each part, and of the whole."""
        seconds: dict[str, float] = {}
        english = await self._timed(seconds, "inward", self._translated(question, self.language, "en"))
        answer = await self._timed(seconds, "chat", self._answered(english))
        await self._timed(seconds, "outward", self._translated(answer, "en", self.language))
        self.taken.append(seconds)

    async def _timed(self, seconds: dict[str, float], part: str, call: Any) -> Any:
        began = time.perf_counter()
        found = await call
        seconds[part] = time.perf_counter() - began
        return found

    async def _translated(self, text: str, source: str, target: str) -> str:
        body = {"input": text or "…", "source": source, "target": target}
        found = await self._post("/v1/translate", body)
        text_out: str = found["translations"][0]["text"]
        return text_out

    async def _answered(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        body = {"model": "default", "messages": messages, "max_tokens": self.tokens, "temperature": 0}
        found = await self._post("/v1/chat/completions", body)
        answer: str = found["choices"][0]["message"]["content"]
        return answer

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        response = await self.client.post(path, json=body)
        if response.status_code != 200:
            raise SystemExit(f"{path} answered {response.status_code}: {response.text[:300]}")
        return response.json()


def figures(taken: list[dict[str, float]], wall_s: float) -> dict[str, Any]:
    """Medians of each part, and the share of all calls' time that translation took."""
    total = {part: sum(each[part] for each in taken) for part in PARTS}
    whole = sum(total.values())
    return {
        "questions": len(taken),
        "wall_s": round(wall_s, 2),
        **{f"{part}_p50_ms": round(statistics.median(each[part] for each in taken) * 1000, 1) for part in PARTS},
        "translation_share": round((total["inward"] + total["outward"]) / whole, 3),
    }


async def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """At 1 caller and at ``--at-once``."""
    asked = questions(args.data)[: args.questions]
    found = []
    headers = {"authorization": f"Bearer {args.key.read_text().strip()}"}
    async with httpx.AsyncClient(base_url=args.url, headers=headers, timeout=300) as client:
        caller = Caller(client, args.language, args.tokens)
        await caller.ask(asked[0])  # the first one warms
        for at_once in (1, args.at_once):
            caller.taken.clear()
            todo: Iterator[str] = iter(asked)

            async def go(todo: Iterator[str] = todo) -> None:
                for question in todo:
                    await caller.ask(question)

            began = time.perf_counter()
            await asyncio.gather(*(go() for _ in range(at_once)))
            found.append({"at_once": at_once, **figures(caller.taken, time.perf_counter() - began)})
            print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", type=Path, default=Path.home() / ".appliance" / "admin.key")
    parser.add_argument("--data", type=Path, required=True, help="questions, the last column of a tab-separated file")
    parser.add_argument("--language", default="hi")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer at most")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    results = {
        "bench": "pivot",
        "began": datetime.now(UTC).isoformat(),
        "tokens": args.tokens,
        "language": args.language,
        "levels": asyncio.run(measure(args)),
    }
    path = args.out / f"pivot-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
