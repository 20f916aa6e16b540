from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from appliance_models.indictrans2 import tags
from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.processor import prepare
from appliance_models.indictrans2.tokenizer import Tokenizer, left_padded


def test_a_source_is_two_tags_pieces_and_the_end(vocabulary: Path) -> None:
    tokenizer = Tokenizer(vocabulary / "en-indic")
    ids = tokenizer.source_ids("eng_Latn hin_Deva open file")
    assert ids[:2] == [tokenizer.source.ids["eng_Latn"], tokenizer.source.ids["hin_Deva"]]
    assert ids[-1] == 2
    assert 0 not in ids
    assert tokenizer.source.text(ids[2:]) == "open file"


def test_ids_come_from_the_dictionary_and_not_from_sentencepiece(vocabulary: Path, tmp_path: Path) -> None:
    for path in (vocabulary / "en-indic").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    dictionary = json.loads((tmp_path / "dict.SRC.json").read_text())
    pieces = [piece for piece in dictionary if piece not in ("<s>", "<pad>", "</s>", "<unk>")]
    random.Random(3).shuffle(pieces)
    shuffled = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **{piece: i + 4 for i, piece in enumerate(pieces)}}
    (tmp_path / "dict.SRC.json").write_text(json.dumps(shuffled))
    tokenizer = Tokenizer(tmp_path)
    ids = tokenizer.source_ids("eng_Latn hin_Deva open file")
    expected = ["eng_Latn", "hin_Deva", *tokenizer.source.cut("open file"), "</s>"]
    assert [tokenizer.source.pieces[i] for i in ids] == expected
    assert ids == [shuffled[piece] for piece in expected]


def test_a_piece_that_the_dictionary_lacks_is_cut_smaller(vocabulary: Path, tmp_path: Path) -> None:
    for path in (vocabulary / "en-indic").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    dictionary = json.loads((tmp_path / "dict.SRC.json").read_text())
    whole = next(piece for piece in Tokenizer(tmp_path).source.cut("open file table") if len(piece) > 2)
    del dictionary[whole]
    (tmp_path / "dict.SRC.json").write_text(json.dumps(dictionary))
    tokenizer = Tokenizer(tmp_path)
    ids = tokenizer.source_ids("eng_Latn hin_Deva open file table")
    assert 3 not in ids
    assert tokenizer.source.text(ids[2:]) == "open file table"


def test_a_language_that_the_dictionary_lacks_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    for path in (vocabulary / "en-indic").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    dictionary = json.loads((tmp_path / "dict.SRC.json").read_text())
    del dictionary["urd_Arab"]
    (tmp_path / "dict.SRC.json").write_text(json.dumps(dictionary))
    with pytest.raises(CheckpointError, match="does not translate urd_Arab"):
        Tokenizer(tmp_path).source_ids("eng_Latn urd_Arab open")


@pytest.mark.parametrize("name", ["model.SRC", "dict.TGT.json"])
def test_an_incomplete_directory_says_what_is_missing(vocabulary: Path, tmp_path: Path, name: str) -> None:
    for path in (vocabulary / "en-indic").iterdir():
        if path.name != name:
            shutil.copyfile(path, tmp_path / path.name)
    with pytest.raises(CheckpointError, match=r"no usable model\.(SRC|TGT) and dict\.(SRC|TGT)\.json"):
        Tokenizer(tmp_path)


def test_sources_are_padded_on_the_left() -> None:
    assert left_padded([[5, 2], [6, 7, 8, 2]]) == [[1, 1, 5, 2], [6, 7, 8, 2]]
    assert left_padded([]) == []


def test_the_official_dictionaries(official: Path) -> None:
    to_indic, to_english = Tokenizer(official / "en-indic"), Tokenizer(official / "indic-en")
    sizes = [len(side.ids) for t in (to_indic, to_english) for side in (t.source, t.target)]
    assert sizes == [32322, 122672, 122706, 32296]
    assert all(tag in to_english.source.ids for tag in tags.TAGS)
    assert not any(tag in to_indic.target.ids for tag in tags.TAGS)
    # Known pieces and their published ids.
    assert to_indic.source.to_ids(["▁.", "▁the", "▁,"]) == [5, 6, 7]
    assert to_english.source.to_ids(["hin_Deva", "ben_Beng", "▁है"]) == [8, 10, 11]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("आपका ऑर्डर आज भेज दिया गया है।", "hin_Deva"),
        ("আপনার অর্ডার আজ পাঠানো হয়েছে।", "ben_Beng"),
        ("உங்கள் ஆர்டர் இன்று அனுப்பப்பட்டது.", "tam_Taml"),
        ("آپ کا آرڈر آج بھیج دیا گیا ہے۔", "urd_Arab"),
        ("ᱟᱢᱟᱜ ᱧᱩᱛᱩᱢ ᱪᱮᱫ ᱠᱟᱱᱟ?", "sat_Olck"),
        ("ꯑꯗꯣꯃꯒꯤ ꯃꯃꯤꯡ ꯀꯔꯤꯅꯣ?", "mni_Mtei"),
    ],
)
def test_the_official_vocabulary_knows_what_the_processor_writes(official: Path, text: str, tag: str) -> None:
    tokenizer = Tokenizer(official / "indic-en")
    (line,) = prepare(text, tag, "eng_Latn").lines
    ids = tokenizer.source_ids(line)
    assert 3 not in ids
    assert tokenizer.source.text(ids[2:]) == line.split(" ", 2)[2]
