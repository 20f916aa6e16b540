"""What crosses the pipe between ``audio`` and ``audio_worker``, in one place so that neither imports the other.

Job: ``JOB`` = length of the file, CPU seconds allowed, most seconds of audio; then the file.
Answer: frames of ``FRAME`` = kind, length; then the bytes. ``d`` samples (repeated), then one of
``o`` done, ``l`` longer than allowed, ``n`` nothing decodable.
"""

from __future__ import annotations

import struct

RATE = 16000
JOB = struct.Struct(">QdI")
FRAME = struct.Struct(">cI")
