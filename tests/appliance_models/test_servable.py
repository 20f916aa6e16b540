"""What may be served: whole, accepted, unchanged; and what may be removed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from appliance_models import catalogue, licences, manifest
from appliance_models.entry import Convert, Model
from appliance_models.errors import NotAccepted, StoreError
from appliance_models.store import Store, arguments, servable

ENTRY = """\
name = "{name}"
title = "Ours"
task = "chat"
engine = "vllm"
licence = "LicenseRef-Ours"
licence_url = "https://example.invalid/licence"
must_accept = {must_accept}
languages = ["hin_Deva"]
arguments = ["--flag", "{{}}"]

[local]
path = "{source}"
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models directory with one entry of the operator's own, whose files lie elsewhere."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "weights.bin").write_bytes(b"weights")
    directory = tmp_path / "models"
    directory.mkdir()
    (directory / "ours.toml").write_text(ENTRY.format(name="ours", source=source, must_accept="true"))
    return directory


def ours(models: Path) -> Model:
    return catalogue.load("ours", own=models)


def accepted(models: Path) -> Path:
    licences.accept(models, ours(models), "Asha", "2026-11-25T00:00:00Z")
    return Store(models).ensure(ours(models))


def test_a_licence_blocks_pulling_and_serving_until_it_is_accepted(models: Path) -> None:
    with pytest.raises(NotAccepted, match=r"read https://example\.invalid/licence and run `appliance models accept o"):
        Store(models).ensure(ours(models))
    directory = accepted(models)
    assert servable(models, "ours") == directory
    (models / "licences.json").unlink()
    with pytest.raises(NotAccepted):
        servable(models, "ours")


def test_an_acceptance_is_kept_with_who_and_when_and_covers_that_licence_only(models: Path) -> None:
    accepted(models)
    found = licences.of(models, ours(models))
    assert found is not None and (found.who, found.at) == ("Asha", "2026-11-25T00:00:00Z")
    changed = msgspec.structs.replace(ours(models), licence_url="https://example.invalid/licence-2")
    assert licences.of(models, changed) is None
    licences.accept(models, changed, "Ravi", "2027-01-01T00:00:00Z")
    assert [a.who for a in licences.read(models)] == ["Asha", "Ravi"]


def test_a_broken_record_of_licences_accepts_nothing(models: Path) -> None:
    accepted(models)
    (models / "licences.json").write_text("[{]")
    with pytest.raises(StoreError, match=r"licences\.json cannot be read .*mend it"):
        servable(models, "ours")
    with pytest.raises(StoreError):
        licences.accept(models, ours(models), "x", "y")
    assert (models / "licences.json").read_text() == "[{]"


def test_a_file_that_changed_since_it_was_hashed_is_not_served(models: Path) -> None:
    directory = accepted(models)
    (directory / "weights.bin").write_bytes(b"weighty")
    with pytest.raises(StoreError, match=r"\(weights\.bin changed since it was checked\); run `appliance models pull"):
        servable(models, "ours")
    Store(models).ensure(ours(models))
    assert (servable(models, "ours") / "weights.bin").read_bytes() == b"weights"


def test_a_directory_the_operator_put_there_is_never_lost(models: Path) -> None:
    (models / "ours").mkdir()
    (models / "ours" / "weights.bin").write_bytes(b"copied by hand for a day")
    with pytest.raises(StoreError, match=r"was not put there by the store and would be lost; move it away.*--from"):
        accepted(models)
    assert (models / "ours" / "weights.bin").read_bytes() == b"copied by hand for a day"
    moved = (models / "ours").rename(models.parent / "moved")
    (moved / "config.json").write_text("{}")
    assert (Store(models).ensure(ours(models), moved) / "weights.bin").read_bytes() == b"copied by hand for a day"


def test_a_file_that_was_only_touched_is_served(models: Path) -> None:
    directory = accepted(models)
    (directory / "weights.bin").touch()
    assert servable(models, "ours") == directory


def test_what_verify_found_damaged_is_not_served(models: Path) -> None:
    directory = accepted(models)
    stamp = (directory / "weights.bin").stat()
    (directory / "weights.bin").write_bytes(b"weighty")
    os.utime(directory / "weights.bin", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a failing disk would
    assert servable(models, "ours") == directory, "only hashing shows it"
    assert Store(models).verify(ours(models)) == ["weights.bin has other bytes than were installed"]
    with pytest.raises(StoreError, match="is not there in full"):
        servable(models, "ours")
    Store(models).ensure(ours(models))
    assert servable(models, "ours") == directory


def test_verify_names_files_that_are_gone_and_files_that_came(models: Path) -> None:
    directory = accepted(models)
    (directory / "config.json").unlink()
    (directory / "extra.bin").write_bytes(b"")
    (directory / "weights.bin").write_bytes(b"w")
    assert Store(models).verify(ours(models)) == [
        "config.json is gone",
        "weights.bin has 1 bytes instead of 7",
        "extra.bin was not put there by the store",
    ]
    with pytest.raises(StoreError, match="other is not there"):
        Store(models).verify(msgspec.structs.replace(ours(models), name="other"))


def test_an_unknown_model_and_an_operators_directory(models: Path) -> None:
    with pytest.raises(StoreError, match=r"model 'absent' is not there: .*appliance models list"):
        servable(models, "absent")
    (models / "byhand").mkdir()
    with pytest.raises(StoreError, match=r"no model of the catalogue, and has no config\.json"):
        servable(models, "byhand")
    (models / "byhand" / "config.json").write_text("{}")
    assert servable(models, "byhand") == models / "byhand"


def test_a_mistake_in_another_own_entry_stops_nothing_else(models: Path) -> None:
    directory = accepted(models)
    (models / "broken.toml").write_text("name = ")
    assert servable(models, "ours") == directory
    with pytest.raises(StoreError, match=r"broken\.toml cannot be used"):
        servable(models, "broken")


def test_arguments_of_the_catalogue(models: Path) -> None:
    assert arguments(models, "ours") == ("--flag", "{}")
    assert arguments(models, "whisper-base") == ()
    assert arguments(models, "byhand") == ()


def test_a_converter_this_version_has_not_is_said_before_the_first_byte(models: Path) -> None:
    model = msgspec.structs.replace(
        ours(models), must_accept=False, convert=Convert(kind="melt", produces=("model.bin",))
    )
    with pytest.raises(StoreError, match="needs the converter 'melt', which this version has not"):
        Store(models).ensure(model)


def test_a_whole_directory_is_converted_and_its_files_are_pinned(models: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; source, file, out = sys.argv[1:4]; assert file == '.'\n"
        "open(out + '/model.bin', 'w').write(str(sorted(os.listdir(source))))"
    )
    model = msgspec.structs.replace(
        ours(models), must_accept=False, convert=Convert(kind="melt", produces=("model.bin",))
    )
    made = Store(models, converters={"melt": (sys.executable, "-c", script)})
    directory = made.ensure(model)
    assert (directory / "model.bin").read_text() == "['config.json', 'weights.bin']"
    found = manifest.read(directory)
    assert found is not None
    assert sorted(found.pinned) == ["config.json", "weights.bin"]
    assert [entry.path for entry in found.files] == ["model.bin"]


def test_remove_refuses_what_is_in_use_and_what_it_did_not_install(models: Path) -> None:
    directory = accepted(models)
    with pytest.raises(StoreError, match="ours is in use by a running engine; stop that engine first"):
        Store(models).remove("ours", {"ours"})
    assert Store(models).remove("ours") > 0
    assert not directory.exists()
    with pytest.raises(StoreError, match="is not there, so nothing was removed"):
        Store(models).remove("ours")
    (models / "byhand").mkdir()
    with pytest.raises(StoreError, match="was not put there by the store; delete it yourself"):
        Store(models).remove("byhand")
    for name in ("..", "../models", "/", "", "."):
        with pytest.raises(StoreError):
            Store(models).remove(name)
    assert models.exists()


def test_remove_while_it_is_being_installed_is_refused(models: Path) -> None:
    accepted(models)
    with Store(models)._exclusive("ours"), pytest.raises(StoreError, match="being installed by another process"):
        Store(models).remove("ours")
