"""Signals of one answer, whole or its beginning."""

from __future__ import annotations

import json

from appliance.policy.answers import Answered, Signals, Wanted, measure
from appliance.policy.combine import defects, features
from appliance.policy.logprobs import Token
from appliance.types import ToolUse

HINDI = "आपका पार्सल कल शाम तक पहुँच जाएगा, कृपया घर पर रहें।"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"track": {"type": "object", "properties": {"awb": {"type": "string"}}, "required": ["awb"]}}


def signals(text: str = HINDI, finish: str | None = "stop", whole: bool = True, **wanted: object) -> Signals:
    return measure(Answered(text, finish, whole=whole), Wanted(**wanted)).signals  # type: ignore[arg-type]


def test_a_good_answer_shows_nothing() -> None:
    found = signals(language="hin_Deva", asked="मेरा पार्सल कब आएगा?")
    assert features(found) == {"no_logprobs": 1.0}
    assert defects(features(found)) == ()


def test_cut_and_empty() -> None:
    assert signals(finish="length").truncated
    assert not signals(finish="length", own_limit=True).truncated
    assert signals(" \n").empty
    tool = Answered("", "tool_calls", (ToolUse("1", "track", '{"awb": "1"}'),))
    assert not measure(tool, Wanted(tools=TOOLS)).signals.empty


def test_a_beginning_is_not_cut_empty_or_broken() -> None:
    found = signals('{"city": ', None, whole=False, schema=SCHEMA, source="500")
    assert defects(features(found)) == ()
    assert defects(features(signals("I am in English here, as you can see.", None, whole=False, language="tam_Taml")))


def test_broken_json_is_mended_once() -> None:
    found = measure(Answered("```json\n{'city': 'पुणे',}\n```", "stop"), Wanted(schema=SCHEMA))
    assert found.signals.repaired and not found.signals.schema_failed
    assert json.loads(found.answered.text) == {"city": "पुणे"}
    good = Answered('{ "city" : "x" }', "stop")
    assert measure(good, Wanted(schema=SCHEMA)).answered is good


def test_json_that_no_mending_makes_right() -> None:
    found = measure(Answered("{'town': 'Pune'}", "stop"), Wanted(schema=SCHEMA))
    assert (found.signals.schema_failed, found.signals.repaired) == (True, False)
    assert found.signals.why == "required at /city"
    assert found.answered.text == "{'town': 'Pune'}"
    assert signals("Pune", schema=SCHEMA).schema_failed
    assert signals("[1]", schema=True).schema_failed
    assert not signals('{"a": 1}', schema=True).schema_failed


def test_arguments_of_tools() -> None:
    def of(*tools: ToolUse, offered: dict[str, object] | None = None) -> tuple[bool, bool, str, list[str]]:
        found = measure(Answered("", "tool_calls", tools), Wanted(tools=TOOLS if offered is None else offered))
        s = found.signals
        return s.schema_failed, s.repaired, s.why, [tool.arguments for tool in found.answered.tools]

    good = ToolUse("1", "track", '{"awb":"77"}')
    assert of(good) == (False, False, "", ['{"awb":"77"}'])
    assert of(good, ToolUse("2", "track", "{'awb': '78'")) == (False, True, "", ['{"awb":"77"}', '{"awb":"78"}'])
    failed, _, why, _ = of(ToolUse("1", "track", '{"awb": 77}'))
    assert failed and why == "type at /awb"
    failed, _, why, _ = of(ToolUse("1", "refund", "{}"))
    assert failed and "refund" in why
    assert of(ToolUse("1", "ping", ""), offered={"ping": {"type": "object"}}) == (False, False, "", [""])


def test_numbers_that_were_lost() -> None:
    assert signals("रकम ₹4,500 है", source="The amount is ₹4500").entities_lost == 0.0
    assert signals("रकम ४५०० है, ऑर्डर AB-12", source="₹4500, order AB-12").entities_lost == 0.0
    assert signals("रकम ₹450 है", source="The amount is ₹4500").entities_lost == 1.0


def test_refusals() -> None:
    assert signals("I'm sorry, but I cannot help with that.").refused
    assert signals("मैं इसमें आपकी सहायता नहीं कर सकता।").refused
    assert signals("", "content_filter").refused
    assert not signals("You cannot return opened software; unopened boxes can be returned.").refused


def test_doubt_becomes_numbers() -> None:
    sure = Answered("Yes.", "stop", tokens=(Token(-0.01, 0.98),) * 5)
    unsure = Answered("Yes.", "stop", tokens=(Token(-3.0, 0.05),) * 5)
    one, other = (features(measure(answer, Wanted()).signals) for answer in (sure, unsure))
    assert "no_logprobs" not in one
    assert one["doubt_p10"] < other["doubt_p10"] == 3.0
    assert one["unsure_p10"] < other["unsure_p10"]
