"""What ``lingua`` and ``py3langid`` make of the same texts. They are no dependencies: run this in a venv of its own.

``python -m venv V && V/bin/pip install lingua-language-detector py3langid``, then ``measure.py DATA --texts T.tsv``
here and ``V/bin/python compare.py T.tsv``. Both are restricted to the languages they have in common with the appliance,
which is in their favour; a tag whose language they lack is counted apart and not scored.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

# ISO 639-1 of what could be answered
CODES = {
    "asm": "as", "ben": "bn", "guj": "gu", "hin": "hi", "kan": "kn", "mal": "ml", "mar": "mr", "npi": "ne", "ory": "or",
    "pan": "pa", "san": "sa", "snd": "sd", "tam": "ta", "tel": "te", "urd": "ur", "eng": "en", "kas": "ks",
    "mai": "mai", "gom": "kok", "brx": "brx", "doi": "doi", "mni": "mni", "sat": "sat",
}  # fmt: skip
WORDS = {"hin_Latn", "tam_Latn", "tel_Latn", "ben_Latn", "mar_Latn"}


def lingua() -> tuple[Callable[[str], str], set[str]]:
    """Its answer as a code, and the codes it has."""
    from lingua import Language, LanguageDetectorBuilder

    wanted = [one for one in Language.all() if one.iso_code_639_1.name.lower() in CODES.values()]
    detector = LanguageDetectorBuilder.from_languages(*wanted).with_preloaded_language_models().build()

    def answer(text: str) -> str:
        found = detector.detect_language_of(text)
        return "" if found is None else found.iso_code_639_1.name.lower()

    return answer, {one.iso_code_639_1.name.lower() for one in wanted}


def py3langid() -> tuple[Callable[[str], str], set[str]]:
    """Its answer as a code, and the codes it has."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    labels = set(map(str, identifier.labels))
    own = {"kok": "gom"}  # its name for Konkani
    known = {code for code in CODES.values() if own.get(code, code) in labels}
    identifier.set_languages(sorted(own.get(code, code) for code in known))
    back = {there: code for code, there in own.items()}

    def answer(text: str) -> str:
        found = str(identifier.classify(text)[0])
        return back.get(found, found)

    return answer, known


def main() -> None:
    texts = [line.split("\t", 2) for line in Path(sys.argv[1]).read_text("utf-8").split("\n") if line]
    report = {}
    for name, make in (("lingua", lingua), ("py3langid", py3langid)):
        answer, known = make()
        right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        began_s = time.perf_counter()
        for where, label, text in texts:
            if label != "none":
                right[where][label].append(answer(text) == CODES[label[:3]])
        took_ms = (time.perf_counter() - began_s) / len(texts) * 1000.0
        report[name] = {"languages": sorted(known), "mean_ms_a_text": round(took_ms, 3)}
        for where, labels in right.items():
            enough = 200 if where == "held_out" else 1
            scored = {x: sum(ok) / len(ok) for x, ok in labels.items() if CODES[x[:3]] in known and len(ok) >= enough}
            native = {x: share for x, share in scored.items() if x not in WORDS}
            report[name][where] = {
                "macro_of_what_it_knows": round(sum(scored.values()) / max(1, len(scored)), 4),
                "macro_in_native_scripts": round(sum(native.values()) / max(1, len(native)), 4),
                "by_name": {x: round(share, 4) for x, share in sorted(scored.items())},
                "not_known": sorted(x for x in labels if CODES[x[:3]] not in known),
            }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
