"""What nvidia-smi and the kernel say, as values; recordings are in ``hardware/``."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.supervisor import hardware
from appliance.supervisor.hardware import Cgroup, Recording, Unreadable

RECORDINGS = Path(__file__).parent / "hardware"
MIB = 1024 * 1024
MEMINFO = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 800 kB\n"


def recording(**fields: object) -> Recording:
    return msgspec.convert({"note": "test", "meminfo": MEMINFO, "cores": 2, **fields}, Recording)


def machine(name: str) -> hardware.Hardware:
    return hardware.parse(hardware.load(RECORDINGS / f"{name}.json"))


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_recording_says_where_it_comes_from_and_parses(path: Path) -> None:
    found = hardware.load(path)
    assert "ecorded" in found.note
    assert hardware.parse(found).ram_free_bytes > 0


def test_a_gpu_with_a_strangers_process() -> None:
    (gpu,) = machine("stranger-24gb").gpus
    assert (gpu.name, gpu.total_bytes, gpu.free_bytes) == ("NVIDIA L4", 23034 * MIB, 13152 * MIB)
    assert gpu.processes == (hardware.GpuProcess(4711, "/usr/bin/python3", 9408 * MIB),)


def test_a_process_whose_memory_the_driver_does_not_tell() -> None:
    gpus = "0, GPU-a, NVIDIA L4, 23034, 9417, 13152, [N/A]\n"
    found = hardware.parse(recording(gpus=gpus, gpu_processes="GPU-a, 12, [Not Found], [N/A]\n"))
    assert found.gpus[0].processes == (hardware.GpuProcess(12, "[Not Found]", None),)


def test_a_name_with_a_comma_is_quoted_by_csv_rules() -> None:
    found = hardware.parse(recording(gpus='0, GPU-a, "A, B",100, 1, 99, [N/A]\n'.replace(', "', ',"')))
    assert found.gpus[0].name == "A, B"


def test_divided_and_hidden_gpus_are_named_and_not_counted() -> None:
    gpus = "".join(f"{i}, GPU-{i}abcdef, X, 100, 0, 100, {'Enabled' if i == 1 else 'Disabled'}\n" for i in range(4))
    found = hardware.parse(recording(gpus=gpus), visible="3,GPU-0abc")
    assert [gpu.index for gpu in found.gpus] == [0, 3]
    assert "GPU 1 is divided by MIG" in found.notes[0] and "GPU 2 is hidden" in found.notes[1]
    assert hardware.parse(recording(gpus=gpus), visible="").gpus == ()


def test_a_broken_driver_is_a_note_and_no_gpu() -> None:
    def broken(query: str) -> str:
        raise Unreadable("nvidia-smi ended with exit code 9 (no driver)")

    found = hardware.parse(hardware.record("test", smi=broken))
    assert found.gpus == ()
    assert "exit code 9" in found.notes[0] and "no GPU is counted" in found.notes[0]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"gpus": "0, GPU-a, X, 100\n"}, "gave 4 columns where 7 were asked"),
        ({"gpus": "0, GPU-a, X, [N/A], 0, 0, [N/A]\n"}, "does not say how much memory GPU 0"),
        ({"meminfo": "MemTotal: 5 kB\n"}, "MemAvailable"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(Unreadable, match=complaint):
        hardware.parse(recording(**fields))


def test_a_file_that_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"gpu": 3}')
    with pytest.raises(Unreadable, match=r"is no recording of a machine: .*--record"):
        hardware.load(path)


def test_the_tightest_control_group_counts_and_cached_files_do_not() -> None:
    found = machine("none-cgroup")
    assert found.ram_limit_bytes == 8 << 30
    assert found.ram_free_bytes == (8 << 30) - (1 << 30)  # 2 GiB used, of which 1 GiB could be dropped
    assert found.limited_by == "/"
    groups = (Cgroup("/a/b", "max", "5"), Cgroup("/a", "600000", "500000"), Cgroup("/", str((1 << 63) - 4096), "9"))
    nested = hardware.parse(recording(cgroups=groups))
    assert (nested.ram_limit_bytes, nested.ram_free_bytes, nested.limited_by) == (600_000, 100_000, "/a")


@pytest.mark.parametrize("version", [1, 2])
def test_the_files_of_both_versions_are_read_from_this_process_up(tmp_path: Path, version: int) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    line, base, names = {
        1: ("4:memory:/job", "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
        2: ("0::/job", "sys/fs/cgroup", ("memory.max", "memory.current")),
    }[version]
    (tmp_path / "proc/self/cgroup").write_text(f"9:cpu:/other\n{line}\n")
    for path, limit in (("job", "700000"), ("", "max")):
        directory = tmp_path / base / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / names[0]).write_text(f"{limit}\n")
        (directory / names[1]).write_text("300000\n")
        (directory / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    found = hardware.parse(hardware.record("test", root=tmp_path))
    assert (found.ram_limit_bytes, found.ram_free_bytes, found.limited_by) == (700_000, 500_000, "/job")


def test_this_machine() -> None:
    found = hardware.parse(hardware.record("test"))
    assert 0 < found.ram_free_bytes <= found.ram_limit_bytes and found.cores >= 1


def test_a_recording_survives_its_file(tmp_path: Path) -> None:
    made = hardware.record("test")
    (tmp_path / "x.json").write_bytes(msgspec.json.encode(made))
    assert hardware.load(tmp_path / "x.json") == made
