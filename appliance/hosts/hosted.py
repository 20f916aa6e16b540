"""``python -m appliance.hosts.hosted``: hosted models, the only process that may leave the box. See ``hosted_serve``.

What it is: the entry. What it refuses to be: anything else.
"""

from __future__ import annotations

if __name__ == "__main__":
    from appliance.hosts.hosted_serve import main

    main()
