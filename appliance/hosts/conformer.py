"""``python -m appliance.hosts.conformer``: one IndicConformer on one Unix socket. See ``conformer_serve``.

What it is: the entry, which says how many threads NumPy may use before NumPy is imported (see ``hosts/whisper``).
What it refuses to be: anything else.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from appliance.hosts.conformer_serve import main

    main()
