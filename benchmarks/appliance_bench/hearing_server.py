"""Another server as the other side of ``make bench-hearing``: Speaches, or whoever answers OpenAI's route.

What it is: clips to ``POST {url}/audio/transcriptions``, several at a time, as ``--against URL`` names it. Start it by
hand, in an environment of its own, on the same cores and with the same model: the result keeps its URL and model.
What it refuses to be: a manager of servers. Its CPU time is not known here, so ``cpu_s`` is 0.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx

from appliance_bench.speech_corpus import Clip
from appliance_bench.speech_sides import Run, first_error


class Server:
    """``url`` ends in ``/v1``. ``concurrency`` clips at a time."""

    def __init__(self, url: str, model: str, key: str, concurrency: int) -> None:
        self._url, self._model, self._concurrency = url.rstrip("/"), model, concurrency
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on."""

    def transcribe(self, clips: Sequence[Clip], language: str) -> Run:
        """All ``clips``; when one is answered, the next is sent. Raises RuntimeError."""
        return first_error(lambda: asyncio.run(self._transcribe(clips, language)))

    async def _transcribe(self, clips: Sequence[Clip], language: str) -> Run:
        texts: dict[str, str] = {}
        todo = iter(clips)
        limits = httpx.Limits(max_connections=self._concurrency)
        async with httpx.AsyncClient(headers=self._headers, timeout=600, limits=limits) as client:

            async def caller() -> None:
                for clip in todo:
                    form = {"model": self._model, "language": language, "response_format": "json"}
                    file = {"file": (clip.path.name, clip.path.read_bytes(), "audio/wav")}
                    answer = await client.post(f"{self._url}/audio/transcriptions", data=form, files=file)
                    if answer.status_code != 200:
                        raise RuntimeError(
                            f"{clip.name}: {self._url} answered {answer.status_code} {answer.text[:300]}"
                        )
                    texts[clip.name] = answer.json()["text"]

            begun = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(caller())
            return Run(texts, time.perf_counter() - begun)
