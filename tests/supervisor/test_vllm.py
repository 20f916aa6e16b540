"""vLLM's arguments and environment, from settings alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.command import EngineCommand
from appliance.supervisor.vllm import chat_template, cpu_environment, tool_parser, vllm_command


def settings(tmp_path: Path, **engine: object) -> Settings:
    chat = EngineSettings.model_validate({"kind": "vllm", "model": "m", **engine})
    return Settings(home=tmp_path, run=tmp_path / "run", engines={"chat": chat})


def command(
    tmp_path: Path, *, cpu: bool = True, environ: dict[str, str] | None = None, **engine: object
) -> EngineCommand:
    return vllm_command(settings(tmp_path, **engine), "chat", tmp_path / "models/m", environ or {}, cpu)


def value(found: EngineCommand, flag: str) -> str:
    return found.argv[found.argv.index(flag) + 1]


def test_it_listens_on_its_socket_only_and_sizes_its_cache_explicitly(tmp_path: Path) -> None:
    found = command(tmp_path, kv_cache_bytes=123_456_789)
    assert value(found, "--uds") == str(tmp_path / "run/chat.sock")
    assert value(found, "--kv-cache-memory-bytes") == "123456789"
    assert value(found, "--served-model-name") == "m"
    assert not {"--port", "--host", "--api-key", "--gpu-memory-utilization"} & set(found.argv)


def test_it_never_runs_in_the_repository(tmp_path: Path) -> None:
    found = command(tmp_path)
    assert found.cwd == tmp_path / "cache/chat/cwd"
    assert Path.cwd() not in (found.cwd, *found.cwd.parents)


def test_nothing_phones_home_and_nothing_is_written_outside_home(tmp_path: Path) -> None:
    env = command(tmp_path, environ={"HF_HUB_OFFLINE": "0", "PATH": "/bin"}).env
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert env[name] == "1"
    for name in ("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "HF_HOME", "TMPDIR", "VLLM_RPC_BASE_PATH"):
        assert env[name].startswith(str(tmp_path))
    assert env["PATH"] == "/bin"


def test_an_exported_variable_cannot_resize_the_cache_or_lock_the_probe_out(tmp_path: Path) -> None:
    env = command(tmp_path, environ={"VLLM_CPU_KVCACHE_SPACE": "40", "VLLM_API_KEY": "x"}).env
    assert "VLLM_CPU_KVCACHE_SPACE" not in env
    assert "VLLM_API_KEY" not in env


def test_eager_and_cpu_settings_on_a_machine_without_a_gpu_only(tmp_path: Path) -> None:
    cpu, gpu = command(tmp_path, cpu=True), command(tmp_path, cpu=False)
    assert "--enforce-eager" in cpu.argv and "--enforce-eager" not in gpu.argv
    assert "OMP_NUM_THREADS" in cpu.env and "TORCHDYNAMO_DISABLE" in cpu.env
    assert "OMP_NUM_THREADS" not in gpu.env and "TORCHDYNAMO_DISABLE" not in gpu.env


def test_it_sees_the_gpus_it_was_given(tmp_path: Path) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert command(tmp_path, environ=environ).env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    found = command(tmp_path, environ=environ, gpus=(1, 3))
    assert (found.env["CUDA_VISIBLE_DEVICES"], found.env["CUDA_DEVICE_ORDER"]) == ("1,3", "PCI_BUS_ID")
    assert command(tmp_path, environ=environ, gpus=()).env["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("threads", "cores", "expected"), [(0, 1, "1"), (0, 2, "1"), (0, 8, "7"), (3, 8, "3")])
def test_one_core_is_left_to_the_others(threads: int, cores: int, expected: str) -> None:
    assert cpu_environment(threads, cores)["OMP_NUM_THREADS"] == expected


def test_limits_are_passed_only_where_set(tmp_path: Path) -> None:
    assert "--max-model-len" not in command(tmp_path).argv
    found = command(tmp_path, max_context_tokens=4096, max_concurrent=7)
    assert (value(found, "--max-model-len"), value(found, "--max-num-seqs")) == ("4096", "7")


def test_the_operators_arguments_come_last(tmp_path: Path) -> None:
    assert command(tmp_path, extra_args=("--max-num-seqs", "9")).argv[-2:] == ("--max-num-seqs", "9")


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("{% if tools %}<|python_tag|>{% endif %}", "llama3_json"),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", "mistral"),
        ("{% if tools %}something new{% endif %}", None),
    ],
)
def test_tool_calls_are_on_only_where_the_template_knows_tools(
    tmp_path: Path, template: str, parser: str | None
) -> None:
    directory = tmp_path / "models/m"
    directory.mkdir(parents=True)
    (directory / "chat_template.jinja").write_text(template)
    assert tool_parser(directory) == parser
    assert ("--enable-auto-tool-choice" in command(tmp_path).argv) == (parser is not None)


@pytest.mark.parametrize(
    ("tokenizer_config", "expected"),
    [
        ({"chat_template": "one"}, "one"),
        ({"chat_template": [{"name": "a", "template": "x"}, {"name": "tool_use", "template": "tools"}]}, "x\ntools"),
        ({}, ""),
    ],
)
def test_older_models_keep_the_template_in_the_tokenizers_configuration(
    tmp_path: Path, tokenizer_config: dict[str, object], expected: str
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    assert chat_template(tmp_path) == expected


def test_a_model_without_any_template(tmp_path: Path) -> None:
    assert chat_template(tmp_path) == ""
    assert tool_parser(tmp_path) is None
