"""The kernels in Triton's interpreter against their references, and the references against plain words.

float32 and float16 only: the interpreter's bfloat16 is wrong. Full shapes and bfloat16 are ``make gpu-check``'s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What every case gave, from a process of its own: Triton decides when it is imported whether it interprets."""
    environ = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "kernels")}
    done = subprocess.run([sys.executable, str(HERE / "cases.py")], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


TOPK = [
    "one_row", "one_beam", "odd_width", "groups_beyond_the_vocabulary", "half", "many_rows", "forbidden", "forced",
    "forbidden_and_forced", "nan_and_infinite_rows", "all_dead", "ties", "small_tiles",
]  # fmt: skip


@pytest.mark.parametrize("case", TOPK)
def test_beam_topk_is_its_reference(interpreted: dict[str, Any], case: str) -> None:
    found = interpreted["topk"][case]
    assert found["same_numbers"], "a candidate is there in one and not in the other"
    assert found["largest_error"] < 2e-3
    assert found["same_places"] == 1.0
    assert found["ordered"]


@pytest.mark.parametrize("case", ["float32", "half", "odd_width", "one_position", "lengths_of_zero", "long", "pool"])
def test_beam_attention_is_its_reference(interpreted: dict[str, Any], case: str) -> None:
    assert interpreted["attention"][case]["largest_error"] < 2e-3
    assert interpreted["attention"][case]["finite"]


SOUNDS = [
    "whisper", "whisper_128", "whisper_8000_stereo", "whisper_44100", "whisper_48000_float", "conformer",
    "conformer_8000_float", "conformer_44100", "conformer_three_channels", "one_sample",
]  # fmt: skip


@pytest.mark.parametrize("case", SOUNDS)
def test_log_mel_is_its_reference(interpreted: dict[str, Any], case: str) -> None:
    found = interpreted["log_mel"][case]
    assert found["finite"] and found["largest_error"] < 1e-5
    assert found["spread"] > 1 or case == "one_sample"


def test_what_must_not_be_read_is_not_read(interpreted: dict[str, Any]) -> None:
    assert interpreted["poisoned"] == {"topk": True, "attention": True}


def test_the_reference_is_what_its_words_say() -> None:
    torch = pytest.importorskip("torch")
    sys.path.insert(0, str(ROOT / "kernels"))
    from appliance_kernels.beam_topk import reference

    hidden = torch.eye(2)[[0, 1, 0, 1]]  # two sentences of two beams
    weight = torch.tensor([[5.0, 0.0], [1.0, 4.0], [0.0, 3.0], [2.0, 2.0], [9.0, 9.0]])
    running = torch.tensor([0.0, -1.0, -torch.inf, 0.0])
    forbidden, forced = torch.tensor([4]), torch.tensor([-1, 2, -1, -1])
    scores, beams, tokens = reference(hidden, weight, running, 2, forbidden, forced)
    first = torch.tensor([5.0, 1.0, 0.0, 2.0]).log_softmax(0)
    second = torch.tensor([0.0, 4.0, 3.0, 2.0]).log_softmax(0)
    assert tokens[0].tolist() == [0, 2, 3, 1] and beams[0].tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(scores[0], torch.stack([first[0], second[2] - 1, first[3], first[1]]))
    assert beams[1].tolist() == [1, 1, 1, 1] and tokens[1].tolist() == [1, 2, 3, 0]


def test_shapes_that_do_not_fit_are_one_sentence() -> None:
    torch = pytest.importorskip("torch")
    sys.path.insert(0, str(ROOT / "kernels"))
    from appliance_kernels.beam_topk import beam_topk

    none = torch.empty(0, dtype=torch.int64)
    for rows, width, beams, words in ((5, 8, 2, "no whole number of sentences"), (4, 7, 2, "7 wide and the weights 8")):
        with pytest.raises(ValueError, match=words):
            beam_topk(torch.zeros(rows, width), torch.zeros(9, 8), torch.zeros(rows), beams, none, torch.zeros(rows))
    with pytest.raises(ValueError, match="has no 6 continuations"):
        beam_topk(torch.zeros(3, 8), torch.zeros(5, 8), torch.zeros(3), 3, none, torch.zeros(3))


def test_the_gpu_check_walks_through_on_a_cpu(tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / "kernels/gpu_check.py"), "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = tmp_path.glob("gpu-check-*.json")
    results = json.loads(path.read_text())
    assert {"machine", "correct", "correct_attention", "correct_log_mel", "log_mel", "speed", "steps"} <= results.keys()
    assert results["correct_runner"]["same"] == results["correct_runner"]["sentences"] == 12
    assert 0 < results["correct_runner"]["ended_by_themselves"] <= 12
    assert results["correct_runner"]["plain_side_writes_the_same"] == 1.0
    for entry in results["end_to_end_200M"]:
        for side in ("plain", "runner"):
            assert entry[side]["sentences_s"] > 0 and entry[side]["p95_ms"] >= entry[side]["p50_ms"] > 0
    assert not any(isinstance(found, (dict, str)) and "failed" in found for found in results.values())
