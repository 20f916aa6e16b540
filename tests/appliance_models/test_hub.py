"""Pulls from a hub by the real client, against a server that speaks its protocol, and everything that goes wrong."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub
import msgspec
import pytest
from modelshop import Recorder, sha
from support import wait_until

from appliance_models import listing, manifest
from appliance_models.entry import File, Hub, Model
from appliance_models.errors import StoreError, WrongBytes
from appliance_models.fake_hub import FakeHub
from appliance_models.hub import PIECE_BYTES
from appliance_models.hub import Hub as Client
from appliance_models.store import Store

WEIGHTS = random.Random(1).randbytes(3_000_000)
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "README.md": b"not wanted",
    ".gitattributes": b"*.bin lfs",
    "model.bin": WEIGHTS,
    "assets/vocab.json": b"[]",
}
MODEL = Model(
    name="tiny",
    title="Tiny",
    task="chat",
    engine="vllm",
    licence="MIT",
    languages=("eng_Latn",),
    hub=Hub(repo="us/tiny", include=("config.json", "*.bin", "assets/*")),
)


@dataclass
class Place:
    """One hub, one store."""

    hub: FakeHub
    store: Store
    progress: Recorder

    @property
    def directory(self) -> Path:
        return self.store.models_dir / "tiny"

    def left(self) -> list[str]:
        return sorted(p.name for p in self.store.models_dir.iterdir() if not p.name.endswith(".lock"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    # the client waits a second before it goes on with a connection that was cut
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub() as hub:
        hub.repo("us/tiny", FILES)
        progress = Recorder()
        yield Place(hub, Store(tmp_path / "models", progress, hub=Client(hub.endpoint)), progress)


def with_hub(**changes: object) -> Model:
    assert MODEL.hub is not None
    return msgspec.structs.replace(MODEL, hub=msgspec.structs.replace(MODEL.hub, **changes))


def test_only_wanted_files_come_and_are_pinned_to_a_commit(place: Place) -> None:
    assert place.store.ensure(MODEL) == place.directory
    found = manifest.read(place.directory)
    assert found is not None and found.origin is not None
    assert {entry.path: entry.sha256 for entry in found.files} == {
        name: sha(FILES[name]) for name in ("assets/vocab.json", "config.json", "model.bin")
    }
    assert found.origin.commit == place.hub.repos["us/tiny"].revisions["main"]
    assert place.left() == ["tiny"]
    place.hub.seen.clear()
    place.store.ensure(MODEL)
    assert not place.hub.seen


def test_the_real_client_takes_the_fake_for_a_hub(place: Place, tmp_path: Path) -> None:
    there = huggingface_hub.snapshot_download(
        "us/tiny", endpoint=place.hub.endpoint, local_dir=tmp_path / "snapshot", token=False
    )
    assert (Path(there) / "model.bin").read_bytes() == WEIGHTS
    assert (Path(there) / "assets/vocab.json").read_bytes() == b"[]"


def test_a_connection_that_is_cut_is_gone_on_with(place: Place) -> None:
    place.hub.faults.cut["model.bin"] = 4
    place.hub.faults.cut_after_bytes = 500_000
    place.store.ensure(MODEL)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS
    assert place.hub.sent["model.bin"] < len(WEIGHTS) + 4 * PIECE_BYTES, "no more came twice than a piece each time"


def test_a_hub_without_ranges_begins_the_file_anew(place: Place) -> None:
    place.hub.faults.cut["model.bin"] = 1
    place.hub.faults.cut_after_bytes = 1_000_000
    place.hub.faults.ignore_ranges = True
    place.store.ensure(MODEL)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize("fault", ["corrupt", "short"])
def test_wrong_bytes_are_thrown_away_and_fetched_again(place: Place, fault: str) -> None:
    getattr(place.hub.faults, fault)["model.bin"] = 2
    getattr(place.hub.faults, fault)["config.json"] = 1
    place.store.ensure(MODEL)
    manifest.verify(place.directory)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS


def test_a_source_that_only_gives_wrong_bytes_is_refused_and_nothing_is_installed(place: Place) -> None:
    place.hub.faults.corrupt["model.bin"] = 9
    with pytest.raises(StoreError, match=r"us/tiny gave model\.bin with other bytes than it should have, 3 times"):
        place.store.ensure(MODEL)
    assert not place.directory.exists()
    place.hub.faults.corrupt.clear()
    place.store.ensure(MODEL)
    assert place.left() == ["tiny"]


def test_a_damaged_installation_is_refused_and_only_the_damage_is_fetched(place: Place) -> None:
    place.store.ensure(MODEL)
    (place.directory / "config.json").write_bytes(b'{"model_type": "evil"}')
    assert place.store.verify(MODEL) == ["config.json has other bytes than were installed"]
    assert not place.store.installed(MODEL)
    place.hub.seen.clear()
    place.store.ensure(MODEL)
    assert [path for (_, what, path) in place.hub.seen if what == "resolve"] == ["config.json"]
    assert place.store.verify(MODEL) == []
    assert place.store.installed(MODEL)


def test_damage_is_mended_from_the_pinned_commit_though_the_branch_moved_on(place: Place) -> None:
    place.store.ensure(MODEL)
    place.hub.repos["us/tiny"].commit({**FILES, "model.bin": WEIGHTS + b"2"})
    (place.directory / "model.bin").write_bytes(b"cut off")
    place.store.ensure(MODEL)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS
    place.store.ensure(MODEL, update=True)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS + b"2"


def test_a_hub_that_changes_what_a_commit_holds_is_refused(place: Place) -> None:
    place.store.ensure(MODEL)
    repo = place.hub.repos["us/tiny"]
    repo.commits[repo.revisions["main"]]["model.bin"] = WEIGHTS[:-1] + b"2"
    (place.directory / "model.bin").write_bytes(b"cut off")
    with pytest.raises(WrongBytes, match=r"model\.bin has other bytes there than were pinned at .*--update"):
        place.store.ensure(MODEL)
    assert (place.directory / "model.bin").read_bytes() == b"cut off"
    place.store.ensure(MODEL, update=True)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS[:-1] + b"2"


def test_a_commit_that_is_gone_is_named(place: Place) -> None:
    place.store.ensure(MODEL)
    repo = place.hub.repos["us/tiny"]
    gone = repo.revisions["main"]
    repo.commits.clear()
    repo.commit({**FILES, "config.json": b"[]"})
    (place.directory / "config.json").unlink()
    with pytest.raises(StoreError, match=f"commit {gone} is gone from us/tiny .*--update"):
        place.store.ensure(MODEL)


def test_what_the_catalogue_pins_has_to_come(place: Place) -> None:
    pinned = msgspec.structs.replace(MODEL, files=(File(to="config.json", sha256="0" * 64),))
    with pytest.raises(StoreError, match=r"config\.json with other bytes"):
        place.store.ensure(pinned)
    known = msgspec.structs.replace(MODEL, files=(File(to="model.bin", sha256="0" * 64),))
    with pytest.raises(WrongBytes, match="the catalogue pins"):
        place.store.ensure(known)


def test_a_catalogue_that_learns_another_hash_later_wants_the_model_again(place: Place) -> None:
    place.store.ensure(MODEL)
    right = msgspec.structs.replace(MODEL, files=(File(to="model.bin", sha256=sha(WEIGHTS)),))
    wrong = msgspec.structs.replace(MODEL, files=(File(to="model.bin", sha256="0" * 64),))
    assert place.store.installed(right)
    assert not place.store.installed(wrong)


def test_a_small_disk_is_refused_with_both_numbers(place: Place) -> None:
    store = replace(place.store, free_bytes=lambda _: 50_000_000)
    with pytest.raises(StoreError, match=r"tiny needs 103 MB and .* has 50 MB free"):
        store.ensure(MODEL)
    assert not place.hub.sent


def test_a_disk_that_fills_up_meanwhile_keeps_what_came(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("appliance_models.hub._Watched.write", full)
        with pytest.raises(StoreError, match=r"the disk filled up while .* came; .* are kept; free some space"):
            place.store.ensure(MODEL)
    place.store.ensure(MODEL)


def test_no_network_is_one_sentence_that_names_the_ways_out(place: Place) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        store = replace(place.store, hub=Client(endpoint))
        with pytest.raises(
            StoreError, match=r"cannot be reached for us/tiny .*HF_ENDPOINT to a mirror.*--from DIR"
        ) as e:
            store.ensure(MODEL)
    assert "\n" not in str(e.value)


def test_a_hub_that_is_down_says_what_is_kept(place: Place) -> None:
    place.hub.faults.unavailable["model.bin"] = 99
    with pytest.raises(StoreError, match=r"answered 503 for us/tiny; 0 MB of model\.bin are kept; .* later"):
        place.store.ensure(MODEL)


def test_an_unknown_revision_names_it(place: Place) -> None:
    with pytest.raises(StoreError, match=r"us/tiny has no revision 'v9' at http"):
        place.store.ensure(with_hub(revision="v9"))


def test_a_tag_is_followed(place: Place) -> None:
    place.hub.repos["us/tiny"].commit({**FILES, "config.json": b"{}"}, "v1")
    place.store.ensure(with_hub(revision="v1"))
    assert (place.directory / "config.json").read_bytes() == b"{}"


def test_a_file_that_is_not_there_any_more_is_named(place: Place) -> None:
    with pytest.raises(StoreError, match=r"has no vocabulary\.txt at revision 'main'"):
        place.store.ensure(with_hub(include=("config.json", "vocabulary.txt")))


def test_the_second_of_two_formats_is_taken_where_the_first_is_not(place: Place) -> None:
    place.store.ensure(with_hub(include=("config.json", "*.safetensors|model.bin")))
    assert (place.directory / "model.bin").exists()


def test_a_file_removed_between_two_runs_is_named(place: Place) -> None:
    promised = listing.hold(place.store.hub.listing(MODEL), MODEL, {})
    listing.write(promised, place.store.models_dir / ".pull-tiny" / "listing.json")
    files = place.hub.repos["us/tiny"].commits[promised.origin.commit]
    del files["model.bin"]
    with pytest.raises(StoreError, match=r"model\.bin was removed from us/tiny .*--update"):
        place.store.ensure(MODEL)


def test_a_renamed_repository_is_followed(place: Place) -> None:
    place.hub.renamed["old/tiny"] = "us/tiny"
    place.store.ensure(with_hub(repo="old/tiny"))
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS


def test_a_hub_that_names_no_sizes_is_refused(place: Place) -> None:
    place.hub.faults.no_sizes = True
    with pytest.raises(StoreError, match=r"names no size for assets/vocab\.json; set HF_ENDPOINT to one that does"):
        place.store.ensure(MODEL)
    assert not place.directory.exists()


def test_a_name_that_leaves_the_directory_is_never_taken(place: Place) -> None:
    place.hub.repos["us/tiny"].commit({**FILES, "assets/x/../../../evil": b"x", "assets/.git/config": b"x"})
    place.store.ensure(MODEL)
    assert sorted(p.name for p in (place.directory / "assets").iterdir()) == ["vocab.json"]
    assert not (place.store.models_dir / "evil").exists()


def test_a_repository_cannot_bring_the_stores_own_manifest(place: Place) -> None:
    place.hub.repos["us/tiny"].commit({**FILES, "manifest.json": b"{}"})
    place.store.ensure(with_hub(include=("*.json", "*.bin")))
    assert "manifest.json" not in {path for _, what, path in place.hub.seen if what == "resolve"}
    assert place.store.verify(MODEL) == []


def test_an_odd_name_is_refused(place: Place) -> None:
    place.hub.repos["us/tiny"].commit({**FILES, "assets/new\nline": b"x"})
    with pytest.raises(StoreError, match=r"'assets/new\\nline', which is refused as a path"):
        place.store.ensure(MODEL)


# access


def test_a_gated_model_says_how_to_get_access(place: Place) -> None:
    place.hub.repos["us/tiny"].gated = True
    with pytest.raises(StoreError, match=r"is gated: open http.*/us/tiny in a browser.*settings/tokens.*HF_TOKEN"):
        place.store.ensure(MODEL)
    place.hub.known.add("hf_known")
    with pytest.raises(StoreError, match=r"no access to it yet; open http.*ask for access"):
        replace(place.store, hub=Client(place.hub.endpoint, "hf_known")).ensure(MODEL)


def test_a_token_opens_it_and_never_leaves_for_another_host(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.hub.repos["us/tiny"].gated = True
    place.hub.granted.add("hf_secret")
    client = Client(place.hub.endpoint, "hf_secret")
    caplog.set_level("DEBUG")
    replace(place.store, hub=client).ensure(MODEL)
    assert place.hub.leaked == []
    assert "hf_secret" not in repr(client) + caplog.text + (place.directory / "manifest.json").read_text()


def test_a_token_that_is_wrong_and_a_repository_that_is_not_there(place: Place) -> None:
    with pytest.raises(StoreError, match="does not accept this token; check HF_TOKEN"):
        replace(place.store, hub=Client(place.hub.endpoint, "hf_wrong")).ensure(MODEL)
    with pytest.raises(
        StoreError, match=r"no repository us/none for you \(401\); check its name, or it may need a tok"
    ):
        place.store.ensure(with_hub(repo="us/none"))


def test_the_environment_names_hub_and_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hf_file\n")
    assert Client.of({}) == Client("https://huggingface.co", "")
    assert Client.of({"HF_ENDPOINT": "http://mirror/", "HF_TOKEN": "hf_a"}) == Client("http://mirror", "hf_a")
    assert Client.of({"HF_TOKEN_PATH": str(path)}).token == "hf_file"
    with pytest.raises(StoreError, match=r"HF_TOKEN_PATH names .*none, which cannot be read: No such file"):
        Client.of({"HF_TOKEN_PATH": str(tmp_path / "none")})


def test_an_address_without_a_scheme_and_a_page_that_is_no_hub(place: Place) -> None:
    with pytest.raises(StoreError, match=r"HF_ENDPOINT is 'mirror'; write an address such as https"):
        Client.of({"HF_ENDPOINT": "mirror"})
    place.hub.faults.garbage = True
    with pytest.raises(StoreError, match=r"does not answer as a model hub for us/tiny; check HF_ENDPOINT"):
        place.store.ensure(MODEL)


def test_offline_is_said(place: Place, tmp_path: Path) -> None:
    recipe = tmp_path / "model.json"
    recipe.write_bytes(msgspec.json.encode(MODEL))
    command = [sys.executable, "-c", RUNNER, str(recipe), str(place.store.models_dir), place.hub.endpoint]
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert "HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, or import with --from DIR" in done.stderr


def test_signed_addresses_are_never_shown(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.hub.faults.unavailable["model.bin"] = 99
    with pytest.raises(StoreError) as refused:
        place.store.ensure(MODEL)
    assert "s3cr3t" not in str(refused.value) + caplog.text


# interruptions

RUNNER = """\
import sys, msgspec
from pathlib import Path
from appliance_models.entry import Model
from appliance_models.hub import Hub
from appliance_models.store import Store
model = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Model)
Store(Path(sys.argv[2]), hub=Hub(sys.argv[3])).ensure(model)
"""


def start(place: Place, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Another process that pulls the same model."""
    recipe = tmp_path / "model.json"
    recipe.write_bytes(msgspec.json.encode(MODEL))
    command = [sys.executable, "-c", RUNNER, str(recipe), str(place.store.models_dir), place.hub.endpoint]
    return subprocess.Popen(command, env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"})


def test_killed_at_random_it_goes_on_and_ends_right(place: Place, tmp_path: Path) -> None:
    dice = random.Random(20261125)
    points = sorted(dice.randrange(len(WEIGHTS)) for _ in range(5))
    assert points[-1] > 2 * PIECE_BYTES
    part = place.store.models_dir / ".pull-tiny" / "parts" / "model.bin"
    for round_, point in enumerate(points, 1):
        place.hub.faults.held["model.bin"] = point
        process = start(place, tmp_path)
        wait_until(lambda n=round_: place.hub.faults.holding["model.bin"] == n, 30, "the hub waits")
        # what the client has written by then is anything from nothing to all of it; once it has to be something
        if point == points[-1]:
            wait_until(lambda: part.exists() and part.stat().st_size > 0, 30, "bytes are written")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not place.directory.exists()
    place.hub.faults.held.clear()
    place.hub.faults.gate.set()
    assert start(place, tmp_path).wait(60) == 0
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS
    manifest.verify(place.directory)
    assert place.left() == ["tiny"]
    begun = [first for path, first in place.hub.asked if path == "model.bin"]
    assert begun == sorted(begun) and begun[-1] > 0, f"every run goes on where the one before was killed: {begun}"


@pytest.mark.parametrize("step", ["manifest", "flush", "publish"])
def test_killed_while_it_is_finished_the_next_run_ends_right(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    name = {"manifest": "appliance_models.manifest.write", "flush": "appliance_models.store._flush"}.get(step)
    with monkeypatch.context() as patch:
        if name:
            patch.setattr(name, die)
        else:
            patch.setattr("appliance_models.store.os.rename", die)
        with pytest.raises(Killed):
            place.store.ensure(MODEL)
    assert not place.store.installed(MODEL)
    place.hub.sent.clear()
    place.store.ensure(MODEL)
    assert not place.hub.sent, "what had arrived was used"
    assert place.left() == ["tiny"]


def test_a_half_file_with_wrong_bytes_is_found_at_its_end(place: Place) -> None:
    part = place.store.models_dir / ".pull-tiny" / "parts" / "model.bin"
    promised = listing.hold(place.store.hub.listing(MODEL), MODEL, {})
    listing.write(promised, part.parent.parent / "listing.json")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 1_000_000)
    place.store.ensure(MODEL)
    assert (place.directory / "model.bin").read_bytes() == WEIGHTS


def test_two_pulls_at_once_fetch_once(place: Place, tmp_path: Path) -> None:
    place.hub.faults.held["model.bin"] = 1_000_000
    first = start(place, tmp_path)
    wait_until(lambda: place.hub.sent["model.bin"] >= 1_000_000, 30, "the first one pulls")
    waits = threading.Event()
    place.progress.on_step = lambda text: waits.set() if "waiting for another process" in text else None
    second = threading.Thread(target=lambda: place.store.ensure(MODEL))
    second.start()
    assert waits.wait(20)
    place.hub.faults.gate.set()
    second.join(60)
    assert first.wait(60) == 0
    assert place.hub.sent["model.bin"] == len(WEIGHTS)
    assert place.store.installed(MODEL)


def test_ctrl_c_leaves_what_came(place: Place) -> None:
    def interrupt(text: str) -> None:
        if "downloading" in text:
            raise KeyboardInterrupt

    place.progress.on_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        place.store.ensure(MODEL)
    assert place.store.begun(MODEL)
    place.progress.on_step = None
    place.store.ensure(MODEL)
    assert not place.store.begun(MODEL)
