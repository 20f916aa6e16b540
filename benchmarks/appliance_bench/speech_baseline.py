"""faster-whisper as anyone would run it: one process, one clip after another.

What it is: ``python -m appliance_bench.speech_baseline MODEL_DIR COMPUTE_TYPE THREADS BEAM``. A JSON line
``[path, language]`` in, the text as a JSON line out, until stdin ends.
What it refuses to be: tuned against us. Everything not named is faster-whisper's default.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from faster_whisper import WhisperModel


def main() -> None:
    """Serve until stdin ends."""
    model_dir, compute_type, threads, beam = sys.argv[1:5]
    model = WhisperModel(model_dir, device="cpu", compute_type=compute_type, cpu_threads=int(threads))
    for line in sys.stdin:
        path, language = json.loads(line)
        audio = io.BytesIO(Path(path).read_bytes())
        segments, _ = model.transcribe(audio, language=language, beam_size=int(beam))
        print(json.dumps("".join(segment.text for segment in segments)), flush=True)


if __name__ == "__main__":
    main()
