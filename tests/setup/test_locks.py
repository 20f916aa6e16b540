"""What the committed locks promise: pinned to the last digit, consistent, and of no particular machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance_setup.compile import with_cpu_torch
from appliance_setup.locks import SETS, blocks, digest, pins

LOCKS = Path(__file__).resolve().parents[2] / "locks"
FILES = ["cpu.txt", "cpu-pypi.txt", "gpu.txt", "dev.txt", "bootstrap.txt"]


def read(name: str) -> str:
    return (LOCKS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    entries = blocks(read(name))
    assert entries
    for package, entry in entries.items():
        assert re.fullmatch(r"\S+==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", entry), package


@pytest.mark.parametrize("name", [*FILES, "bootstrap.in", "torch-cpu.in"])
def test_no_lock_knows_a_machine_or_a_host(name: str) -> None:
    text = read(name)
    for mark in ("://", "find-links", "index-url", "file:", " @ ", "/"):
        assert mark not in text, mark


def test_nothing_that_breaks_beside_cpu_torch_is_in_a_cpu_lock() -> None:
    for name in ("cpu.txt", "cpu-pypi.txt"):
        assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & set(pins(read(name)))


def test_cpu_torch_needs_no_cuda() -> None:
    found = pins(read("cpu.txt"))
    assert found["torch"] == "2.13.0+cpu"
    assert not [name for name in found if name.startswith(("nvidia-", "cuda-"))]


def test_both_cpu_sets_are_the_same_but_for_torch_and_cuda() -> None:
    plain, pypi = pins(read("cpu.txt")), pins(read("cpu-pypi.txt"))
    assert pypi["torch"] == "2.13.0"
    assert {n: v for n, v in plain.items() if n != "torch"} == {
        n: v for n, v in pypi.items() if n != "torch" and not n.startswith(("nvidia-", "cuda-"))
    }


def test_the_gpu_set_has_one_onnxruntime_and_the_cublas_of_ctranslate2() -> None:
    found = pins(read("gpu.txt"))
    assert found["vllm"] == "0.32.0"
    assert "onnxruntime-gpu" in found and "onnxruntime" not in found
    assert "nvidia-cublas-cu12" in found
    # Both builds of cuDNN 9 install nvidia/cudnn/lib/libcudnn.so.9, so only torch's may be there.
    assert "nvidia-cudnn-cu13" in found and "nvidia-cudnn-cu12" not in found


@pytest.mark.parametrize("package_set", [s.lock for s in SETS.values()])
def test_the_tools_agree_with_every_set(package_set: str) -> None:
    tools, engines = pins(read("dev.txt")), pins(read(package_set))
    assert {n: (v, engines[n]) for n, v in tools.items() if engines.get(n, v) != v} == {}
    assert {"pytest", "mypy", "ruff"} <= set(tools)


def test_setuptools_is_locked_for_the_build_without_isolation() -> None:
    for package_set in SETS.values():
        version = pins(read(package_set.lock))["setuptools"]
        assert int(version.split(".")[0]) >= 77  # the first that knows SPDX licences in pyproject.toml


def test_cpu_torch_takes_the_place_of_pypis() -> None:
    entry = "{} \\\n    --hash={}\n".format
    pypi = "# head\n" + entry("a==1", "x") + entry("nvidia-b==1", "y") + entry("torch==2.0", "z") + entry("w==1", "v")
    text = with_cpu_torch(pypi, "# kept by hand\ntorch==2.0+cpu \\\n    --hash=q\n")
    assert pins(text) == {"a": "1", "torch": "2.0+cpu", "w": "1"}
    assert "--hash=q\nw==1" in text


def test_the_digest_follows_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    assert digest([one]) != digest([two])
    before = digest([one, two])
    two.write_text("b")
    assert digest([one, two]) != before
