"""The legacy body: prompts in their four forms, and what the route does not do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.parameters import COMPLETIONS, Use
from appliance.api.params_completions import MAX_PROMPTS, parse_completions
from appliance.errors import BadRequest

_ABSENT = ...  # its name is the same in every process, which test ids need


def body(**fields: Any) -> bytes:
    """A minimal body with ``fields`` on top."""
    whole = {"model": "m", "prompt": "once", **fields}
    return msgspec.json.encode({name: value for name, value in whole.items() if value is not _ABSENT})


def refused(**fields: Any) -> BadRequest:
    """The error for ``body(**fields)``."""
    with pytest.raises(BadRequest) as e:
        parse_completions(body(**fields))
    return e.value


# sampling parameters have their cases in test_params_chat.py; here one of each shows that they are wired
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "prompt": (
        ["p", ["a", "b"], [1, 2, 3], [[1], [2, 3]]],
        [
            None,
            _ABSENT,
            "",
            [],
            [""],
            [[]],
            ["a", 1],
            [[1], "a"],
            [-1],
            [1.5],
            [True],
            5,
            {},
            ["a"] * (MAX_PROMPTS + 1),
        ],
    ),
    "model": (["m"], [None, _ABSENT]),
    "stream": ([True], ["x"]),
    "stream_options": ([{"include_usage": True}], [5]),
    "max_tokens": ([1, None], [0, -1]),
    "temperature": ([1], [3]),
    "top_p": ([0.5], [2]),
    "n": ([8], [9]),
    "seed": ([1], ["x"]),
    "stop": (["x"], [""]),
    "presence_penalty": ([1], [3]),
    "frequency_penalty": ([1], [3]),
    "logit_bias": ([{"1": 1}], [{"a": 1}]),
    "user": (["u"], [1]),
    "top_k": ([1], [-2]),
    "min_p": ([0.5], [2]),
    "repetition_penalty": ([1], [0]),
    "echo": ([True, False, None], ["x"]),
    "logprobs": ([0, 5, None], [6, -1, True]),
    "best_of": ([1, None], [2, 0, "x"]),
    "suffix": (["", None], ["tail", 5]),
}


def test_every_parameter_of_the_table_has_both_cases() -> None:
    assert CASES.keys() == COMPLETIONS.rules.keys()


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (good, _) in CASES.items() for v in good], ids=lambda v: str(v)[:40]
)
def test_accepted(name: str, value: Any) -> None:
    extra = {"stream": True} if name == "stream_options" else {}
    sent = msgspec.json.decode(parse_completions(body(**extra, **{name: value})).engine_body("served", None))
    if COMPLETIONS.rules[name].use is Use.FORWARDED and value is not None:
        assert sent[name] == value
    assert not {"best_of", "suffix", "user"} & sent.keys()


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, bad) in CASES.items() for v in bad], ids=lambda v: str(v)[:40]
)
def test_refused(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert error.param is not None
    assert error.param.split("[")[0] == name


def test_answers_to_wait_for_are_prompts_times_n() -> None:
    assert parse_completions(body()).choices == 1
    assert parse_completions(body(prompt=[1, 2, 3], n=2)).choices == 2
    assert parse_completions(body(prompt=["a", "b", "c"], n=2)).choices == 6
    assert refused(prompt=["a"] * 100, n=2).param == "n"


def test_scoring_a_prompt_needs_echo() -> None:
    assert parse_completions(body(max_tokens=0, echo=True, logprobs=1)).max_tokens == 0
    assert refused(max_tokens=0).param == "max_tokens"


def test_best_of_equal_to_n_asks_for_nothing() -> None:
    assert parse_completions(body(n=3, best_of=3)).choices == 3


def test_chat_parameters_are_pointed_to_their_route() -> None:
    assert "/v1/chat/completions" in refused(messages=[]).message
    for name in ("response_format", "tools", "prompt_embeds", "cache_salt", "prompt_logprobs"):
        assert refused(**{name: None}).code == "unknown_parameter"
