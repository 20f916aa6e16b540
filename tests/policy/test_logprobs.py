"""Quantiles of what vLLM says about its tokens."""

from __future__ import annotations

import math

import pytest

from appliance.policy.logprobs import Token, confidence, quantile, tokens_of


def chat(*tokens: tuple[float, list[float]]) -> dict[str, object]:
    return {
        "content": [
            {"token": "x", "logprob": p, "top_logprobs": [{"token": "y", "logprob": q} for q in top]}
            for p, top in tokens
        ]
    }


def test_chat_tokens_with_their_margins() -> None:
    found = tokens_of(chat((-0.1, [-0.1, -2.5]), (-3.0, [-0.5, -3.0, -1.5]), (-0.2, [])))
    assert found[0] == Token(-0.1, pytest.approx(math.exp(-0.1) - math.exp(-2.5)))
    assert found[1].margin == pytest.approx(math.exp(-0.5) - math.exp(-1.5))
    assert found[2] == Token(-0.2, None)


def test_completions_tokens() -> None:
    found = tokens_of({"token_logprobs": [None, -0.5, -9999.0], "top_logprobs": [None, {"a": -0.5, "b": -1.0}, {}]})
    assert [token.logprob for token in found] == [-0.5, -30.0]
    assert found[0].margin == pytest.approx(math.exp(-0.5) - math.exp(-1.0))
    assert found[1].margin is None


@pytest.mark.parametrize(
    "broken",
    [None, "x", [], {}, {"content": "abc"}, {"content": [1, None, {"logprob": "x"}, {"logprob": True}]},
     {"token_logprobs": "abc"}, {"content": [{"logprob": math.nan}]}],
)  # fmt: skip
def test_what_is_broken_is_left_out(broken: object) -> None:
    assert tokens_of(broken) == []


def test_one_doubtful_token_shows_in_a_long_sure_answer() -> None:
    sure = [Token(-0.01, 0.98)] * 60
    found = confidence([*sure, Token(-6.0, 0.01)])
    assert found is not None
    assert (found.least, found.tokens) == (-6.0, 61)
    assert found.p10 == pytest.approx(-0.01)
    doubtful = confidence([*sure, *[Token(-6.0, 0.01)] * 10])
    assert doubtful is not None and doubtful.p10 < -1.0 and doubtful.margin_p10 is not None
    assert doubtful.margin_p10 < 0.5 < found.margin_p10  # type: ignore[operator]
    assert confidence([]) is None


def test_quantiles_lie_between_their_neighbours() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5) == 3.0
    assert quantile([1.0, 2.0], 0.25) == 1.25
    assert quantile([7.0], 0.1) == 7.0
