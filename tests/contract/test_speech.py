"""Routing inside speech, over a real gateway: which engine hears an upload, what it is told, what the ledger says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from contract.speech_hosts import SETTINGS, SpeechHost, speech_hosts
from contract.stack import Stack, free_port
from support import wait_until

from appliance.ledger import core
from appliance.ledger.stores import keys, tenants
from appliance.ledger.stores.changes import Actor

AUDIO = bytes(32000)
HOOK = free_port()
SECRET = "whsec_" + "YXBwbGlhbmNlLXdlYmhvb2stc2VjcmV0LW9mLTMyLWI="
ODIA, HINDI = "ମୋ ନାମ ରମେଶ", "मेरा ऑर्डर कहाँ है"


class Speech:
    def __init__(self, stack: Stack, whisper: SpeechHost, conformer: SpeechHost) -> None:
        self.stack, self.whisper, self.conformer = stack, whisper, conformer

    def post(self, path: str = "transcriptions", model: str = "whisper-1", **fields: Any) -> httpx.Response:
        form = {"model": model, **fields}
        return self.stack.client.post(f"/v1/audio/{path}", data=form, files={"file": ("a.wav", AUDIO)})

    def calls(self, answer: httpx.Response) -> list[tuple[int, str, str]]:
        """(attempt, engine, status) of the ledger."""
        _, _, calls = self.stack.entry(answer.headers["x-request-id"])
        return [(c["attempt_ordinal"], c["engine"], c["status"]) for c in calls]


def without_the_fake(toml: Path) -> None:
    """The fake engine of the stack transcribes too: out of the way, so that those of a test are left to choose from."""
    fake = '[engines.speech]\nkind = "fake"\ntask = "transcribe"'
    toml.write_text(toml.read_text().replace(fake, fake.replace('"transcribe"', '"chat"')))


@pytest.fixture(scope="module")
def running() -> Iterator[Speech]:
    stack = Stack(SETTINGS.replace("whisper-1", "x"))
    toml = stack.home / "appliance.toml"
    toml.write_text(toml.read_text().replace('whisper-1 = "fake-whisper"', 'whisper-1 = "whisper-tiny"'))
    without_the_fake(toml)
    with speech_hosts(stack.home) as (whisper, conformer):
        secret = stack.home / "webhook.secret"
        secret.write_text(SECRET)
        with toml.open("a") as file:
            file.write(f'\n[speech]\nwebhook_hosts = ["http://127.0.0.1:{HOOK}"]\nwebhook_secret_file = "{secret}"\n')
        stack.gateway.kill()
        stack.gateway.wait()
        stack.start_gateway()
        wait_until(lambda: stack.state("whisper") and stack.state("conformer"), 10, "the gateway sees its engines")
        yield Speech(stack, whisper, conformer)
    stack.stop()


@pytest.fixture
def speech(running: Speech) -> Speech:
    running.whisper.forget()
    running.conformer.forget()
    return running


def test_a_given_language_goes_to_the_engine_that_is_best_at_it(speech: Speech) -> None:
    speech.conformer.text = ODIA
    answer = speech.post(language="od-IN")
    assert answer.json()["text"] == ODIA
    assert "language" not in answer.json()  # it was given
    assert [(path, p["language"]) for path, p in speech.conformer.calls] == [("/v1/transcribe", "or")]
    assert not speech.whisper.calls
    assert speech.post(language="en").json()["text"] == "hello there"
    assert speech.whisper.calls[0][1]["language"] == "en"


def test_a_models_own_name_pins_it(speech: Speech) -> None:
    speech.whisper.text = HINDI
    assert speech.post(model="whisper-tiny", language="hi").json()["text"] == HINDI
    refused = speech.post(model="whisper-tiny", language="or").json()["error"]
    assert refused["code"] == "language_not_installed"
    assert "name conformer-tiny as 'model'" in refused["message"]
    assert [p["language"] for _, p in speech.whisper.calls] == ["hi"]


@pytest.mark.parametrize("language", ["", "auto", "unknown"])
def test_a_language_nobody_gave_is_detected_and_its_confidence_is_in_the_answer(speech: Speech, language: str) -> None:
    speech.whisper.language, speech.conformer.text = "hi", HINDI
    answer = speech.post(language=language)
    body = answer.json()
    assert (body["text"], body["language"], body["language_probability"]) == (HINDI, "hi", 0.9)
    assert [path for path, _ in speech.whisper.calls] == ["/v1/detect"]
    assert speech.conformer.calls[0][1]["language"] == "hi"
    assert speech.calls(answer) == [(0, "whisper", "ok"), (0, "conformer", "ok")]
    verbose = speech.post(response_format="verbose_json").json()
    assert (verbose["language"], verbose["language_probability"]) == ("hindi", 0.9)


def test_silence_stays_empty(speech: Speech) -> None:
    speech.whisper.language, speech.whisper.text = None, ""
    body = speech.post().json()
    assert (body["text"], body["language"]) == ("", None)
    assert not speech.conformer.calls


def test_hints_narrow_the_detection(speech: Speech) -> None:
    speech.whisper.language, speech.conformer.text = "hi", HINDI
    assert speech.post(languages=["hi", "ta"]).json()["language"] == "hi"
    assert speech.whisper.calls[0][1]["languages"] == ["hi", "ta"]
    speech.conformer.text = ODIA
    assert speech.post(languages="or").json()["text"] == ODIA  # one hint is the language
    refused = speech.post(languages=["hi", "mai"]).json()["error"]
    assert (refused["param"], "mai" in refused["message"]) == ("languages", True)


def test_a_wrong_script_is_tried_once_on_the_other_engine(speech: Speech) -> None:
    speech.conformer.text, speech.whisper.text = "mera order kahan hai", HINDI
    answer = speech.post(language="hi")
    assert answer.json()["text"] == HINDI
    assert "warnings" not in answer.json()
    assert answer.headers["x-appliance-reason"] == "wrong_language"
    assert speech.calls(answer) == [(0, "conformer", "ok"), (1, "whisper", "ok")]


@pytest.mark.parametrize("other", ["as wrong", "broken"])
def test_a_script_that_stays_wrong_is_reported(speech: Speech, other: str) -> None:
    speech.conformer.text = "mera order kahan hai"
    speech.whisper.text, speech.whisper.status = "mera order", 500 if other == "broken" else 200
    answer = speech.post(language="hi", response_format="verbose_json")
    assert answer.status_code == 200
    assert [w["code"] for w in answer.json()["warnings"]] == ["wrong_script"]
    assert answer.json()["text"] == ("mera order kahan hai" if other == "broken" else "mera order")
    assert len(speech.whisper.calls) == 1


def test_a_stream_is_routed_too(speech: Speech) -> None:
    speech.whisper.language, speech.conformer.text = "hi", HINDI
    answer = speech.post(stream="true")
    assert HINDI in answer.text
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert (last["languages"], last["language_probability"]) == ([{"code": "hi"}], 0.9)
    assert '"languages"' not in speech.post(stream="true", language="hi").text
    del speech.whisper.calls[1:]
    assert [p["stream"] for _, p in speech.whisper.calls] == [False]


def test_an_engine_that_is_away_is_stood_in_for_where_another_hears_the_language(speech: Speech) -> None:
    speech.conformer.say_ready("starting")
    try:
        wait_until(lambda: not speech.stack.state("conformer"), 10, "the gateway sees it")
        speech.whisper.text = HINDI
        assert speech.post(language="hi").json()["text"] == HINDI
        assert speech.post(language="or").status_code == 503
    finally:
        speech.conformer.say_ready()
        wait_until(lambda: speech.stack.state("conformer"), 10, "the gateway sees it again")


def test_what_is_spoken_can_be_asked_alone(speech: Speech) -> None:
    speech.whisper.language = "hi"
    answer = speech.post("detect-language")
    assert answer.json() == {
        "language": "hi",
        "tag": "hin_Deva",
        "confidence": 0.9,
        "languages": [{"language": "hi", "confidence": 0.9}, {"language": "ne", "confidence": 0.05}],
        "usage": {"type": "duration", "seconds": 1.0},
    }
    request, _, calls = speech.stack.entry(answer.headers["x-request-id"])
    assert request["endpoint"] == "audio.detect-language"
    assert [c["engine"] for c in calls] == ["whisper"]
    refused = speech.post("detect-language", model="conformer-tiny").json()["error"]
    assert refused["code"] == "language_required"


def test_which_languages_are_heard_can_be_asked_before_anybody_speaks(speech: Speech) -> None:
    def ask(**query: str) -> dict[str, Any]:
        return speech.stack.client.get("/v1/audio/languages", params={"model": "whisper-1", **query}).json()

    models = {one["language"]: one["models"] for one in ask()["data"]}
    assert len(models) > 100
    assert models["hi"] == ["conformer-tiny", "whisper-tiny"]
    assert "yue" not in models  # Whisper knows it from large-v3 on
    assert models["sat"] == ["conformer-tiny"] and models["fr"] == ["whisper-tiny"]
    assert ask(language="od-IN")["data"] == [{"language": "or", "name": "Odia", "models": ["conformer-tiny"]}]
    unknown = ask(language="tlh")["error"]
    assert (unknown["code"], unknown["param"]) == ("unknown_language", "language")
    assert "accepted here: as, bn, brx," in unknown["message"] and unknown["message"].endswith("or auto")
    alone = ask(model="whisper-tiny", language="brx")["error"]
    assert alone["code"] == "language_not_installed" and "name conformer-tiny as 'model'" in alone["message"]
    assert "accepted here: as, bn, gu," in alone["message"]
    assert ask(language="auto")["data"] == ask()["data"]
    assert ask(file="x")["error"]["code"] == "unknown_parameter"
    assert ask(language="?!")["error"]["param"] == "language"
    assert not speech.whisper.calls and not speech.conformer.calls


def test_an_address_in_place_of_a_file_is_named_as_such(speech: Speech) -> None:
    refused = speech.stack.client.post(
        "/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": (None, b"HTTPS://example.test/a.mp3")}
    )
    assert (refused.status_code, "fetches nothing" in refused.json()["error"]["message"]) == (400, True)
    assert not speech.whisper.calls


def test_live_audio_goes_first_and_only_the_live_process_can_say_so(speech: Speech) -> None:
    token = speech.stack.home / "run" / "live.token"
    token.write_text("0123456789abcdef")
    try:
        for given in ("0123456789abcdef", "fedcba9876543210"):
            speech.stack.client.post(
                "/v1/audio/transcriptions",
                data={"model": "whisper-1", "language": "en"},
                files={"file": ("a.wav", AUDIO)},
                headers={"x-appliance-live": given},
            ).raise_for_status()
    finally:
        token.unlink()
    assert [p.get("rank", "interactive") for _, p in speech.whisper.calls] == ["live", "interactive"]


def test_keywords_reach_the_engine(speech: Speech) -> None:
    assert speech.post(language="en", **{"keywords[]": ["UPI", "Aadhaar"]}).status_code == 200
    assert speech.whisper.calls[0][1]["hotwords"] == ["UPI", "Aadhaar"]


def test_modes_and_a_stereo_call_reach_the_engine_and_the_answer(speech: Speech) -> None:
    speech.conformer.text = "मेरी फ़ाइल"
    latin = speech.post(language="hi", mode="translit").json()["text"]
    assert latin.isascii() and latin.lower().startswith("mer")
    assert speech.post(language="hi", mode="codemix").json()["text"] == "मेरी file"
    assert speech.post(language="hi", mode="verbatim").json()["text"] == "मेरी फ़ाइल"
    assert [p.get("verbatim", False) for _, p in speech.conformer.calls] == [False, False, True]
    call = speech.post(language="hi", response_format="diarized_json", **{"known_speaker_names[]": ["agent", "caller"]})
    assert speech.conformer.calls[-1][1]["split"] is True
    assert [segment["text"] for segment in call.json()["segments"]] == ["मेरी फ़ाइल"]
    refused = speech.post(language="hi", mode="sing").json()["error"]
    assert refused["param"] == "mode" and "codemix" in refused["message"]


WITHOUT_TOKENS = ("brx", "doi", "kok", "ks", "mai", "mni", "or", "sat")


def test_what_whisper_has_no_token_for_is_refused_with_the_command_and_whisper_is_not_asked() -> None:
    stack = Stack('[engines.whisper]\nkind = "whisper"\ntask = "transcribe"\nmodel = "whisper-tiny"\n')
    try:
        with speech_hosts(stack.home) as (whisper, _):
            without_the_fake(stack.home / "appliance.toml")
            stack.gateway.kill()
            stack.gateway.wait()
            stack.start_gateway()
            wait_until(lambda: stack.state("whisper"), 10, "the gateway sees its engine")
            alone = Speech(stack, whisper, whisper)
            for code in WITHOUT_TOKENS:
                answer = alone.post(model="whisper-tiny", language=code)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (400, "language_not_installed"), code
                assert "`appliance models pull indic-conformer-600m-multilingual`" in error["message"]
            assert not whisper.calls
            assert alone.post(model="whisper-tiny", language="hi").status_code == 200
    finally:
        stack.stop()


# jobs


@contextmanager
def core_tenant(stack: Stack, name: str) -> Iterator[str]:
    """The secret of a key of another tenant."""
    engine = core.engine(stack.home / "ledger.db")
    tenants.create(engine, Actor("test"), name)
    secret = keys.create(engine, Actor("test"), "k", tenant=name).secret
    engine.dispose()
    headers = {"authorization": f"Bearer {secret}"}
    wait_until(
        lambda: stack.client.get("/v1/models", headers=headers).status_code == 200, 5, "the gateway knows the key"
    )
    yield secret


def job_of(speech: Speech, **fields: Any) -> httpx.Response:
    return speech.post("transcriptions/jobs", **fields)


def until_ended(speech: Speech, url: str) -> dict[str, Any]:
    def status() -> dict[str, Any]:
        found: dict[str, Any] = speech.stack.client.get(url).json()
        return found

    wait_until(lambda: status()["status"] not in ("queued", "running"), 15, "the job ends")
    return status()


def test_a_job_is_accepted_run_and_fetched(speech: Speech) -> None:
    speech.conformer.text = HINDI
    accepted = job_of(speech, language="hi", response_format="srt")
    assert accepted.status_code == 202
    assert accepted.headers["location"] == accepted.json()["status_url"]
    done = until_ended(speech, accepted.json()["status_url"])
    assert done["status"] == "completed"
    result = speech.stack.client.get(done["result_url"])
    assert result.headers["content-type"].startswith("text/plain")
    assert HINDI in result.text
    request, _, calls = speech.stack.entry(done["request_id"])
    assert (request["status"], [c["engine"] for c in calls]) == ("ok", ["conformer"])
    assert speech.conformer.calls[0][1]["rank"] == "bulk"
    assert speech.conformer.calls[0][1]["deadline_s"] == 6 * 3600
    assert not list((speech.stack.home / "jobs").glob("*/audio"))
    assert speech.stack.client.delete(done["status_url"]).json()["deleted"] is True
    assert speech.stack.client.get(done["status_url"]).status_code == 404


def test_a_job_says_how_far_it_is(speech: Speech) -> None:
    speech.conformer.hold.set()
    try:
        url = job_of(speech, language="hi").json()["status_url"]
        wait_until(lambda: speech.stack.client.get(url).json()["progress_percent"] == 42, 15, "the job is at 42 %")
        assert speech.stack.client.get(url).json()["status"] == "running"
    finally:
        speech.conformer.hold.clear()
    assert until_ended(speech, url)["progress_percent"] == 100


def test_a_job_that_fails_keeps_its_error(speech: Speech) -> None:
    speech.conformer.status = 500
    done = until_ended(speech, job_of(speech, language="or").json()["status_url"])
    assert done["status"] == "failed"
    result = speech.stack.client.get(done["result_url"])
    assert (result.status_code, result.json()["error"]["code"]) == (502, "engine_failed")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": "true"}, "stream"),
        ({"language": "klingon"}, "language"),
        ({"webhook_url": "https://elsewhere.test/"}, "webhook_url"),
        ({"url": "https://elsewhere.test/a.mp3"}, "url"),
    ],
)
def test_what_cannot_become_a_job_is_refused_at_once(speech: Speech, fields: dict[str, str], param: str) -> None:
    refused = job_of(speech, **fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_nobody_else_sees_a_job(speech: Speech) -> None:
    done = until_ended(speech, job_of(speech, language="en").json()["status_url"])
    with core_tenant(speech.stack, "other") as other:
        for method, path in (("GET", done["status_url"]), ("GET", done["result_url"]), ("DELETE", done["status_url"])):
            answer = speech.stack.client.request(method, path, headers={"authorization": f"Bearer {other}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
    assert speech.stack.client.get(done["status_url"]).json()["status"] == "completed"


def test_a_job_outlives_the_gateway(speech: Speech) -> None:
    """Killed while it waits for an engine that is away."""
    speech.conformer.say_ready("starting")
    wait_until(lambda: not speech.stack.state("conformer"), 10, "the gateway sees it")
    accepted = job_of(speech, language="or").json()
    wait_until(
        lambda: speech.stack.client.get(accepted["status_url"]).json()["status"] == "running", 10, "it has begun"
    )
    speech.stack.gateway.kill()
    speech.stack.gateway.wait()
    speech.conformer.text = ODIA
    speech.conformer.say_ready()
    speech.stack.start_gateway()
    done = until_ended(speech, accepted["status_url"])
    assert speech.stack.client.get(done["result_url"]).json()["text"] == ODIA


def test_a_listed_host_is_told_signed(speech: Speech) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", HOOK), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        accepted = job_of(speech, language="en", webhook_url=f"http://127.0.0.1:{HOOK}/hook").json()
        wait_until(lambda: got, 15, "the receiver was told")
        client = speech.stack.client
        wait_until(lambda: client.get(accepted["status_url"]).json()["webhook"] == "delivered", 5, "it is noted")
    finally:
        server.shutdown()
        server.server_close()
    headers, body = got[0]
    event = json.loads(body)
    assert (event["type"], event["data"]) == ("audio.transcription.job.completed", {"id": accepted["id"]})
    assert b"hello" not in body
    openai.OpenAI(api_key="x", webhook_secret=SECRET).webhooks.verify_signature(
        body, {name.lower(): value for name, value in headers.items()}
    )
