"""Where data may go is declared, known and checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings, SettingsError, load_settings
from appliance.settings_hosted import is_googles

ENGINE = '[engines.gemini]\nkind = "hosted"\napi_key_file = "k"\n'


def load(home: Path, hosted: str = 'region = "global"\n', engine: str = ENGINE) -> Settings:
    (home / "appliance.toml").write_text(f"{engine}[engines.gemini.hosted]\n{hosted}", encoding="utf-8")
    return load_settings({"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": "/tmp/r"})


def test_the_least_that_turns_it_on(tmp_path: Path) -> None:
    engine = load(tmp_path).engines["gemini"]
    assert (engine.task, engine.served, engine.hosted.region) == ("chat", ("gemini-3.1-flash-lite",), "global")
    assert engine.elsewhere == ""


@pytest.mark.parametrize(
    ("hosted", "engine", "expected"),
    [
        ("", ENGINE, "needs a declared region"),
        ('region = "asia-suoth1"\n', ENGINE, "did you mean 'asia-south1'?"),
        ('region = "moon"\n', ENGINE, "is no region of Gemini"),
        ('region = "asia-south1"\n', ENGINE, "set vertex_project"),
        ('region = "global"\n', '[engines.gemini]\nkind = "hosted"\n', "needs api_key_file"),
        ('region = "global"\n', f'{ENGINE}url = "https://example.com"\n', "other_address = true"),
        ('region = "global"\n', f'{ENGINE}url = "http://generativelanguage.googleapis.com"\n', "other_address = true"),
        ('region = "global"\n', f'{ENGINE}url = "https://googleapis.com.evil.in"\n', "other_address = true"),
        ('region = "global"\n', f'{ENGINE}url = "gemini"\n', "is no address"),
        ('regoin = "global"\n', ENGINE, "engines.gemini.hosted.regoin is not a setting; did you mean 'region'?"),
        ('region = "global"\nmax_usd_per_day = 0\n', ENGINE, "engines.gemini.hosted.max_usd_per_day"),
        ('region = "global"\n', '[engines.gemini]\nkind = "fake"\n', 'belongs to engines of kind "hosted"'),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, hosted: str, engine: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, hosted, engine)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_address_is_taken_when_it_is_meant(tmp_path: Path) -> None:
    settings = load(tmp_path, 'region = "global"\nother_address = true\n', f'{ENGINE}url = "http://127.0.0.1:9"\n')
    assert settings.engines["gemini"].url == "http://127.0.0.1:9"


def test_a_region_of_vertex(tmp_path: Path) -> None:
    hosted = load(tmp_path, 'region = "asia-south1"\nvertex_project = "my-project"\n').engines["gemini"].hosted
    assert (hosted.region, hosted.vertex_project) == ("asia-south1", "my-project")


def test_the_gateways_side_of_two_users_needs_no_key_and_starts_nothing(tmp_path: Path) -> None:
    settings = load(
        tmp_path, 'region = "global"\nrun_dir = "/run/appliance-hosted"\n', '[engines.gemini]\nkind = "hosted"\n'
    )
    assert settings.engines["gemini"].elsewhere == "/run/appliance-hosted"
    assert settings.state_file("gemini") == Path("/run/appliance-hosted/gemini.json")
    assert settings.state_file("other") == settings.run / "other.json"


@pytest.mark.parametrize(
    ("host", "scheme", "googles"),
    [
        ("generativelanguage.googleapis.com", "https", True),
        ("asia-south1-aiplatform.googleapis.com", "https", True),
        ("generativelanguage.googleapis.com", "http", False),
        ("evilgoogleapis.com", "https", False),
        ("googleapis.com.example.in", "https", False),
    ],
)
def test_whose_address_it_is(host: str, scheme: str, googles: bool) -> None:
    assert is_googles(host, scheme) is googles
