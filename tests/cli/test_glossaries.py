"""Glossaries and translation memory on the command line: files in, what is wrong with them, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Run

Ok = Callable[..., Any]


def test_a_glossary_from_a_table(tmp_path: Path, run: Run, ok: Ok) -> None:
    table = tmp_path / "terms.csv"
    table.write_text(
        '\ufeffTerm,translation,target,note\nAcme,,,our name\naccount,खाता,hi,\n\n"a, b",கணக்கு,Tamil,\n',
        encoding="utf-8",
    )
    done = ok("glossaries", "import", "shop", table)
    assert (done["changed"], done["terms"]) == (3, 3)
    assert ok("glossaries", "put", "shop", "IT")["terms"] == 4
    printed = run("glossaries", "show", "shop").stdout.splitlines()
    assert printed[0].split() == ["TERM", "BECOMES", "FROM", "TO", "CASE", "NOTE"]
    assert any(line.split()[:2] == ["Acme", "(stays)"] and "our name" in line for line in printed)
    assert any(line.split()[:4] == ["account", "खाता", "*", "hin_Deva"] for line in printed)
    assert ok("glossaries", "delete", "shop", "account", "--target", "hi")["terms"] == 3
    (listed,) = ok("glossaries", "list")["items"]
    assert (listed["glossary"], listed["terms"]) == ("shop", 3)
    tabs = tmp_path / "terms.tsv"
    tabs.write_text("term\ttranslation\nrefund\tधन, वापसी\n", encoding="utf-8")
    assert ok("glossaries", "import", "shop", tabs)["terms"] == 4
    listed_json = tmp_path / "terms.json"
    listed_json.write_text(json.dumps([{"term": "x", "case": "exact"}]))
    assert ok("glossaries", "import", "shop", listed_json)["terms"] == 5
    assert ok("glossaries", "delete", "shop", "--all")["changed"] == 5
    actions = {line["action"] for line in ok("audit", "--tenant", "default")["items"]}
    assert {"glossary.put", "glossary.remove", "glossary.drop"} <= actions


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"term,becomes\nx,y\n", "line 2: Object contains unknown field `becomes`; its columns are term, tr"),
        ("a.csv", b"translation\ny\n", "line 2: Object missing required field `term`"),
        ("a.csv", b"term\nx,y\n", "line 2 has 2 cells and the head 1"),
        ("a.csv", b"term\n\xff\n", "is not UTF-8 (byte 5); save it as UTF-8"),
        ("a.csv", b"", "there is no term to put"),
        ("a.tsv", b"term\tcase\nx\tloud\n", "Invalid enum value 'loud'"),
        ("a.json", b"{", "is not understood"),
        ("a.csv", b"term,source\nok,\nx,klingon\n", "term 2: 'klingon' is not a language known here"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path: Path, run: Run, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = run("glossaries", "import", "shop", tmp_path / name)
    assert result.exit_code == 1 and message in result.output and result.output.count("\n") == 1
    assert "shop" not in run("glossaries", "list").stdout


def test_a_memory_is_wanted_filled_looked_at_and_cleared(tmp_path: Path, run: Run, ok: Ok) -> None:
    table = tmp_path / "memory.csv"
    table.write_text("source,target,text,translation\nen,hi,Hello,नमस्ते\nen,ta,Hello,வணக்கம்\n", encoding="utf-8")
    refused = run("memory", "import", table)
    assert refused.exit_code == 1 and "--store-text --translation-memory` opts in" in refused.output
    assert ok("tenants", "set", "default", "--store-text", "--translation-memory")["translation_memory"] is True
    assert ok("memory", "import", table)["entries"] == 2
    assert "नमस्ते" in run("memory", "list", "--target", "hi").stdout
    assert run("memory", "clear").exit_code == 1
    assert ok("memory", "clear", "--target", "hi") == {"tenant_id": "default", "cleared": 1, "entries": 1}
    (entry,) = ok("memory", "list")["items"]
    assert ok("memory", "clear", "--id", entry["id"])["entries"] == 0
    assert ok("memory", "clear", "--all")["cleared"] == 0


def test_what_is_meant_must_be_said(run: Run) -> None:
    for arguments in (("glossaries", "delete", "shop"), ("glossaries", "delete", "shop", "x", "--all")):
        result = run(*arguments)
        assert result.exit_code == 1 and "name a term, or give --all" in result.output
    assert "no glossary 'shop'" in run("glossaries", "delete", "shop", "--all").output
