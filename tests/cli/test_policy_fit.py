"""``appliance policy fit``, ``replay`` and ``score`` on a ledger whose truth is known."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from policy import worlds

from appliance.cli.main import main
from appliance.ledger.core import engine
from appliance.ledger.ids import first_id
from appliance.ledger.stores.decisions import judged
from appliance.ledger.upgrade import prepare
from appliance.policy.parameters import FILE, decode

MONTH_MS = 1_793_000_000_000  # 26 October 2026
DAY_MS = 86_400_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path))
    monkeypatch.setenv("APPLIANCE_RUN", "/run/appliance")  # nothing is put there; a socket's path must be short
    return tmp_path


def fill(home: Path, rows: list[worlds.Judged]) -> None:
    """Write ``rows`` as the gateway would have, over ten days."""
    path = home / "ledger.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as db:
        tenant = db.execute("SELECT id FROM tenants").fetchone()[0]
        for number, row in enumerate(rows):
            at_ms = MONTH_MS + number * 10 * DAY_MS // len(rows)
            name = first_id("req", at_ms) + f"{number:06d}"
            state = {None: "open", True: "resolved", False: "handed_to_human"}[row.resolved]
            db.execute(
                "INSERT OR IGNORE INTO conversations (tenant_id, id, key_id, channel, opened_ms, last_seen_ms, state,"
                " state_ms) VALUES (?, ?, 'key_a', 'api', ?, ?, ?, ?)",
                (tenant, row.conversation, at_ms, at_ms, state, at_ms),
            )
            db.execute(
                "INSERT INTO requests (id, tenant_id, key_id, endpoint, model, stream, at_ms, status, conversation_id,"
                " route, hosted_nusd) VALUES (?, ?, 'key_a', 'chat.completions', 'm', 0, ?, 'ok', ?, ?, ?)",
                (name, tenant, at_ms, row.conversation, row.answered, row.hosted_nusd),
            )
            d = row.decision
            db.execute(
                "INSERT INTO decisions (request_id, policy, parameters, intent, language, route, alternative, verdict,"
                " p_fail, p_fail_alternative, propensity, cost_nusd, extra_s, signals)"
                " VALUES (?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                (name, d.policy, d.intent, d.language, d.route, d.alternative, d.verdict, d.p_fail,
                 d.p_fail_alternative, d.propensity, d.cost_nusd, json.dumps(d.signals)),
            )  # fmt: skip
        db.commit()


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["policy", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["policy", *arguments])
    assert done.exit_code == 1
    return done.output


def test_what_was_recorded_is_learned_from_and_replayed(home: Path) -> None:
    rows = worlds.log(900, seed=31, explore=0.2, unknown=0.1)
    fill(home, rows)
    made = engine(home / "ledger.db")
    read = judged(made, 0, MONTH_MS * 2)
    made.dispose()
    assert [row.decision for row in read] == [row.decision for row in rows]
    assert [row.resolved for row in read[:50]] == [row.resolved for row in rows[:50]]
    assert {row.answered for row in read} == {"local", "hosted"}

    assert "BRIER" in run("fit", "--dry-run")
    assert not (home / FILE).exists()
    out = run("fit")
    parameters = decode((home / FILE).read_bytes())
    assert parameters.version in out and "hin_Deva" in out
    assert parameters.rows == sum(r.decision.verdict == "commit" and r.resolved is not None for r in rows)
    assert parameters.weights["doubt_p10"] > 0.5

    policy = home / "new.toml"
    policy.write_text('[judge]\nthreshold = 0.0\nlatency_usd_per_s = "0"\n')
    found = json.loads(run("replay", "--policy", str(policy), "--month", "2026-10", "--json"))
    replayed = found["replayed"]
    assert found["parameters"] == parameters.version
    assert replayed["new"]["escalated"]["value"] > replayed["logged"]["escalated"]["value"]
    assert replayed["overlap"]["changed"] == replayed["overlap"]["tried"] > 0
    text = run("replay", "--policy", str(policy), "--month", "2026-10")
    assert "doubly robust" in text and "by propensities" in text
    assert "0 of the 0 decisions" in refused("replay", "--month", "2026-09")


def test_a_small_ledger_is_told_what_is_missing(home: Path) -> None:
    fill(home, worlds.log(30, seed=32, explore=0.2))
    assert "200 of both kinds are needed" in refused("fit")
    assert not (home / FILE).exists()
    assert "does not exist" in refused("replay", "--policy", str(home / "none.toml"), "--month", "2026-10")
    (home / FILE).write_text("{")
    assert "appliance policy fit" in refused("replay", "--month", "2026-10")


def test_scores_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    lines = [
        {"prompt": "मेरा ऑर्डर कहाँ है?", "weak_answer": "आपका ऑर्डर कल पहुँच जाएगा।", "language": "hi",
         "weak_logprobs": [-0.1, -0.2]},
        {"prompt": "मेरा ऑर्डर कहाँ है?", "weak_answer": "Your order will arrive by tomorrow.", "language": "hi"},
        {"prompt": "x", "weak_answer": "", "finish_reason": "stop", "intent": "a"},
        {"prompt": "x", "weak_answer": "{'a': 1,}", "schema": {"type": "object", "required": ["a"]}},
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [msgspec.json.decode(line) for line in run("score", str(file)).splitlines()]
    assert [line["defects"] for line in found] == [[], ["wrong_language"], ["empty"], []]
    assert found[0]["p_fail"] < 0.2 < found[1]["p_fail"]
    assert found[3]["signals"]["repaired"] == 1.0
    assert "does not say whether its answer is correct" in refused("score", str(file), "--folds", "3")
    file.write_text('{"prompt": "x", "weak_answer": "y", "language": "klingon"}\n')
    assert "line 1" in refused("score", str(file))
