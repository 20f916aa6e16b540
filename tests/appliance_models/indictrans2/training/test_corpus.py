from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from appliance_models.indictrans2.training import corpus
from appliance_models.indictrans2.training.meetei import from_bengali


def read(directory: Path, *rows: str) -> tuple[list[corpus.Pair], dict[str, int]]:
    path = directory / "data.tsv"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    pairs, dropped = corpus.read(path)
    return pairs, dict(dropped)


def test_accelerators_of_menus_are_no_language(tmp_path: Path) -> None:
    pairs, _ = read(
        tmp_path,
        "hin_Deva\t&Close\tबंद करें (&C)",
        "hin_Deva\t~Open...\tखोलें (~O)...",
        "tel_Telu\tSa~ve\tదాచు (V)",
        "hin_Deva\tAT&T (A)\tएटी&टी (A)",
    )
    assert [(p.english, p.indic) for p in pairs] == [
        ("Close", "बंद करें"),
        ("Open...", "खोलें..."),
        ("Save", "దాచు"),
        ("AT&T (A)", "एटी&टी (A)"),
    ]


def test_what_cannot_teach_is_dropped_and_counted(tmp_path: Path) -> None:
    pairs, dropped = read(
        tmp_path,
        "sat_Deva\tangle\tकोंडकोंड़",
        "hin_Deva\tArial\tArial",
        "hin_Deva\tOpen\tखोलें",
        "hin_Deva\tOpen\tखोलें",
        "hin_Deva\t123\t१२३",
        "hin_Deva\tOpen\tखोलें " + "और " * 60,
        "hin_Deva\tEmpty\t",
    )
    assert [p.english for p in pairs] == ["Open"]
    assert dropped == {
        "no IndicTrans2 tag: sat_Deva": 1,
        "not in the script of its tag": 1,
        "duplicate": 1,
        "no words": 1,
        "lengths far apart": 1,
        "empty": 1,
    }


def test_meetei_mayek_is_made_and_labelled(tmp_path: Path) -> None:
    pairs, _ = read(tmp_path, "mni_Beng\tName\tমমিং")
    assert [(p.tag, p.indic, p.made) for p in pairs] == [("mni_Beng", "মমিং", False), ("mni_Mtei", "ꯃꯃꯤꯡ", True)]


@pytest.mark.parametrize(
    ("bengali", "meetei"), [("করিনো", "ꯀꯔꯤꯅꯣ"), ("মতম", "ꯃꯇꯝ"), ("তাঙ্কক", "ꯇꯥꯉ꯭ꯀꯛ"), ("১০।", "꯱꯰꯫"), ("PDF", "PDF")]
)
def test_meetei_mayek_by_rule(bengali: str, meetei: str) -> None:
    assert from_bengali(bengali) == meetei


def test_english_of_the_test_set_never_occurs_in_training(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(2000)]
    pairs, _ = read(
        tmp_path,
        *(f"hin_Deva\t{word}\tशब्द {i}" for i, word in enumerate(words)),
        *(f"ben_Beng\t{word.upper()}!\tশব্দ {i}" for i, word in enumerate(words)),
    )
    parts = {p: {x.english.casefold().strip("!") for x in corpus.of(pairs, p)} for p in ("train", "dev", "test")}
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["dev"]
    assert 40 < len(parts["test"]) < 120
    assert len(parts["dev"]) > 0


def test_compressed_data_reads_the_same(tmp_path: Path) -> None:
    pairs, _ = read(tmp_path, "hin_Deva\tOpen\tखोलें")
    path = tmp_path / "data.tsv.xz"
    path.write_bytes(lzma.compress((tmp_path / "data.tsv").read_bytes()))
    assert corpus.read(path)[0] == pairs


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.tsv:2 has 2 fields"):
        read(tmp_path, "hin_Deva\tOpen\tखोलें", "hin_Deva\tOpen")
