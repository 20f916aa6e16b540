"""Jobs on the disk, and what is sent to a listed host."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import openai
import pytest

from appliance.api import webhook
from appliance.api.job_runner import JobRunner
from appliance.api.job_store import Job, JobStore, ended
from appliance.errors import ApplianceError, BadRequest, EngineGone, EngineUnavailable
from appliance.ledger import new_id
from appliance.networks import parse_networks

if TYPE_CHECKING:
    from appliance.api.service import Service

SECRET = "whsec_" + "YXBwbGlhbmNlLXdlYmhvb2stc2VjcmV0LW9mLTMyLWI="


def job(now_ms: int = 1000) -> Job:
    return Job(new_id("job", now_ms), "k", "t", {"model": ["m"]}, 5, now_ms)


def test_a_job_is_whole_or_not_there_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    one = job()
    store.add(one, b"audio")
    assert store.get(one.id) == one
    assert store.audio(one.id) == b"audio"
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "jobs" / one.id).iterdir())
    assert JobStore(tmp_path / "jobs").all() == [one]


@pytest.mark.parametrize("name", ["", "..", "../ledger.db", "job_", "job_" + "0" * 27 + "/", "job_" + "g" * 28])
def test_an_id_that_is_none_leads_nowhere(tmp_path: Path, name: str) -> None:
    assert JobStore(tmp_path).get(name) is None


def test_the_audio_goes_when_the_job_has_ended_and_the_rest_when_it_has_aged(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    first, second = job(1000), job(2000)
    for one in (first, second):
        store.add(one, b"audio")
    store.finish(ended(first, "completed", 200, "text/plain", 5000), b"said")
    assert store.result(first.id) == b"said"
    assert not (tmp_path / "jobs" / first.id / "audio").exists()
    assert store.expire(before_ms=5000) == 0
    assert store.expire(before_ms=5001) == 1
    assert [j.id for j in store.all()] == [second.id]
    store.finish(ended(first, "completed", 200, "text/plain", 9000), b"late")  # removed meanwhile: stays gone
    assert store.get(first.id) is None


def test_a_job_runs_in_one_process_at_a_time(tmp_path: Path) -> None:
    store, other = JobStore(tmp_path / "jobs"), JobStore(tmp_path / "jobs")
    one = job()
    store.add(one, b"audio")
    assert store.claim(one.id)
    assert not other.claim(one.id)
    store.release(one.id)
    assert other.claim(one.id)
    assert not store.claim("job_" + "0" * 28)


def test_half_a_job_is_no_job(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    (tmp_path / ("job_" + "0" * 28)).mkdir()
    assert store.all() == []


class Dying(JobRunner):
    """Its engine dies ``deaths`` times, and is away once after each."""

    def __init__(self, store: JobStore, deaths: int) -> None:
        self.waited: list[float] = []
        self.left: list[ApplianceError] = [
            error for _ in range(deaths) for error in (EngineGone("it broke off"), EngineUnavailable("it starts"))
        ]
        settings = SimpleNamespace(speech=SimpleNamespace(job_deadline_s=3600.0, jobs_at_once=1, job_keep_s=60.0))
        service = SimpleNamespace(
            settings=settings,
            ledger=SimpleNamespace(key=lambda key_id: object()),
            monotonic=lambda: sum(self.waited),
            now_ms=lambda: 5000,
            new_id=lambda: new_id("req", 5000),
        )
        super().__init__(cast("Service", service), store, self._wait)

    async def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    async def _once(self, job: Job, *given: Any) -> tuple[bytes, Job]:
        if self.left:
            raise self.left.pop(0)
        return b"said", ended(job, "completed", 200, "text/plain", 6000)


@pytest.mark.parametrize(("deaths", "status", "waits"), [(0, "completed", 0), (2, "completed", 4), (3, "failed", 4)])
async def test_a_job_outlives_its_engine_twice_but_kills_it_no_third_time(
    tmp_path: Path, deaths: int, status: str, waits: int
) -> None:
    store = JobStore(tmp_path / "jobs")
    one = job()
    store.add(one, b"audio")
    runner = Dying(store, deaths)
    await runner._run(one.id)
    found = store.get(one.id)
    assert found is not None
    assert (found.status, len(runner.waited)) == (status, waits)
    assert store.result(one.id) == b"said" if status == "completed" else b"it broke off" in store.result(one.id)


async def test_the_newest_figure_is_the_one_that_stays(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    one = job()
    store.add(one, b"audio")
    runner = Dying(store, 0)
    for percent in range(1, 60):
        runner._reached(one.id, percent)
        if percent % 7 == 0:
            await asyncio.sleep(0)
    while runner._calls:
        await asyncio.gather(*runner._calls)
    assert store.percent(one) == 59


LISTED = ("https://hooks.example.in", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "url", ["https://hooks.example.in/a?b=c", "https://hooks.example.in:443/", "http://127.0.0.1:9000"]
)
def test_a_listed_host_may_be_told(url: str) -> None:
    assert webhook.check(url, LISTED) == url


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.in/", "https://hooks.example.in.evil.test/", "https://u:p@hooks.example.in/"),
        *("file:///etc/passwd", "https://hooks.example.in:8443/", "http://127.0.0.1:9001", "nonsense", "http://[::1"),
    ],
)
def test_any_other_is_refused(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        webhook.check(url, LISTED)
    assert refused.value.code == "webhook_not_listed"


class Receiver(http.server.BaseHTTPRequestHandler):
    status = 200
    got: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012 - one receiver a test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((dict(self.headers), body))
        self.send_response(self.status)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Any:
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    Receiver.status, Receiver.got = 200, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_openais_client_verifies_the_signature(receiver: str) -> None:
    body = json.dumps({"type": "audio.transcription.job.completed", "data": {"id": "job_1"}}).encode()
    headers = webhook.signed(webhook.key_of(SECRET), "evt_1", int(time.time()), body)
    webhook.deliver(f"{receiver}/hook", headers, body, parse_networks(()))
    ((got, sent),) = Receiver.got
    client = openai.OpenAI(api_key="x", webhook_secret=SECRET)
    client.webhooks.verify_signature(sent, {k.lower(): v for k, v in got.items()})
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(sent + b" ", {k.lower(): v for k, v in got.items()})


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_not_taken_is_not_delivered_and_no_redirect_is_followed(receiver: str, status: int) -> None:
    Receiver.status = status
    with pytest.raises(webhook.NotDelivered, match=str(status)):
        webhook.deliver(receiver, {}, b"{}", parse_networks(()))
    assert len(Receiver.got) == 1


def test_a_listed_name_outside_the_site_is_not_called() -> None:
    with pytest.raises(webhook.NotDelivered, match="outside this site"):
        webhook.deliver("http://192.0.2.1/", {}, b"{}", parse_networks(("10.0.0.0/8",)))


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "whsec_???", ""])
def test_a_secret_that_is_none(secret: str) -> None:
    with pytest.raises(ValueError):
        webhook.key_of(secret)
