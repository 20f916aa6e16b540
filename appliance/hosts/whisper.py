"""``python -m appliance.hosts.whisper``: one Whisper model on one Unix socket. See ``whisper_serve``.

What it is: the entry, which says how many threads NumPy may use before NumPy is imported.
What it refuses to be: anything else.
Cost saved: on a busy 2-core machine the log-mel of a 1.5 s clip takes 0.7 ms of CPU with one BLAS thread and
14 ms with two, which wait for each other; CTranslate2 has threads of its own.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from appliance.hosts.whisper_serve import main

    main()
