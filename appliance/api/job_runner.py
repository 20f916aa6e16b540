"""Transcription jobs, run: one after another in the gateway, through the same pipeline as every request.

What it is: a queue in the order of arrival with ``speech.jobs_at_once`` places. What a crash or a restart left
unfinished is run again, from the upload that is still on the disk. A job is an ordinary request to the ledger, admitted
when it begins, on the key it came with; a key that was revoked meanwhile runs nothing.
What it refuses to be: a scheduler of engines. The speech host holds a long file to a few windows at a time by itself,
so that interactive requests pass between them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from appliance.api import webhook
from appliance.api.job_store import ENDED, Job, JobStore, ended
from appliance.api.multipart import Form
from appliance.api.params import TranscriptionParams, parse_transcription
from appliance.api.speech import SpeechRoute
from appliance.api.subtitles import render
from appliance.errors import ApplianceError, EngineGone, EngineUnavailable, Unauthorized
from appliance.networks import parse_networks
from appliance.types import Admitted, Attempt, Endpoint, Kept, Key, Turn

if TYPE_CHECKING:
    from appliance.api.service import Service

_ENDPOINT: Endpoint = "audio.transcriptions"
_RETRY_AFTER_S = (1.0, 5.0, 25.0)
_AGAIN_S, _LATEST_AGAIN_S = 5.0, 300.0
_MOST_DEATHS = 2
_log = logging.getLogger("appliance.jobs")


class _Sink:
    """Keeps the answer instead of sending it."""

    def __init__(self, params: TranscriptionParams) -> None:
        self._params = params
        self.body = b""
        self.content_type = ""

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        """Nothing is sent."""

    async def data(self, body: bytes) -> None:
        """Whole answers have no pieces."""

    def render(self, body: bytes) -> bytes:
        """The transcript in the caller's format."""
        self.content_type, text = render(msgspec.json.decode(body), self._params)
        return text

    def kept(self, body: bytes) -> Kept | None:
        """Jobs have no Idempotency-Key."""
        return None

    async def end(self, body: bytes) -> None:
        """The outcome is durable."""
        self.body = body

    async def replay(self, kept: Kept) -> None:
        """Never."""


class JobRunner:
    """Runs what is added, and what a predecessor left. ``sleep`` is asyncio's, or a test's."""

    def __init__(
        self, service: Service, store: JobStore, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._service = service
        self._store = store
        self._sleep = sleep
        self._queue: deque[str] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._percent: dict[str, int] = {}  # of jobs whose figure is being written
        self._closing = False

    async def start(self) -> None:
        """Take up what is unfinished."""
        left = await asyncio.to_thread(self._store.all)
        self._queue.extend(job.id for job in left if job.status not in ENDED)
        for job in left:
            if job.webhook_state == "pending":
                self._call(job)
        self._next()

    async def close(self) -> None:
        """Stop; what runs begins again with the next start."""
        self._closing = True
        tasks = [*self._running.values(), *self._calls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, job_id: str) -> None:
        """A new job."""
        self._queue.append(job_id)
        self._next()

    async def cancel(self, job: Job) -> Job:
        """Stop it where it has not ended; the job as it is then."""
        with suppress(ValueError):
            self._queue.remove(job.id)
        task = self._running.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        now = await asyncio.to_thread(self._store.get, job.id)
        if now is None or now.status in ENDED:
            return now or job
        stopped = ended(now, "cancelled", 0, "", self._service.now_ms())
        await asyncio.to_thread(self._store.finish, stopped, b"")
        return stopped

    def _next(self) -> None:
        while not self._closing and self._queue and len(self._running) < self._service.settings.speech.jobs_at_once:
            job_id = self._queue.popleft()
            task = asyncio.create_task(self._run(job_id))
            self._running[job_id] = task
            task.add_done_callback(lambda _, job_id=job_id: self._done(job_id))  # type: ignore[misc]

    def _done(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._store.release(job_id)
        self._next()

    async def _run(self, job_id: str) -> None:
        job = await asyncio.to_thread(self._store.get, job_id)
        if job is None or job.status in ENDED or not await asyncio.to_thread(self._store.claim, job_id):
            return
        keep_ms = int(self._service.settings.speech.job_keep_s * 1000)
        await asyncio.to_thread(self._store.expire, self._service.now_ms() - keep_ms)
        request_id = self._service.new_id()
        job = replace(job, status="running", started_ms=self._service.now_ms(), request_id=request_id)
        await asyncio.to_thread(self._store.put, job)
        try:
            result, job = await self._transcribed(job, request_id)
        except ApplianceError as e:
            result, job = e.envelope(), ended(job, "failed", e.status, "application/json", self._service.now_ms())
        except Exception:
            _log.exception("job %s failed", job_id)
            broken = ApplianceError("the job failed inside the appliance; its log says why")
            result = broken.envelope()
            job = ended(job, "failed", broken.status, "application/json", self._service.now_ms())
        await asyncio.to_thread(self._store.finish, job, result)
        if job.webhook is not None:
            job = replace(job, webhook_state="pending")
            await asyncio.to_thread(self._store.put, job)
            self._call(job)

    async def _transcribed(self, job: Job, request_id: str) -> tuple[bytes, Job]:
        """Through the pipeline; an engine that is not there yet is waited for as long as the job may take.

        One that dies with the job in it is tried again, but not for ever: the recording may be what kills it.
        """
        audio = await asyncio.to_thread(self._store.audio, job.id)
        key = self._service.ledger.key(job.key_id)
        if key is None:
            raise Unauthorized("the key this job came with was revoked before it began")
        deadline = self._service.monotonic() + self._service.settings.speech.job_deadline_s
        params = parse_transcription(Form(job.fields, audio))
        wait_s, deaths = _AGAIN_S, 0
        while True:
            try:
                return await self._once(job, key, params, audio, request_id)
            except (EngineUnavailable, EngineGone) as e:
                deaths += isinstance(e, EngineGone)
                if deaths > _MOST_DEATHS or self._service.monotonic() + wait_s > deadline:
                    raise
                _log.info("job %s waits %g s: %s", job.id, wait_s, e.message)
                request_id = self._service.new_id()
            await self._sleep(wait_s)
            wait_s = min(wait_s * 2, _LATEST_AGAIN_S)

    async def _once(
        self, job: Job, key: Key, params: TranscriptionParams, audio: bytes, request_id: str
    ) -> tuple[bytes, Job]:
        service = self._service
        model = service.model_for(params.model, "transcribe", key, _ENDPOINT)
        route = SpeechRoute(
            service,
            key,
            params.model,
            model,
            params,
            service.settings.speech.job_deadline_s,
            rank="bulk",
            progress=lambda share: self._reached(job.id, int(share * 100)),
        )
        work = route.work(audio)
        request = service.job_request(request_id, key, _ENDPOINT, params.model)
        sink = _Sink(params)
        nusd = service.speech_ceiling(len(audio), {work.model, model, *route.models}, request.at_ms)
        await service.run(service.admission(request, Turn(job.conversation_id), nusd, 0, None), work, sink)
        done = ended(job, "completed", 200, sink.content_type, service.now_ms())
        return sink.body, replace(done, request_id=request_id)

    def _reached(self, job_id: str, percent: int) -> None:
        """Written beside the job, off the loop; one thread at a time for a job, or an older figure might come last."""
        writing = job_id in self._percent
        self._percent[job_id] = percent
        if writing:
            return
        task = asyncio.create_task(self._write_percent(job_id))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _write_percent(self, job_id: str) -> None:
        written = -1
        while (percent := self._percent[job_id]) != written:
            await asyncio.to_thread(self._store.reached, job_id, percent)
            written = percent
        del self._percent[job_id]

    def _call(self, job: Job) -> None:
        task = asyncio.create_task(self._told(job))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _told(self, job: Job) -> None:
        """Tell the webhook, trying again three times."""
        settings = self._service.settings
        body = msgspec.json.encode(
            {
                "object": "event",
                "id": f"evt_{job.id}",
                "type": f"audio.transcription.job.{job.status}",
                "created_at": (job.ended_ms or 0) // 1000,
                "data": {"id": job.id},
            }
        )
        state = "failed"
        try:
            key = webhook.key_of(Path(settings.speech.webhook_secret_file or "").expanduser().read_text())
            webhook.check(job.webhook or "", settings.speech.webhook_hosts)
        except (OSError, ValueError, ApplianceError) as e:
            _log.warning("job %s: its webhook cannot be called: %s", job.id, e)
        else:
            networks = parse_networks(settings.site.networks)
            for wait_s in (0.0, *_RETRY_AFTER_S):
                await self._sleep(wait_s)
                headers = webhook.signed(key, f"evt_{job.id}", self._service.now_ms() // 1000, body)
                try:
                    await asyncio.to_thread(webhook.deliver, job.webhook or "", headers, body, networks)
                    state = "delivered"
                    break
                except webhook.NotDelivered as e:
                    _log.warning("job %s: its webhook was not delivered: %s", job.id, e)
        await asyncio.to_thread(self._store.put, replace(job, webhook_state=state))
