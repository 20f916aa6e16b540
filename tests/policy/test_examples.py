"""The policies that README and docs show are ones that load, with the version that they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.policy.load import load
from appliance.policy.values import Policy

ROOT = Path(__file__).resolve().parents[2]
TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def examples(page: str) -> list[str]:
    """Blocks that are a policy: they name something that only policy.toml has."""
    found = TOML.findall((ROOT / page).read_text(encoding="utf-8"))
    return [
        text
        for text in found
        if re.search(r"^(value_class|when_refused)\b|^\[(intents|judge|value_classes)\b", text, re.M)
    ]


def test_the_readmes_ten_lines() -> None:
    (text,) = examples("README.md")
    policy = load(text)
    assert isinstance(policy, Policy)
    assert policy.hosted.enabled and policy.personal.mode == "redact"
    assert policy.intents["complaint"].residency == "local_only"
    assert len(text.strip().splitlines()) <= 10


def test_the_version_that_the_readme_shows_is_this_files() -> None:
    shown = re.search(r"^policy ([0-9a-f]{12}):", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert shown is not None
    assert load(examples("README.md")[0]).version == shown[1]


@pytest.mark.parametrize("page", ["docs/policy.md", "docs/hosted.md"])
def test_the_pages_examples(page: str) -> None:
    for text in examples(page):
        load(text)
