"""The routing benchmark: its curves on cases counted by hand, and the whole of it on a simulated file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from appliance_bench import routing, routing_curves, routing_data, routing_scores
from appliance_bench.routing_data import Case

NUMBERS = itertools.count()


def case(weak: bool, strong: bool, *, intent: str = "a", prompt: str = "p", group: str = "") -> Case:
    return Case(prompt, weak, strong, intent, "hin_Deva", group or f"alone {next(NUMBERS)}", 0.1, 1.0, False)


FOUR = [case(True, True), case(False, True), case(True, False), case(False, False)]


def world(cases: list[Case], times: int = 0) -> routing_curves.World:
    return routing_curves.World(cases, times, 1)


def test_a_curve_counted_by_hand() -> None:
    found = routing_curves.curve(world(FOUR), np.array([0.1, 0.9, 0.2, 0.8]), np.ones(4))
    assert found.share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found.risk.tolist() == [0.5, pytest.approx(1 / 3), 0.0, 0.0, 0.0]
    assert found.quality.tolist() == [0.5, 0.75, 0.75, 0.5, 0.5]
    assert found.cost.tolist() == pytest.approx([0.1, 0.35, 0.6, 0.85, 1.1])
    before = routing_curves.curve(world(FOUR), np.array([0.1, 0.9, 0.2, 0.8]), np.ones(4), cascade=False)
    assert before.cost.tolist() == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0])


def test_what_a_quality_costs() -> None:
    found = routing_curves.curve(world(FOUR), np.array([0.1, 0.9, 0.2, 0.8]), np.ones(4))
    assert routing_curves.at_quality(found, 0.5) == (pytest.approx(0.1), 0.0)
    assert routing_curves.at_quality(found, 0.625) == (pytest.approx(0.225), pytest.approx(0.125))
    assert np.isnan(routing_curves.at_quality(found, 0.9)).all()


def test_equal_scores_are_sent_in_proportion() -> None:
    found = routing_curves.curve(world(FOUR), np.zeros(4), np.ones(4))
    assert found.share.tolist() == [0.0, 1.0]
    assert routing_curves.quality_at(found, 0.5) == 0.5
    assert routing_curves.area(found) == 0.5


def test_the_area_prefers_who_sends_wrong_answers_first() -> None:
    w = np.ones(4)
    good, bad = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0.9, 0.1, 0.8, 0.2])
    areas = [routing_curves.area(routing_curves.curve(world(FOUR), scores, w)) for scores in (good, np.zeros(4), bad)]
    assert areas == sorted(areas) and areas[0] < areas[1] < areas[2]


def test_calibration_figures() -> None:
    p, failed, w = np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.ones(2)
    assert routing_curves.brier(p, failed, w) == 0.25
    assert routing_curves.ece(np.full(1000, 0.2), np.repeat([1.0, 0.0] * 100, 5), np.ones(1000)) == pytest.approx(0.3)
    assert np.isnan(routing_curves.ece(p, failed, np.zeros(2)))


def test_intervals_resample_conversations_whole() -> None:
    alone = world([case(i % 2 == 0, True) for i in range(200)], 300)
    together = world([case(i // 20 % 2 == 0, True, group=f"g{i // 20}") for i in range(200)], 300)
    widths = [
        found.high - found.low
        for found in (w.interval(lambda x, w=w: float(np.average(w.weak, weights=x))) for w in (alone, together))
    ]
    assert 0.05 < widths[0] < 0.2 and widths[1] > 2 * widths[0]


def test_the_table_and_the_neighbours_learn_from_other_conversations() -> None:
    cases = [
        case(intent == "easy", True, intent=intent, prompt=f"{text} {i}", group=f"{intent}{i}")
        for i in range(60)
        for intent, text in (("easy", "मेरा ऑर्डर कहाँ है"), ("hard", "கடன் விதிமுறைகள் என்ன"))
    ]
    for scores in (routing_scores.static_per_intent(cases), routing_scores.knn(cases)):
        hard = np.array([one.intent == "hard" for one in cases])
        assert scores[hard].min() > scores[~hard].max()


def test_the_whole_on_a_simulated_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.jsonl"
    assert routing.main([str(file), "--simulate", "700", "--out", str(tmp_path / "out"), "--resamples", "60"]) == 0
    (written,) = (tmp_path / "out").glob("routing-simulated-*.json")
    assert next((tmp_path / "out").glob("*.png")).stat().st_size > 10_000
    result = json.loads(written.read_text())
    assert result["simulated"] and result["cases"] == 700
    assert "SIMULATED" in capsys.readouterr().out
    methods = result["methods"]
    area = {name: found["area_under_risk_coverage"] for name, found in methods.items()}
    assert all(found["low"] <= found["value"] <= found["high"] for found in area.values())
    order = [area[name]["value"] for name in ("oracle", "judge", "random")]
    assert order == sorted(order) and order[1] < 0.75 * order[2]
    cost = {name: found["cost_at_quality"]["value"] for name, found in methods.items()}
    assert cost["oracle"] < cost["judge"] < cost["random"] < result["always_hosted"]["cost"]["value"]
    fitted, by_hand = (result["calibration"][name] for name in ("judge", "judge by hand"))
    assert set(fitted) == {"all", "eng_Latn", "hin_Deva", "tam_Taml", "ory_Orya"}
    assert fitted["all"]["ece"]["value"] < by_hand["all"]["ece"]["value"]
    assert fitted["all"]["brier"]["value"] < by_hand["all"]["brier"]["value"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"prompt": "a", "weak_answer": "b"}\n', "line 1: it needs correct"),
        ("not JSON\n", "line 1"),
        ('{"prompt": "a", "weak_answer": "b", "correct": [true, false]}\n', "20 are the least"),
    ],
)
def test_a_file_that_says_too_little(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(text)
    assert routing.main([str(file), "--out", str(tmp_path)]) == 1
    assert why in capsys.readouterr().err


def test_simulated_lines_say_so(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    routing_data.simulate(file, 30, 5)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 30 and all(line["simulated"] is True for line in lines)
    assert all(one.simulated for one in routing_data.read(file))
