"""Capacity: boxes grow with load and never shrink, money is arithmetic, and what cannot be answered is said."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_bench import capacity, costs, mix, sizing
from appliance_bench.fingerprint import fingerprint
from appliance_bench.records import RecordError
from appliance_bench.stations import Places, Steps

KIND = """
about = "one kind"
[[kinds]]
name = "k"
share = 1
turns = 2
steps = ["chat"]
prompt_tokens = 100
answer_tokens = 20
hosted = 0.1
may_leave = true
slo = { e2e_ms = 1000 }
"""
PROFILE = """
name = "four places"
evidence = ["run-1"]
[service.chat]
kind = "places"
places = 4
unit_ms = 10
[somebody.elses]
table = 1
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def one_kind(tmp_path: Path) -> mix.Mix:
    return mix.load_mix(write(tmp_path / "mix.toml", KIND))


@pytest.fixture
def profile(tmp_path: Path) -> capacity.Profile:
    return capacity.load_profile([write(tmp_path / "profile.toml", PROFILE)], tmp_path)[0]


@pytest.fixture
def found(profile: capacity.Profile, one_kind: mix.Mix) -> sizing.Carried:
    return sizing.carried(capacity.box_of(profile), one_kind, within=0.95, turns=800)


def test_a_box_carries_a_bit_less_than_its_engine_could(found: sizing.Carried, one_kind: mix.Mix) -> None:
    # four places of 200 ms each are 20 turns a second, 10 conversations; the SLO leaves room for five such answers
    assert 7.5 < found.per_s < 10
    assert found.there.worst >= 0.95
    assert 0.75 < found.there.busy <= 1
    # on the way, more load never meant more turns within, beyond the noise of some hundred turns
    shares = [seen.within for seen in found.tried]
    assert all(later <= earlier + 0.03 for earlier, later in pairwise(shares))


def test_boxes_are_monotone_in_load(profile: capacity.Profile, one_kind: mix.Mix, found: sizing.Carried) -> None:
    needed, totals = [], []
    for a_day in (1, 10, 1e3, 1e5, 3e5, 1e6, 2e6, 2e6 + 1, 1e8):
        made = capacity.plan(profile, one_kind, capacity.load_costs(None), a_day, within=0.95, found=found)
        needed.append(made.needed)
        totals.append(made.options[-1].month.total_inr)
    assert needed == sorted(needed)
    assert needed[0] == 1
    assert totals == sorted(totals)
    # for a hundred times the load a hundred times the boxes, but for the rounding of one
    assert needed[-1] == pytest.approx(needed[-3] * 50, abs=50)


def test_many_sites_pay_for_not_helping_each_other(
    profile: capacity.Profile, one_kind: mix.Mix, found: sizing.Carried
) -> None:
    spent = capacity.load_costs(None)
    made = [capacity.plan(profile, one_kind, spent, 2e6, within=0.95, found=found, sites=n) for n in (1, 10, 1000)]
    total = [one.needed + one.spare for one in made]
    assert total == sorted(total)
    assert made[1].spare == 10
    assert made[2].needed == 1000, "a box each, however little it has to do"
    a_box = made[0].options[-1].month.servers_inr / total[0]
    assert float(made[2].options[-1].month.servers_inr) == pytest.approx(2000 * float(a_box))


def test_a_stricter_slo_never_carries_more(profile: capacity.Profile, one_kind: mix.Mix) -> None:
    strict = msgspec.structs.replace(
        one_kind, kinds=(msgspec.structs.replace(one_kind.kinds[0], slo={"e2e_ms": 400.0}),)
    )
    box = capacity.box_of(profile)
    carried = [sizing.carried(box, one, within=0.95, turns=800).per_s for one in (strict, one_kind)]
    assert carried[0] < carried[1]


def test_an_slo_that_nothing_meets_names_the_nearest(profile: capacity.Profile, one_kind: mix.Mix) -> None:
    kind = msgspec.structs.replace(one_kind.kinds[0], slo={"e2e_ms": 50.0}, spread=0.0)
    with pytest.raises(RecordError, match=r"no load meets the SLO.*'k'.*e2e_ms=50; the nearest .* is e2e_ms=20\d$"):
        sizing.carried(
            capacity.box_of(profile), msgspec.structs.replace(one_kind, kinds=(kind,)), within=0.9, turns=400
        )


def test_engines_without_a_limit_are_no_profile(one_kind: mix.Mix) -> None:
    free = capacity.Profile("free", {"chat": Places(1)})
    with pytest.raises(RecordError, match="its engines take no time"):
        sizing.carried(capacity.box_of(free), one_kind, within=0.95, turns=300)


def test_fewer_boxes_send_the_rest_away_where_it_may_leave(
    profile: capacity.Profile, one_kind: mix.Mix, found: sizing.Carried
) -> None:
    spent = capacity.load_costs(None)
    hours = one_kind.per_hour(24 * 3600 * found.per_s * 2)  # two boxes' worth in every hour
    both = capacity.option(one_kind, spent, found, hours, 2)
    one = capacity.option(one_kind, spent, found, hours, 1)
    assert both.hosted_share == pytest.approx(0.1)
    assert one.hosted_share == pytest.approx(0.5 * 0.1 + 0.5)
    assert (one.late_share, both.late_share) == (0, 0)
    stays = msgspec.structs.replace(one_kind, kinds=(msgspec.structs.replace(one_kind.kinds[0], may_leave=False),))
    kept = capacity.option(stays, spent, found, hours, 1)
    assert kept.late_share == pytest.approx(0.5)
    assert kept.hosted_share == pytest.approx(0.1)


def test_a_month_is_arithmetic() -> None:
    given = costs.Costs(
        "a test",
        costs.Server(Decimal(4800), 48, Decimal(20), 1000, 200, Decimal(10), Decimal(80)),
        costs.Hosted("h", Decimal(1), Decimal(4)),
    )
    month = costs.month(given, 3, [0.5] * 24, 1e6, 5e5)
    assert month.servers_inr == 3 * (100 + 20) * 80
    assert month.energy_inr == 3 * Decimal("14.4") * Decimal("30.4375") * 10
    assert month.hosted_inr == (1 + 2) * Decimal("30.4375") * 80
    assert month.total_inr == month.servers_inr + month.energy_inr + month.hosted_inr


@pytest.mark.parametrize(("amount", "shown"), [("0", "₹0"), ("999.5", "₹1,000"), ("123456.4", "₹1,23,456"),
                                               ("98765432101", "₹98,76,54,32,101")])  # fmt: skip
def test_rupees_are_grouped_as_in_india(amount: str, shown: str) -> None:
    assert costs.rupees(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"share": 'share = "much"'}, "not understood.*kinds"),
        ({"turns": "turns = 0"}, "turns"),
        ({"slo": "slo = { ttft_s = 1 }"}, "slo"),
        ({"steps": 'steps = ["sing"]'}, "steps"),
        ({"steps": 'steps = ["transcribe"]'}, "'k' passes through transcribe and says no audio_s"),
        ({"hosted": "hosted = 1.5"}, "hosted"),
        ({"share": "share = 0"}, "give one of them weight"),
        ({"name": 'unknown = 1\nname = "k"'}, "unknown"),
    ],
)
def test_a_mix_that_is_none_is_refused(change: dict[str, str], said: str, tmp_path: Path) -> None:
    lines = [change.get(line.split(" ")[0], line) for line in KIND.splitlines()]
    with pytest.raises(RecordError, match=said):
        mix.load_mix(write(tmp_path / "bad.toml", "\n".join(lines)))


def test_the_mixes_that_come_along_are_whole() -> None:
    for path in mix.MIXES.glob("*.toml"):
        loaded = mix.load_mix(path.stem)
        assert sum(kind.share for kind in loaded.kinds) == pytest.approx(1.0)
        assert loaded.turns >= 1
    with pytest.raises(RecordError, match=r"no file 'suport'; did you mean support\?"):
        mix.load_mix("suport")


def test_a_mix_is_drawn_as_it_says() -> None:
    import random

    loaded = mix.load_mix("support")
    rng = random.Random(2)
    drawn = [loaded.draw(rng) for _ in range(6000)]
    turns = [one for _, turns, _ in drawn for one in turns]
    assert len(turns) / len(drawn) == pytest.approx(loaded.turns, rel=0.03)
    pivot = [one for one in turns if one.kind == "whatsapp pivot"]
    assert [call.engine for call in pivot[0].calls] == ["translate", "chat", "translate"]
    kind = next(kind for kind in loaded.kinds if kind.name == "whatsapp pivot")
    assert sum(one.calls[2].units for one in pivot) / len(pivot) == pytest.approx(kind.answer_chars, rel=0.05)
    prompt = kind.prompt_tokens * (1 - kind.cached_share)
    assert sum(one.calls[1].prompt for one in pivot) / len(pivot) == pytest.approx(prompt, rel=0.05)


def test_a_profile_is_found_by_the_machine_it_was_measured_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MEASURED", tmp_path / "along")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "a-tuned-one.toml").write_text("[knobs]\nmax_num_seqs = 8\n")
    with pytest.raises(RecordError, match="no profile was measured on a machine like this one"):
        capacity.load_profile([], tmp_path)
    hardware = fingerprint()["hardware"]
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in hardware.items())
    (tmp_path / "profiles" / "mine.toml").write_text(f"{PROFILE}\n[fingerprint.hardware]\n{lines}\n")
    profile, where = capacity.load_profile([], tmp_path)
    assert profile.evidence == ("run-1",)
    assert where == "mine.toml"
    with pytest.raises(RecordError, match="there is no profile and no file 'x'"):
        capacity.load_profile(["x"], tmp_path)


def test_profiles_of_several_engines_are_put_together(tmp_path: Path) -> None:
    other = PROFILE.replace("service.chat", "service.translate").replace("run-1", "run-2")
    paths = [write(tmp_path / "a.toml", PROFILE), write(tmp_path / "b.toml", other)]
    both, where = capacity.load_profile(paths, tmp_path)
    assert (set(both.service), both.evidence, where) == ({"chat", "translate"}, ("run-1", "run-2"), "a.toml, b.toml")
    assumed = write(tmp_path / "c.toml", other.replace('evidence = ["run-2"]', ""))
    assert capacity.load_profile([paths[0], assumed], tmp_path)[0].evidence == ()
    elsewhere = write(tmp_path / "d.toml", f"{other}\n[fingerprint.hardware]\ncores = 64\n")
    with pytest.raises(RecordError, match="different hardware"):
        capacity.load_profile([paths[0], elsewhere], tmp_path)


def test_no_box_carries_more_than_was_validated(
    profile: capacity.Profile, one_kind: mix.Mix, found: sizing.Carried
) -> None:
    shown = msgspec.structs.replace(profile, validated_per_s={"chat": 8.0, "translate": 0.1})
    made = capacity.plan(shown, one_kind, capacity.load_costs(None), 2e6, within=0.95, found=found)
    assert made.found.per_s == pytest.approx(4.0), "two turns a conversation, one call each"
    assert "beyond what its predictions were shown to hold for" in capacity.show(
        made, shown, one_kind, capacity.load_costs(None), 0.95, "here"
    )


def test_an_engine_that_the_profile_lacks_is_named(profile: capacity.Profile) -> None:
    with pytest.raises(RecordError, match="no transcribe and no translate"):
        capacity.check_engines(profile, mix.load_mix("support"))


def run(tmp_path: Path, *more: str) -> list[str]:
    return ["--profile", write(tmp_path / "p.toml", PROFILE), "--mix", write(tmp_path / "m.toml", KIND), *more]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say how many"),
        (["--conversations-per-day", "0"], "above 0"),
        (["--conversations-per-day", "5", "--within", "1"], "below 1"),
        (["--conversations-per-day", "5", "--turns", "10"], "say nothing of their 95th percentile"),
        (["--conversations-per-day", "5", "--boxes", "0"], "at least 1"),
        (["--conversations-per-day", "5", "--sites", "0"], "at least 1"),
        (["--conversations-per-day", "5", "--costs", "/nowhere.toml"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=said) as raised:
        capacity.main(run(tmp_path, *arguments))
    assert "\n" not in str(raised.value)


def test_costs_that_are_none(tmp_path: Path) -> None:
    text = (capacity.ASSUMED).read_text()
    for line, wrong in (("lifetime_months = 48", "lifetime_months = 0"), ('inr_per_usd = "88.40"', 'inr_per_usd = "0"'),
                        ('purchase_usd = "400"', 'purchase_usd = "a lot"')):  # fmt: skip
        assert line in text
        with pytest.raises(RecordError, match="not understood"):
            capacity.load_costs(Path(write(tmp_path / "costs.toml", text.replace(line, wrong))))


def test_the_command_says_what_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = run(tmp_path, "--conversations-per-day", "2000000", "--turns", "400")
    assert capacity.main(arguments) == 0
    said = capsys.readouterr().out
    for words in (
        "2,000,000 conversations a day",
        "runs run-1",
        "assumed, not yours",
        "boxes carry the busiest hour",
        "₹",
    ):
        assert words in said
    assert capacity.main([*arguments, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["boxes_needed"] >= 2
    assert [option["boxes"] for option in told["options"]][-1] == told["boxes_needed"] + 1
    assert capacity.main([*arguments, "--json", "--boxes", "1"]) == 0
    assert [option["boxes"] for option in json.loads(capsys.readouterr().out)["options"]] == [1]


def test_the_same_seed_gives_the_same_answer(profile: capacity.Profile, one_kind: mix.Mix) -> None:
    box = capacity.box_of(profile)
    one, other = (sizing.observe(box, one_kind, 8.0, turns=500, seeds=(4,)) for _ in range(2))
    assert one == other
    assert sizing.observe(box, one_kind, 8.0, turns=500, seeds=(5,)) != one


def test_a_stepping_engine_is_sized_too(one_kind: mix.Mix) -> None:
    box = capacity.box_of(capacity.Profile("steps", {"chat": Steps(8, 512, 20, 2, 0.2)}))
    assert sizing.carried(box, one_kind, within=0.95, turns=400).per_s > 1
