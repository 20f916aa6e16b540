"""policy.toml: what a file means, and every way in which one is refused with the line to look at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.lines import line_of, lines_of
from appliance.policy.load import PolicyError, count_tests, load
from appliance.policy.values import BUILT_IN, PersonalRule, Policy

WHOLE = """\
when_refused = "human"
value_class = "standard"
guards = ["injection"]
ttft_ms = 1200

[hosted]
enabled = true
model = "gemini-3.1-flash-lite"

[chain]
deadline_s = 30
retries = 2
cost_cap_usd = "0.02"

[judge]
threshold = 0.4

[affinity]
idle_minutes = 20

[value_classes.standard]
unresolved_usd = 0.50

[value_classes.high]
unresolved_usd = 4.000000001
hosted_first = true

[intents.refund]
value_class = "high"
residency = "hosted_redacted"
ttft_ms = 800
guards = ["amounts", "injection"]
hold_back = 80

[languages.ta]
scores = { local = 0.61, pivot = 0.74 }
least = 0.6

[languages."mni-Mtei"]
routes = ["pivot", "hosted"]

[personal]
mode = "redact"
formats = ["OD[0-9]{18}"]

[personal.tenants.acme]
mode = "block"
formats = ['AC-[0-9]{6}']

[shadow]
share = 0.01

[rollout]
share = 0.1

[[test]]
name = "Tamil is translated"
language = "ta"
expect = "pivot"
reason = "language_pivot"
then = ["local", "hosted"]

[[test]]
name = "refunds begin with hosted"
intent = "refund"
expect = "hosted"
reason = "high_value"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def test_everything_in_a_file_reaches_the_policy() -> None:
    policy = load(WHOLE)
    assert (policy.when_refused, policy.guards, policy.ttft_ms, policy.idle_minutes) == (
        "human",
        ("injection",),
        1200,
        20,
    )
    assert (policy.hosted.enabled, policy.hosted.model) == (True, "gemini-3.1-flash-lite")
    assert (policy.chain.deadline_s, policy.chain.retries, policy.chain.cost_cap_nusd) == (30, 2, 20_000_000)
    assert policy.value_classes["high"].unresolved_nusd == 4_000_000_001
    assert policy.value_classes["high"].hosted_first and policy.value_class == "standard"
    refund = policy.intents["refund"]
    assert (refund.residency, refund.ttft_ms, refund.guards) == ("hosted_redacted", 800, ("amounts", "injection"))
    assert refund.judging is not None
    assert (refund.judging.hold_back, refund.judging.threshold) == (80, 0.4)
    assert policy.languages["tam_Taml"].scores == {"local": 0.61, "pivot": 0.74}
    assert policy.languages["mni_Mtei"].routes == ("pivot", "hosted")
    assert policy.personal_by_tenant["acme"] == PersonalRule("block", ("OD[0-9]{18}", "AC-[0-9]{6}"))
    assert (policy.shadow.share, policy.rollout.share) == (0.01, 0.1)
    assert count_tests(WHOLE) == 2


def test_the_version_is_the_texts_and_nothing_elses() -> None:
    first = load(WHOLE).version
    assert first == load(WHOLE).version and len(first) == 12
    assert load(WHOLE + "\n").version != first


def test_an_empty_file_changes_nothing_but_affinity() -> None:
    policy = load("")
    assert policy != BUILT_IN
    fields = [f for f in Policy.__struct_fields__ if getattr(policy, f) != getattr(BUILT_IN, f)]
    assert fields == ["version", "idle_minutes"]


@pytest.mark.parametrize(
    ("old", "new", "at", "expected"),
    [
        ("threshold", "treshold", "treshold", "judge.treshold is not known; did you mean 'threshold'?"),
        ("[affinity]", "[afinity]", "[afinity]", "afinity is not known; did you mean 'affinity'?"),
        ("hold_back", "holdback", "holdback", "intents.refund.holdback is not known; did you mean 'hold_back'?"),
        ("{ local", "{ lokal", "lokal", "languages.ta.scores.lokal is not known; did you mean 'local'?"),
        ("least = 0.6", 'least = "x"', "least", "languages.ta.least: Input should be a valid number"),
        ("[languages.ta]", "[languages.tm]", "[languages.tm]", "languages.'tm' is not a language known here"),
        ('"mni-Mtei"', "tam_Taml", "tam_Taml", "languages.tam_Taml is tam_Taml, which another section names already"),
        (' "high"', ' "hihg"', '"hihg"', "intents.refund.value_class: no value class 'hihg'; did you mean 'high'?"),
        ("AC-[0-9]{6}", "AC-[0-9", "AC-", "personal.tenants.acme.formats.0: 'AC-[0-9' is no regular expression"),
        (".000000001", ".0000000001", "4.0", "value_classes.high.unresolved_usd: an amount has at most nine decimals"),
        ('["pivot", "h', '["h', '["hosted', "languages.mni-Mtei.routes: a route is named twice"),
        ("share = 0.1\n", "share = 1.1\n", "share = 1.1", "rollout.share: Input should be less than or equal to 1"),
        ("enabled = true", "enabled = false", "share = 0.01", "shadow.share needs hosted.enabled = true"),
        ("retries = 2", "retries = = 2", "retries", "this is not TOML"),
        ('language = "ta"', 'language = "xx"', "[[test]]", "test.0: 'xx' is not a language known here"),
        ('expect = "pivot"', 'expect = "local"', "[[test]]", "test 'Tamil is translated': expected local"),
        ('reason = "high_value"', 'reason = "rich"', '"rich"', "test.1.reason: Input should be 'routine', "),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, at: str, expected: str) -> None:
    changed = WHOLE.replace(old, new, 1).replace('["hosted"]', '["hosted", "hosted"]')
    assert changed != WHOLE
    found = problems(changed)
    line = changed[: changed.index(at)].count("\n") + 1
    assert any(problem.startswith(f"line {line}: {expected}") for problem in found), (line, found)


def test_all_mistakes_are_named_in_the_order_of_the_file_and_the_first_is_the_message() -> None:
    text = WHOLE.replace("threshold", "treshold").replace("ttft_ms = 800", "ttft_ms = -1").replace('"redact"', '"hide"')
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert [problem.line for problem in caught.value.problems] == [16, 31, 43]
    assert str(caught.value).startswith("policy.toml, line 16: judge.treshold is not known; did you mean 'threshold'?")
    assert str(caught.value).endswith("(2 more; `appliance policy check` lists them)")


def test_a_failed_test_says_where_it_went_instead_and_why() -> None:
    (problem,) = problems(WHOLE.replace('residency = "hosted_redacted"', 'residency = "local_only"'))
    assert problem.startswith("line 63: test 'refunds begin with hosted': expected hosted (high_value), got refused")
    assert "hosted dropped (residency: its traffic stays on the box (residency local_only))" in problem


@pytest.mark.parametrize(
    "case",
    [
        'local = "down"\nexpect = "hosted"\nreason = "engine_unhealthy"',
        'local = "slow"\npivot = "slow"\nexpect = "hosted"\nreason = "capacity_overflow"',
        'local = "down"\nhosted = "down"\nexpect = "refused"\nreason = "engine_unhealthy"',
        'residency = "local_only"\ncustomer_asked = true\nexpect = "refused"\nreason = "residency"',
        'last = "hosted"\nexpect = "hosted"\nreason = "sticky"',
        'last = "hosted"\nidle_minutes = 21\nexpect = "local"',
        'context_tokens = 9000\nexpect = "hosted"\nreason = "context_too_long"',
        'needs = ["vision"]\nexpect = "hosted"\nreason = "capability_missing"',
        'language = "hi"\nspeaks = ["bn"]\nexpect = "pivot"',
        'language = "hi"\nspeaks = ["bn"]\npivot = "absent"\nexpect = "hosted"',
        'budget_usd = "0.0001"\nexpect = "local"\nthen = []',
        'personal = true\nmedia = true\nexpect = "local"\nthen = []',
        'pinned = "hosted"\ntool_loop = true\nexpect = "hosted"\nreason = "pinned"',
    ],
)
def test_a_file_can_ask_about_every_situation(case: str) -> None:
    load(f'{WHOLE}\n[[test]]\nname = "one"\n{case}\n')


def test_lines_are_found_through_texts_arrays_and_comments() -> None:
    text = '''a = """
[not.a.table]
b = 1
"""
c = [
  "x = 1", # [y]
  "]",
]
[t."quoted.name"] # comment
d.e = 'it # is'
[[list]]
f = 1
[[list]]
[list.inner]
g = { h = 1 }
'''
    lines = lines_of(text)
    assert lines == {
        ("a",): 1, ("c",): 5, ("t", "quoted.name"): 9, ("t", "quoted.name", "d", "e"): 10, ("list", 0): 11,
        ("list", 0, "f"): 12, ("list", 1): 13, ("list", 1, "inner"): 14, ("list", 1, "inner", "g"): 15,
    }  # fmt: skip
    assert line_of(lines, ("list", 1, "inner", "g", "h")) == 15
    assert line_of(lines, ("nowhere",)) is None


@given(st.text(alphabet="[]{}\"'#=.\n ab1", max_size=80))
def test_any_text_is_a_policy_or_says_what_is_wrong(text: str) -> None:
    lines_of(text)
    try:
        load(text)
    except PolicyError as e:
        assert str(e)
