"""``/v1/audio/transcriptions/jobs``: long files, answered later.

What it is: the form of ``/v1/audio/transcriptions`` answered with 202 once it is on the disk; then its status, its
result in the format that was asked for, and its end. A job belongs to the tenant of the key it came with; for others
there is none.
What it refuses to be: a fetcher. Audio comes in the request; a URL in its place is refused.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from appliance.api import webhook
from appliance.api.audio import read_job_form
from appliance.api.http import Exchange
from appliance.api.job_runner import JobRunner
from appliance.api.job_store import ENDED, Job, JobStore
from appliance.api.service import Service
from appliance.api.turns import turn_of
from appliance.errors import BadRequest, Conflict, NotFound
from appliance.ledger import new_id

PATH = "/v1/audio/transcriptions/jobs"


class JobRoutes:
    """The handlers over ``service``, and the runner behind them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = JobStore(service.settings.jobs_dir)
        self.runner = JobRunner(service, self._store)

    async def create(self, exchange: Exchange) -> None:
        """202 with the job. Raises ApplianceError."""
        service = self._service
        service.authenticate(exchange)
        with service.slot():
            form, upload = await read_job_form(service, exchange)
            target = _one(form.fields.pop("webhook_url", None))
            if upload.params.stream:
                raise BadRequest("a job does not stream; leave 'stream' out", param="stream")
            if target is not None:
                webhook.check(target, service.settings.speech.webhook_hosts)
            upload.route.work(b"")  # what nobody here can hear is refused now, not later
            now_ms = service.now_ms()
            job = Job(
                id=new_id("job", now_ms),
                key_id=upload.key.id,
                tenant_id=upload.key.tenant.id,
                fields=form.fields,
                audio_bytes=len(form.file),
                created_ms=now_ms,
                conversation_id=turn_of(exchange, upload.key).conversation_id,
                webhook=target,
            )
            await asyncio.to_thread(self._store.add, job, form.file)
        self.runner.add(job.id)
        await exchange.respond(202, msgspec.json.encode(shown(job, 0)), headers={"location": f"{PATH}/{job.id}"})

    async def get(self, exchange: Exchange) -> None:
        """How it stands. Raises NotFound."""
        job = await self._job(exchange)
        percent = await asyncio.to_thread(self._store.percent, job)
        await exchange.respond(200, msgspec.json.encode(shown(job, percent)))

    async def result(self, exchange: Exchange) -> None:
        """What came of it, as the transcription route would have answered. Raises NotFound, Conflict."""
        job = await self._job(exchange)
        if job.status not in ENDED:
            raise Conflict(
                f"the job is {job.status}; ask again later", code="job_not_finished", headers={"retry-after": "5"}
            )
        if job.status == "cancelled":
            raise Conflict("the job was cancelled and has no result", code="job_cancelled")
        body = await asyncio.to_thread(self._store.result, job.id)
        await exchange.respond(job.http_status, body, job.content_type.encode())

    async def delete(self, exchange: Exchange) -> None:
        """Stop it, and remove everything of it. Raises NotFound."""
        job = await self._job(exchange)
        stopped = await self.runner.cancel(job)
        percent = await asyncio.to_thread(self._store.percent, stopped)
        await asyncio.to_thread(self._store.remove, job.id)
        await exchange.respond(200, msgspec.json.encode({**shown(stopped, percent), "deleted": True}))

    async def _job(self, exchange: Exchange) -> Job:
        key = self._service.authenticate(exchange)
        job_id = exchange.scope["path_params"]["id"]
        job = await asyncio.to_thread(self._store.get, job_id)
        if job is None or job.tenant_id != key.tenant.id:
            raise NotFound(f"there is no transcription job {job_id[:64]!r}", code="job_not_found")
        return job


def shown(job: Job, percent: int) -> dict[str, Any]:
    """What its caller sees. Times in Unix seconds."""
    return {
        "id": job.id,
        "object": "audio.transcription.job",
        "status": job.status,
        "progress_percent": percent,
        "created_at": job.created_ms // 1000,
        "started_at": None if job.started_ms is None else job.started_ms // 1000,
        "ended_at": None if job.ended_ms is None else job.ended_ms // 1000,
        "bytes": job.audio_bytes,
        "request_id": job.request_id,
        "status_url": f"{PATH}/{job.id}",
        "result_url": f"{PATH}/{job.id}/result",
        "webhook": job.webhook_state or None,
    }


def _one(values: list[str] | None) -> str | None:
    given = [value for value in values or () if value]
    if len(given) > 1:
        raise BadRequest("'webhook_url' is given more than once; send it once", param="webhook_url")
    return given[0] if given else None
