"""The runner over generated graphs of the published layout: every language, both heads, one batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hosts import conformer_graphs as graphs

from appliance.hosts.conformer_features import log_mel
from appliance.hosts.conformer_files import ModelUnusable, external_files, read_layout
from appliance.hosts.conformer_model import ConformerSpeech, Window, providers, usable
from appliance.hosts.conformer_text import Decoded


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.build(tmp_path_factory.mktemp("conformer"))


@pytest.fixture(scope="session")
def greedy(model_dir: Path) -> ConformerSpeech:
    return ConformerSpeech(model_dir, threads=1)


@pytest.fixture(scope="session")
def rnnt(model_dir: Path) -> ConformerSpeech:
    return ConformerSpeech(model_dir, threads=1, decoding="rnnt")


def window(code: str, **changes: object) -> Window:
    return Window(graphs.features(graphs.ids(graphs.sentence(code), code)), code, **changes)  # type: ignore[arg-type]


def texts(results: list[Decoded | Exception]) -> list[str]:
    assert all(isinstance(r, Decoded) for r in results), results
    return [r.text for r in results if isinstance(r, Decoded)]


@pytest.mark.parametrize("decoding", ["greedy", "rnnt"])
def test_known_features_are_known_text_in_every_language_of_one_batch(
    decoding: str, greedy: ConformerSpeech, rnnt: ConformerSpeech
) -> None:
    speech = greedy if decoding == "greedy" else rnnt
    batch = [window(code) for code in graphs.LANGUAGES]
    assert texts(speech.run(batch)) == [graphs.sentence(code) for code in graphs.LANGUAGES]
    assert len({graphs.sentence(code) for code in graphs.LANGUAGES}) >= 10  # a script each, at the least


def test_the_beam_says_the_same(model_dir: Path) -> None:
    speech = ConformerSpeech(model_dir, threads=1, decoding="beam")
    some = ("hi", "ta", "sat", "ur")
    assert texts(speech.run([window(code) for code in some])) == [graphs.sentence(code) for code in some]


@pytest.mark.parametrize("code", graphs.LANGUAGES)
def test_sound_is_heard_as_text_in_every_language(code: str, greedy: ConformerSpeech) -> None:
    sound = graphs.tones(graphs.sentence(code), code)
    assert texts(greedy.run([Window(log_mel(sound), code)])) == [graphs.sentence(code)]


def test_a_window_says_the_same_alone_and_beside_a_longer_one(greedy: ConformerSpeech, rnnt: ConformerSpeech) -> None:
    short, long = window("bn"), Window(graphs.features(graphs.ids(graphs.sentence("ml"), "ml") * 2), "ml")
    for speech in (greedy, rnnt):
        together = speech.run([short, long])
        assert together[0] == speech.run([short])[0]
        assert together[1] == speech.run([long])[0]


def test_the_language_decides_what_the_same_sound_says(greedy: ConformerSpeech) -> None:
    mel = window("hi").features
    said = texts(greedy.run([Window(mel, "hi"), Window(mel, "mr"), Window(mel, "gu")]))
    assert said[0] == said[1] == graphs.sentence("hi")  # two languages, one script in these vocabularies
    assert said[2] != said[0]
    assert all(ord(c) < 0x0B00 and ord(c) >= 0x0A80 for c in said[2].replace(" ", ""))


def test_words_have_times_from_the_lengths_and_a_confidence(greedy: ConformerSpeech, rnnt: ConformerSpeech) -> None:
    """Each token lasts two encoder frames of 80 ms and is followed by a blank one."""
    (heard,) = greedy.run([window("hi")])
    assert isinstance(heard, Decoded)
    sizes = [len(word) for word in graphs.sentence("hi").split()]
    begins = np.cumsum([0, *sizes[:-1]]) * 3 * graphs.FRAME_S
    ends = np.cumsum(sizes) * 3 * graphs.FRAME_S - graphs.FRAME_S
    assert [w.word for w in heard.words] == graphs.sentence("hi").split()
    assert np.allclose([w.start for w in heard.words], begins, atol=0.011)
    assert np.allclose([w.end for w in heard.words], ends, atol=0.011)
    assert all(w.confidence is not None and 0.9 < w.confidence <= 1.0 for w in heard.words)
    (slower,) = rnnt.run([window("hi")])
    assert isinstance(slower, Decoded)
    assert np.allclose([w.start for w in slower.words], begins, atol=0.011)


def test_frames_past_the_encoded_length_do_not_exist(greedy: ConformerSpeech) -> None:
    """Another window's padding is loud here: it must not be read."""
    mel = window("te").features
    (whole,) = greedy.run([Window(mel, "te")])
    (half,) = greedy.run([Window(mel[:, : mel.shape[1] // 2], "te")])
    assert isinstance(whole, Decoded)
    assert isinstance(half, Decoded)
    assert whole.tokens[: len(half.tokens)] == half.tokens
    assert 0 < len(half.tokens) < len(whole.tokens)


def test_hotwords_and_rnnt_share_a_batch(rnnt: ConformerSpeech) -> None:
    batch = [window("hi"), window("ta", hotwords=("x",)), window("ur")]
    assert texts(rnnt.run(batch)) == [graphs.sentence(code) for code in ("hi", "ta", "ur")]


def test_hotwords_tip_what_was_nearly_heard(greedy: ConformerSpeech) -> None:
    code = "hi"
    # two letters whose codes differ in one sign; the sound lies between them, a little nearer to the first
    alphabet = [c for c in graphs.letters(code) if c.isalpha()]
    near = next(c for c in alphabet if graphs.ids("क" + c, code)[1] ^ graphs.ids("क" + alphabet[1], code)[1] == 1)
    said, meant = "क" + alphabet[1], "क" + near
    mel = 0.505 * graphs.features(graphs.ids(said, code)) + 0.495 * graphs.features(graphs.ids(meant, code))
    assert texts(greedy.run([Window(mel, code), Window(mel, code, hotwords=(meant,))])) == [said, meant]
    assert texts(greedy.run([Window(mel, code, hotwords=("गज",))])) == [said]


# what the files may be


@pytest.fixture
def own(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def test_the_graph_names_its_blobs(model_dir: Path) -> None:
    assert external_files((model_dir / "assets" / "encoder.onnx").read_bytes()) == set(graphs.BLOBS)
    assert external_files((model_dir / "assets" / "ctc_decoder.onnx").read_bytes()) == set()


@pytest.mark.parametrize("name", [*graphs.BLOBS, "vocab.json", "ctc_decoder.onnx", "joint_post_net_sat.onnx"])
def test_a_missing_file_is_named_with_the_command(own: Path, name: str) -> None:
    (own / "assets" / name).unlink()
    with pytest.raises(ModelUnusable, match=rf"{name} is missing; .*appliance models pull") as e:
        ConformerSpeech(own, decoding="rnnt")
    assert "\n" not in str(e.value)


def test_ctc_needs_no_rnnt_files(own: Path) -> None:
    for path in (own / "assets").glob("joint_*"):
        path.unlink()
    assert ConformerSpeech(own, threads=1).languages == tuple(sorted(graphs.LANGUAGES))


def test_a_hub_cache_of_links_is_named(own: Path) -> None:
    blob = own / "assets" / graphs.BLOBS[0]
    blob.rename(own / "elsewhere")
    blob.symlink_to(own / "elsewhere")
    with pytest.raises(ModelUnusable, match=r"symbolic link.*cp -rL"):
        ConformerSpeech(own)


def test_a_link_that_stays_in_its_directory_is_no_matter(own: Path) -> None:
    blob = own / "assets" / graphs.BLOBS[0]
    blob.rename(own / "assets" / "real")
    blob.symlink_to(own / "assets" / "real")
    ConformerSpeech(own, threads=1)


def test_another_models_vocabulary_is_named(own: Path) -> None:
    path = own / "assets" / "vocab.json"
    read = json.loads(path.read_text())
    path.write_text(json.dumps({**read, "hi": read["hi"][:128]}))
    with pytest.raises(ModelUnusable, match=r"128 pieces for 'hi' where this model has 257"):
        read_layout(own, rnnt=False)
    path.write_text(json.dumps({**read, "en": read["hi"]}))
    with pytest.raises(ModelUnusable, match=r"another model's.*'en'"):
        read_layout(own, rnnt=False)


def test_masks_that_do_not_fit_are_named(own: Path) -> None:
    path = own / "assets" / "language_masks.json"
    masks = json.loads(path.read_text())
    masks["ta"][-1] = False
    path.write_text(json.dumps(masks))
    with pytest.raises(ModelUnusable, match=r"256 outputs for 'ta' where this model has 257"):
        read_layout(own, rnnt=False)


@pytest.mark.parametrize("cut", [0, 40, 4000])
def test_half_a_graph_is_named(own: Path, cut: int) -> None:
    path = own / "assets" / "ctc_decoder.onnx"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelUnusable, match=r"ctc_decoder.onnx is not an ONNX graph"):
        ConformerSpeech(own)


def test_a_shortened_blob_is_named(own: Path) -> None:
    blob = own / "assets" / graphs.BLOBS[0]
    blob.write_bytes(blob.read_bytes()[:100])
    with pytest.raises(ModelUnusable, match=r"does not load .*encoder.onnx") as e:
        ConformerSpeech(own)
    assert "\n" not in str(e.value)


# providers


def test_a_gpu_gets_the_options_that_make_lengths_cheap(tmp_path: Path) -> None:
    names = [name for name, _ in providers("tensorrt", 1, tmp_path)]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    ((_, trt), (_, cuda), (_, cpu)) = providers("tensorrt", 1, tmp_path)
    assert cuda == {"device_id": "1", "cudnn_conv_algo_search": "DEFAULT", "cudnn_conv1d_pad_to_nc1d": "1"}
    assert trt["trt_engine_cache_path"] == str(tmp_path)
    assert trt["trt_profile_max_shapes"] == "audio_signal:64x80x1600,length:64"
    assert cpu == {}


def test_a_provider_that_is_not_there_is_refused() -> None:
    assert usable("auto", ["CPUExecutionProvider"]) == "cpu"
    assert usable("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]) == "cuda"
    assert usable("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], visible="") == "cpu"
    with pytest.raises(ModelUnusable, match=r"no tensorrt here.*onnxruntime-gpu"):
        usable("tensorrt", ["CPUExecutionProvider"])
