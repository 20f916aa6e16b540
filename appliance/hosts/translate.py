"""``python -m appliance.hosts.translate``: translation models on one Unix socket. See ``translate_serve``.

What it is: the entry, which says how many threads NumPy may use before NumPy is imported; CTranslate2 has its own.
What it refuses to be: anything else.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from appliance.hosts.translate_serve import main

    main()
