"""What crosses the pipe between ``audio`` and ``audio_worker``, in one place so that neither imports the other.

Job: ``JOB`` = length of the file, CPU seconds allowed, most seconds of audio, then what raw samples are (index into
``CODECS``, rate, channels; 0 for a file that says so itself) and how many channels to give back; then the file.
Answer: frames of ``FRAME`` = kind, length; then the bytes. ``d`` samples (repeated), then one of ``o`` done, ``l``
longer than allowed, ``n`` nothing decodable, ``e`` encrypted, ``c`` fewer channels than asked for; these hold ``SPENT``
= the process's CPU seconds so far.
"""

from __future__ import annotations

import struct

RATE = 16000
JOB = struct.Struct(">QdIBIBB")
CODECS = ("", "s16le", "s16be", "mulaw", "alaw")
"""Raw samples, as FFmpeg names them; the first stands for a file with a header."""
FRAME = struct.Struct(">cI")
SPENT = struct.Struct(">d")
LIFETIME_CPU_S = 3600
"""At which the kernel kills a worker. Its owner replaces it while a whole file's CPU is still left."""
