"""The policy's routes on real engines: a turn translated there and back, and vLLM going on with an answer."""

from __future__ import annotations

import httpx
from real.served import Appliance
from support import wait_until

from appliance.language_id import identify

HINDI = "फ़ाइल ORD-1234 कैसे खोलें? कृपया सहायता करें।"


def test_vllm_goes_on_with_the_beginning_of_an_answer(appliance: Appliance) -> None:
    said = "The capital of France is"
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": said},
        ],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "max_tokens": 8,
        "temperature": 0,
    }
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(appliance.run / "chat.sock")), timeout=60) as client:
        answer = client.post("http://engine/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    content = answer.json()["choices"][0]["message"]["content"]
    assert "Paris" in content and not content.startswith("The capital")


def test_a_turn_is_translated_answered_and_translated_back(appliance: Appliance) -> None:
    wait_until(lambda: appliance.state("translate")["phase"] == "ready", 120, "the translation engine was ready")
    assert "hin_Deva" in appliance.state("translate")["languages"]
    policy = appliance.home / "policy.toml"
    policy.write_text("pivot = true\n")  # the model speaks English only, so Hindi is translated
    try:
        with httpx.Client(headers={"authorization": f"Bearer {appliance.admin_key}"}, timeout=120) as client:
            asked = {"model": "default", "messages": [{"role": "user", "content": HINDI}], "max_tokens": 24}
            answers: list[httpx.Response] = []

            def pivoted() -> bool:
                answers.append(client.post(f"{appliance.base_url}/chat/completions", json=asked))
                return answers[-1].headers.get("x-appliance-route") == "pivot"

            wait_until(pivoted, 60, "the policy was in force")
        content = answers[-1].json()["choices"][0]["message"]["content"]
        print(repr(content))
        assert answers[-1].headers["x-appliance-reason"] == "language_pivot"
        assert identify(content).script == "Deva"
    finally:
        policy.unlink()
