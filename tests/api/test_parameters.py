"""The table against the types, against the OpenAI SDK, and against what vLLM knows."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
from openai.types import completion_create_params
from openai.types.audio import transcription_create_params
from openai.types.chat import completion_create_params as chat_create_params

from appliance.api.parameters import CHAT, COMPLETIONS, TRANSCRIPTION, Parameters, Use
from appliance.api.params_chat import TEMPLATE_INTERNALS, ChatFields
from appliance.api.params_completions import CompletionFields

TABLES = {"chat": CHAT, "completions": COMPLETIONS, "transcription": TRANSCRIPTION}


@pytest.mark.parametrize(("table", "fields"), [(CHAT, ChatFields), (COMPLETIONS, CompletionFields)])
def test_table_and_decoder_name_the_same_parameters(table: Parameters, fields: type[msgspec.Struct]) -> None:
    assert set(fields.__struct_fields__) == table.rules.keys()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_row_has_a_phrase_that_fits_a_sentence(table: Parameters) -> None:
    for name, rule in table.rules.items():
        assert rule.text, name
        assert not rule.text.endswith("."), name


@pytest.mark.parametrize(
    ("table", "sdk"),
    [
        (CHAT, chat_create_params.CompletionCreateParamsStreaming),
        (CHAT, chat_create_params.CompletionCreateParamsNonStreaming),
        (COMPLETIONS, completion_create_params.CompletionCreateParamsStreaming),
        (TRANSCRIPTION, transcription_create_params.TranscriptionCreateParamsStreaming),
    ],
)
def test_every_parameter_of_the_sdk_is_accepted_or_refused_with_a_reason(table: Parameters, sdk: type) -> None:
    known = get_type_hints(sdk).keys()
    assert len(known) > 8
    assert known - table.rules.keys() == set()


def _vllm_fields(path: str, name: str) -> set[str]:
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vllm is not installed")
    source = Path(spec.submodule_search_locations[0], "entrypoints/openai", path).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            targets = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            return {target.id for target in targets if isinstance(target, ast.Name)}
    raise AssertionError(f"vllm has no {name} in {path}")


@pytest.mark.parametrize(
    ("table", "path", "name"),
    [
        (CHAT, "chat_completion/protocol.py", "ChatCompletionRequest"),
        (COMPLETIONS, "completion/protocol.py", "CompletionRequest"),
    ],
)
def test_vllm_knows_everything_it_is_sent(table: Parameters, path: str, name: str) -> None:
    # it ignores unknown names silently, so a renamed one would quietly stop working
    sent = {n for n, rule in table.rules.items() if rule.use is Use.FORWARDED}
    sent |= {"model", "stream_options", "cache_salt"}
    assert sent - _vllm_fields(path, name) == set()


def test_callers_cannot_reach_the_template_call() -> None:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("transformers is not installed")
    source = Path(spec.submodule_search_locations[0], "tokenization_utils_base.py").read_text(encoding="utf-8")
    arguments = {
        argument.arg
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "apply_chat_template"
        for argument in node.args.args
    }
    assert "chat_template" in arguments
    assert arguments - {"self"} <= TEMPLATE_INTERNALS
