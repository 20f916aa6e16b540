"""Settings: one file, checked whole, with errors that name the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings, SettingsError, load_settings


def load(home: Path, text: str = "", **environ: str) -> Settings:
    (home / "appliance.toml").write_text(text, encoding="utf-8")
    return load_settings({"APPLIANCE_HOME": str(home), "APPLIANCE_RUN": "/tmp/r", **environ})


def test_without_a_file_the_embedded_models_are_served(tmp_path: Path) -> None:
    settings = load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/tmp/r"})
    assert {name: e.model for name, e in settings.engines.items()} == {
        "chat": "smollm2-135m-instruct",
        "transcribe": "whisper-base",
        "translate": "indictrans2-embedded",
    }
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = '[server]\nhost = "10.0.0.1"\nport = 80\n'
    assert load(tmp_path, text).server.port == 80
    settings = load(tmp_path, text, APPLIANCE_PORT="9001", APPLIANCE_HOST="::1")
    assert (settings.server.host, settings.server.port) == ("::1", 9001)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nprot = 1\n", "server.prot is not a setting; did you mean 'port'?"),
        ("[sever]\nport = 1\n", "did you mean 'server'?"),
        ("[server]\nport = 70000\n", "server.port"),
        ("[server]\ndrain_s = inf\n", "server.drain_s"),
        ("[slos.refund]\nttft_ms = 5\n", "did you mean 'ttft_p95_ms'?"),
        ("[slos.refund]\nttft_p95_ms = 0\n", "slos.refund.ttft_p95_ms"),
        ("[engines.e]\nkind = 'fake'\nheartbeat_s = nan\n", "engines.e.heartbeat_s"),
        ('[engines.x]\nkind = "openai"\n', "exactly one of url and socket"),
        ('[engines.x]\nkind = "vllm"\n', "needs model"),
        ('[engines.x]\nkind = "vllm"\nmodel = "m"\nkv_cache_byte = 3\n', "did you mean 'kv_cache_bytes'?"),
        ('[site]\nnetworks = ["10.0.0.0/33"]\n', "10.0.0.0/33"),
        ("[logs]\nformat = 'xml'\n", "logs.format"),
        ("[logs]\nmaxbytes = 1\n", "did you mean 'max_bytes'?"),
        ("[tracing]\notlp_endpoint = 'localhost:4318'\n", "give http://127.0.0.1:4318"),
        ("[tracing]\notlp_endpoint = 'http://me:pw@127.0.0.1'\n", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("[tracing]\nsample = 2\n", "tracing.sample"),
        ("[memory]\nrequest_tokens = 1\n", "memory.request_tokens"),
        ("[server\n", "not valid TOML"),
        ("server = 5\n", "write [server]"),
        ("aliases = 3\n", "aliases"),
        ('[engines."../x"]\nkind = "fake"\n', "lower-case letters"),
        ('[engines.control]\nkind = "fake"\n', "cannot be called control"),
        ('home = "/x"\n', "APPLIANCE_HOME"),
    ],
)
def test_a_mistake_is_named_with_its_fix(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=r"appliance\.toml") as caught:
        load(tmp_path, text)
    assert expected in str(caught.value)


def test_a_run_directory_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="APPLIANCE_RUN to a path of at most 60 bytes"):
        load_settings({"APPLIANCE_HOME": str(tmp_path), "APPLIANCE_RUN": "/" + "r" * 70})


def test_a_bad_port_in_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="APPLIANCE_PORT is 'http'"):
        load(tmp_path, APPLIANCE_PORT="http")


def test_own_aliases_join_the_default_ones(tmp_path: Path) -> None:
    settings = load(tmp_path, '[aliases]\ndefault = "big"\n')
    assert isinstance(settings, Settings)
    assert settings.aliases["default"] == "big"
    assert settings.aliases["whisper-1"] == "whisper-base"


def test_default_aliases_follow_the_configured_engines(tmp_path: Path) -> None:
    text = (
        '[engines.main]\nkind = "vllm"\nmodel = "qwen3-8b"\n'
        '[engines.speech]\nkind = "openai"\ntask = "transcribe"\nurl = "http://127.0.0.1:9"\nmodels = ["turbo"]\n'
    )
    assert load(tmp_path, text).aliases == {"default": "qwen3-8b", "whisper-1": "turbo", "gpt-4o-transcribe": "turbo"}
