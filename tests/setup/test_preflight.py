"""Each check refuses with one sentence that names the fix, and lets a good machine pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance_setup import preflight
from appliance_setup.errors import SetupError


def test_this_machine_passes() -> None:
    preflight.check_machine(gpu=False)


def test_another_python_is_named() -> None:
    with pytest.raises(
        SetupError, match=r"this is Python 3\.12\.1 and the appliance needs 3\.11; name one with PYTHON="
    ):
        preflight.check_python((3, 12, 1))


@pytest.mark.parametrize(
    ("system", "machine", "libc", "says"),
    [
        ("darwin", "arm64", ("", ""), "this machine is darwin on arm64"),
        ("linux", "aarch64", ("glibc", "2.36"), "this machine is linux on aarch64"),
        ("linux", "x86_64", ("", ""), "no glibc"),
        ("linux", "x86_64", ("glibc", "2.17"), "glibc 2.17"),
    ],
)
def test_another_platform_is_named(system: str, machine: str, libc: tuple[str, str], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        preflight.check_platform(system, machine, lambda: libc)


def test_a_processor_without_avx2_is_refused(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse4_2 avx\n")
    with pytest.raises(SetupError, match="no AVX2"):
        preflight.check_avx2(cpuinfo)
    cpuinfo.write_text("processor : 0\nflags : fpu sse4_2 avx avx2\n")
    preflight.check_avx2(cpuinfo)
    preflight.check_avx2(tmp_path / "hidden")


def test_a_missing_libnuma_names_the_apt_line() -> None:
    def absent(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(SetupError, match="apt-get install -y libnuma1"):
        preflight.check_libnuma(absent)


def test_a_small_disk_is_refused_with_both_sizes(tmp_path: Path) -> None:
    not_there_yet = tmp_path / "a" / "b"
    with pytest.raises(SetupError, match=r"has 1\.0 GiB free and this set-up needs 5\.0 GiB"):
        preflight.check_disk(not_there_yet, 5 * preflight.GIB, lambda _: preflight.GIB)
    preflight.check_disk(not_there_yet, 1)


def answer(code: int, out: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["nvidia-smi"], code, out, "")


def test_a_gpu_is_there_when_nvidia_smi_lists_one() -> None:
    assert preflight.gpu_answers(lambda _: answer(0, "580.95.05\n"))
    assert not preflight.gpu_answers(lambda _: answer(0, "\n"))
    assert not preflight.gpu_answers(lambda _: answer(9, "NVIDIA-SMI has failed\n"))


def test_a_hanging_nvidia_smi_is_no_gpu() -> None:
    def hang(command: list[str]) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 30)

    assert not preflight.gpu_answers(hang)


def test_an_old_driver_names_both_ways_out() -> None:
    with pytest.raises(SetupError, match=r"driver is 535\.183\.01 and CUDA 13 needs 580 .* APPLIANCE_SET=cpu"):
        preflight.gpu_answers(lambda _: answer(0, "535.183.01\n"))


def test_the_set_can_be_named() -> None:
    assert preflight.chosen_device({"APPLIANCE_SET": "cpu"}) == "cpu"
    assert preflight.chosen_device({"APPLIANCE_SET": "gpu"}) == "gpu"
    with pytest.raises(SetupError, match="APPLIANCE_SET is 'tpu'"):
        preflight.chosen_device({"APPLIANCE_SET": "tpu"})
