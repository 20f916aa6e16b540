"""Every figure in README and docs names a committed run, and every run that is named is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

RUN = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*-\d{8}-\d{6}(?:-[0-9a-f]{4})?(?:\.(?:json|png|requests\.jsonl\.gz))?")
ANY_OF = re.compile(r"benchmarks/results/([a-z0-9-]*\*[a-z0-9.*-]*)")
# what only a measurement says: rates, ratios, microseconds, percentiles with their time, qualities
MEASURED = re.compile(
    r"\d ?(?:req/s|requests/s|requests a second|sentences/s|sentences a second|tokens/s|/s\b|µs)"
    r"|\d ?× (?!2 )|p(?:50|95|99)\b[^.|]{0,40}\d ?ms|\bWER \d|\bchrF \d|\bF1 \d|\bECE \d"
)
# figures that no run of the bench gives, and where they come from instead
BY_HAND = {
    ("architecture.md", "One request in eight steps"): "one function under timeit, as its docstring says",
    ("glossaries.md", "What it does not do"): "one function under timeit, as its docstring says",
    ("indictrans2.md", "The embedded model"): "the model's card, written by its training",
    ("observability.md", "What traces cost"): "says its date, load and rounds itself",
    ("pivot.md", "Cost"): "says its date and machine itself",
    ("supervision.md", "The heartbeat"): "a limit, not a measurement",
}


def sections(page: Path) -> Iterator[tuple[str, str]]:
    """Headings and what stands under them, code blocks included."""
    heading, lines, fenced = "", list[str](), False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if not fenced and re.match(r"#+ ", line):
            yield heading, "\n".join(lines)
            heading, lines = line.lstrip("# "), []
        else:
            lines.append(line)
    yield heading, "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_run_that_is_named_is_committed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    there = {path.name for path in RESULTS.iterdir()}
    known = {name.partition(".")[0] for name in there}
    for name in RUN.findall(text):
        assert name in there if "." in name else name in known, f"{page.name} names {name}, which is not committed"
    for pattern in ANY_OF.findall(text):
        assert list(RESULTS.glob(pattern)), f"{page.name} names {pattern}, of which none is committed"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_section_with_figures_names_its_run(page: Path) -> None:
    without = [
        heading
        for heading, text in sections(page)
        if MEASURED.search(text) and not RUN.search(text) and not ANY_OF.search(text)
    ]
    assert [one for one in without if (page.name, one) not in BY_HAND] == []


def test_what_is_excused_is_still_there() -> None:
    for name, heading in BY_HAND:
        texts = dict(sections(ROOT / "docs" / name))
        assert heading in texts and MEASURED.search(texts[heading]), f"{name}: {heading} needs no excuse any more"


def test_the_rule_sees_a_figure() -> None:
    for text in ("3,000 req/s", "1.9 × its default ", "p95 within 412 ms", "WER 6.1", "chrF 54.6", "0.4 µs"):
        assert MEASURED.search(text), text
    for text in ("within 30 s", "40 GB of disk", "port 8080", "a window of 10 s"):
        assert not MEASURED.search(text), text


def test_no_result_holds_a_place_of_the_machine_it_was_made_on() -> None:
    for path in RESULTS.glob("*.json*"):
        if path.suffix != ".gz":
            found = re.search(r"/(?:root|home|work|tmp|var/tmp|Users)/[\w.]+", path.read_text(encoding="utf-8"))
            assert found is None, f"{path.name} holds {found[0]}" if found else ""
