"""What a search turns is what the hosts take: every value of every knob goes through its host's own command line."""

from __future__ import annotations

import argparse

import pytest

from appliance.hosts import translate_serve, whisper_serve
from appliance_bench import knobs

HOSTS = {
    "translate": (translate_serve.parser, ["--socket", "s", "--model", "m=/m"]),
    "transcribe": (whisper_serve.parser, ["--socket", "s", "--model-dir", "/m", "--model-name", "m"]),
}


def accepted(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(argv)
    except SystemExit:
        pytest.fail(f"refused: {argv}")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("task", list(HOSTS))
def test_every_value_of_every_knob_is_taken_by_its_host(task: str, gpu: bool) -> None:
    make, needed = HOSTS[task]
    of = knobs.knobs(task, 4, gpu)
    plain = vars(accepted(make(), needed))
    for name, values in of.space.items():
        seen = set()
        for value in values:
            argv = knobs.arguments(((name, value),))
            assert argv, f"{name} becomes no argument"
            parsed = vars(accepted(make(), [*needed, *argv]))
            assert parsed.keys() == plain.keys()
            seen.add(tuple(map(str, parsed.values())))
        assert len(seen) == len(values), f"{name}: two of {values} come to the same"


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("task", list(HOSTS))
def test_what_is_called_shipped_is_the_hosts_default(task: str, gpu: bool) -> None:
    """Beams, waits and lengths as the parser has them; sizes that depend on the machine are its ``shape``'s."""
    make, needed = HOSTS[task]
    shipped = dict(knobs.knobs(task, 4, gpu).shipped)
    told = vars(accepted(make(), [*needed, *knobs.arguments(tuple(shipped.items()))]))
    plain = vars(accepted(make(), needed))
    for name in ("beams", "max_wait_ms", "buckets"):
        assert told.get(name) == plain.get(name), name
    if task == "transcribe":
        how = whisper_serve.shape("cuda" if gpu else "cpu", "", 4, 0)
        assert (how.workers, how.max_batch, how.compute_type) == (
            shipped["workers"],
            shipped["max_batch"],
            shipped["compute_type"],
        )


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("task", ["translate", "transcribe", "chat"])
def test_defaults_and_hints_lie_in_the_space(task: str, gpu: bool) -> None:
    of = knobs.knobs(task, 4, gpu)
    for which in (of.shipped, of.own, *of.hints):
        for name, value in which:
            assert value in of.space[name] or (gpu and which == of.own) or name == "workers", (name, value)
