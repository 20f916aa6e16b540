"""/v1/translate and learned transliteration: a real gateway over a real host with the embedded model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
from contract.stack import ROOT, Stack, _environment
from contract.test_texts import rows
from support import wait_until

from appliance.api.openapi_shapes import Translations

EMBEDDED = ROOT / "models/appliance_models/embedded/indictrans2-embedded"


def start_host(stack: Stack, path: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "appliance.hosts.translate", "--socket", str(path)]
    argv += ["--model", f"indictrans2-embedded={EMBEDDED}", "--threads", "1", "--beams", "2"]
    environ = _environment(stack.home, PYTHONPATH=f"{ROOT}:{ROOT / 'models'}")
    with (stack.home / "translate.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=stack.home, env=environ)
    wait_until(path.exists, 60, "the translation host listens")
    return process


def say_ready(stack: Stack, path: Path, phase: str = "ready") -> None:
    state = {
        "name": "translate", "kind": "translate", "task": "translate", "phase": phase, "address": str(path),
        "models": ["indictrans2-embedded"], "detail": "", "since_unix_s": 0.0, "supervisor_pid": os.getpid(),
        "engine_pid": os.getpid(), "context_tokens": 0,
    }  # fmt: skip
    (stack.home / "run/translate.json").write_text(json.dumps(state))


@pytest.fixture(scope="module")
def translating() -> Iterator[Stack]:
    more = '\n[engines.translate]\nkind = "translate"\ntask = "translate"\nmodel = "indictrans2-embedded"\n'
    stack = Stack(more, aliases='translate = "indictrans2-embedded"\n')
    path = stack.home / "run/translate.sock"
    process = start_host(stack, path)
    try:
        say_ready(stack, path)
        wait_until(lambda: stack.state("translate"), 10, "the gateway sees the translation host")
        yield stack
    finally:
        process.kill()
        process.wait()
        stack.stop()


def post(stack: Stack, path: str, **body: Any) -> httpx.Response:
    return stack.client.post(path, json=body)


def answers(stack: Stack) -> bool:
    return post(stack, "/v1/translate", input="Open", target="hi").status_code == 200


def test_texts_are_translated_both_ways_and_through_english(translating: Stack) -> None:
    response = post(translating, "/v1/translate", input="Open file", target="Hindi")
    assert response.status_code == 200, response.text
    answer = response.json()
    msgspec.convert(answer, Translations)
    (done,) = answer["translations"]
    assert done["text"] == "फ़ाइल खोलें" and done["source"] == "en" and done["via"] == ["indictrans2-embedded"]
    assert 0.5 < done["confidence"] <= 1.0
    back = post(translating, "/v1/translate", input=["फ़ाइल खोलें", "12.5"], target="en").json()
    assert back["translations"][0]["text"].lower() == "open file"
    assert back["translations"][1] == {"text": "12.5", "source": None, "confidence": None, "via": []}
    through = post(translating, "/v1/translate", input="फ़ाइल खोलें", source="hi", target="tam_Taml").json()
    assert through["translations"][0]["text"] == "கோப்பைத் திற"
    assert through["translations"][0]["via"] == ["indictrans2-embedded"] * 2


@pytest.mark.parametrize(
    "tag", ["asm_Beng", "brx_Deva", "gom_Deva", "kas_Arab", "mni_Mtei", "sat_Olck", "snd_Arab", "urd_Arab"]
)
def test_into_languages_with_scripts_of_their_own(translating: Stack, tag: str) -> None:
    (done,) = post(translating, "/v1/translate", input="Save", source="en", target=tag).json()["translations"]
    assert done["text"] and "<unk>" not in done["text"] and not done["text"].isascii()


def test_every_request_leaves_its_rows(translating: Stack) -> None:
    response = post(translating, "/v1/translate", input="Open file", source="en", target="hi")
    request_id = response.headers["x-request-id"]
    found = rows(translating, "SELECT endpoint, model, status, http_status FROM requests WHERE id = ?", request_id)
    assert found == [("translate", "translate", "ok", 200)]
    calls = rows(
        translating, "SELECT engine, characters, completion_tokens > 0 FROM calls WHERE request_id = ?", request_id
    )
    assert calls == [("translate", 9, 1)]


def test_a_document_streams_sentence_by_sentence(translating: Stack) -> None:
    text = "Open file.\n\n" * 40
    with translating.client.stream(
        "POST", "/v1/translate", json={"input": text, "source": "en", "target": "hi", "stream": True}
    ) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    deltas = [event for event in events if event["type"] == "translation.delta"]
    assert len(deltas) == 40 and deltas[-1]["progress"] == 1.0
    whole = "".join(delta["delta"] for delta in deltas)
    assert whole.count("\n\n") == 40
    assert events[-1]["type"] == "translation.done" and events[-1]["usage"]["sentences"] == 40
    assert "text" not in events[-1]["translations"][0]


def test_bad_requests_name_the_fix(translating: Stack) -> None:
    for body, words in (
        ({"input": "Open", "target": "klingon"}, "known: as (Assamese)"),
        ({"input": "Open", "source": "hi", "target": "ta"}, "has no Devanagari letter"),
        ({"input": "नमस्ते", "source": "en", "target": "ta"}, "has no Latin letter"),
        ({"input": "Open", "target": "hi-Latn"}, "then POST /v1/transliterate"),
        ({"input": "Open"}, "target"),
        ({"input": [], "target": "hi"}, "array of 1 to 256"),
        ({"input": "Open", "target": "hi", "mode": "pdf"}, "text, html or markdown"),
        ({"input": "Open", "target": "hi", "alternatives": 9}, "from 0 to 4"),
        ({"input": "Open", "target": "hi", "model": "fake"}, "is served at /v1/chat/completions"),
    ):
        response = post(translating, "/v1/translate", **body)
        assert response.status_code == 400, response.text
        assert words in response.json()["error"]["message"], response.text


def test_typed_hindi_becomes_hindi(translating: Stack) -> None:
    response = post(
        translating, "/v1/transliterate", input="bhai mera order kab tak aayega", source="hi-Latn", target="Deva"
    )
    assert response.status_code == 200, response.text
    (done,) = response.json()["data"]
    assert done["text"].split()[:5] == ["भाई", "मेरा", "order", "कब", "तक"]
    both = post(translating, "/v1/transliterate", input=["mera naam kya hai", "ਪੱਕਾ ਘਰ"], target="Gujr")
    assert [one["text"] for one in both.json()["data"]][1] == "પક્કા ઘર"
    assert both.json()["data"][0]["text"].startswith("મેરા નામ")
    (translated,) = post(translating, "/v1/translate", input="file kholen", source="hi-Latn", target="en").json()[
        "translations"
    ]
    assert translated["source"] == "hi-Latn" and translated["text"]


def move(stack: Stack, path: Path) -> None:
    """Let the gateway see that the engine answers at ``path`` now."""
    say_ready(stack, path, "stopped")
    wait_until(lambda: not stack.state("translate"), 10, "the gateway sees that it stopped")
    say_ready(stack, path)
    wait_until(lambda: stack.state("translate"), 10, "the gateway sees that it is ready")


def test_a_host_that_dies_is_a_proper_error(translating: Stack) -> None:
    path = translating.home / "run/other.sock"
    process = start_host(translating, path)
    move(translating, path)
    assert answers(translating)
    process.send_signal(signal.SIGKILL)
    process.wait()
    response = post(translating, "/v1/translate", input="Open", target="hi")
    assert response.status_code == 503 and response.json()["error"]["code"] == "engine_unavailable"
    move(translating, translating.home / "run/translate.sock")
    assert answers(translating)


def test_clients_that_people_have_can_call_it(translating: Stack) -> None:
    client = openai.OpenAI(base_url=f"{translating.base}/v1", api_key=translating.key)
    answer = client.post("/translate", body={"input": "Open file", "target": "hi"}, cast_to=dict[str, Any])
    assert answer["translations"][0]["text"] == "फ़ाइल खोलें"


def test_a_tenants_glossary_decides_words(translating: Stack) -> None:
    terms = [{"term": "file", "translation": "दस्तावेज़", "source": "en", "target": "hi"}, {"term": "ACME Pro"}]
    response = translating.client.post("/v1/admin/glossaries/shop/terms", json={"terms": terms})
    assert response.status_code == 200, response.text

    def forced() -> str:
        found = post(
            translating, "/v1/translate", input="Open file in ACME Pro", source="en", target="hi", glossary="shop"
        )
        assert found.status_code == 200, found.text
        text: str = found.json()["translations"][0]["text"]
        return text

    wait_until(lambda: "दस्तावेज़" in forced(), 10, "the gateway has read the glossary")
    assert "ACME Pro" in forced() and "{{" not in forced()
    missing = post(translating, "/v1/translate", input="Open", source="en", target="hi", glossary="none-such")
    assert missing.status_code == 404 and "appliance glossaries list" in missing.json()["error"]["message"]


def test_a_memory_that_a_tenant_wants_answers_for_the_engine(translating: Stack) -> None:
    changed = translating.client.patch(
        "/v1/admin/tenants/default", json={"store_text": True, "translation_memory": True}
    )
    assert changed.status_code == 200, changed.text

    def via(text: str) -> Any:
        answer = post(translating, "/v1/translate", input=text, source="en", target="hi").json()
        return answer["translations"][0]["via"]

    wait_until(lambda: via("Save all") == ["translation-memory"], 10, "the memory answers")
    assert via("  save   ALL ") == ["translation-memory"]  # reads alike
    assert via("Save all files") == ["indictrans2-embedded"]
    translating.client.patch("/v1/admin/tenants/default", json={"store_text": False, "translation_memory": False})
    wait_until(lambda: via("Save all") == ["indictrans2-embedded"], 10, "the memory is off")
