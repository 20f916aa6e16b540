"""faster-whisper's batched pipeline, as its README shows it: one process, one clip after another, windows in batches.

What it is: ``python -m appliance_bench.hearing_baseline MODEL_DIR COMPUTE_TYPE THREADS BEAM BATCH``. A JSON line
``[path, language]`` in, the text as a JSON line out, until stdin ends. The pipeline batches the windows of one file; it
has no way to batch several files, which is why many short clips gain nothing from it.
What it refuses to be: tuned against us. Everything not named is faster-whisper's default, its voice detector included.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from faster_whisper import BatchedInferencePipeline, WhisperModel


def main() -> None:
    """Serve until stdin ends."""
    model_dir, compute_type, threads, beam, batch = sys.argv[1:6]
    model = WhisperModel(model_dir, device="cpu", compute_type=compute_type, cpu_threads=int(threads))
    pipeline = BatchedInferencePipeline(model=model)
    for line in sys.stdin:
        path, language = json.loads(line)
        audio = io.BytesIO(Path(path).read_bytes())
        segments, _ = pipeline.transcribe(audio, language=language, beam_size=int(beam), batch_size=int(batch))
        print(json.dumps("".join(segment.text for segment in segments)), flush=True)


if __name__ == "__main__":
    main()
