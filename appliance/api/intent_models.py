"""The intent classifiers of one gateway: HOME/policy/intents/TENANT.npz, and ``default.npz`` for all others.

What it is: reads what ``appliance policy train-intents`` wrote, at start and at ``appliance reload``.
What it refuses to be: a reason to be down. A file that cannot be read leaves its tenant without a classifier, or with
the one from before, and is named in the log.
"""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.policy.intents import Classifier, NotAModel

DEFAULT = "default"
_log = logging.getLogger("appliance.policy")


def models_dir(home: Path) -> Path:
    """Where the classifiers are."""
    return home / "policy" / "intents"


class IntentModels:
    """One classifier a tenant that has one."""

    def __init__(self, home: Path) -> None:
        self._dir = models_dir(home)
        self._read: dict[str, tuple[tuple[int, int], Classifier]] = {}
        self.reload()

    def reload(self) -> bool:
        """Read what is new or has changed, forget what is gone; whether anything did."""
        old, found = self._read, {}
        for path in sorted(self._dir.glob("*.npz")):
            name = path.stem
            try:
                stat = path.stat()
                state = (stat.st_mtime_ns, stat.st_ino)
                known = old.get(name)
                model = (
                    known[1] if known is not None and known[0] == state else Classifier.from_bytes(path.read_bytes())
                )
                found[name] = (state, model)
            except (OSError, NotAModel) as e:
                _log.error("%s: %s", path, e)
                if name in old:
                    found[name] = old[name]
        self._read = found
        return {name: state for name, (state, _) in found.items()} != {name: state for name, (state, _) in old.items()}

    def classify(self, tenant_id: str, text: str) -> tuple[str | None, float]:
        """The intent of a turn of ``tenant_id`` with its confidence; (None, 0.0) where nobody has trained anything."""
        known = self._read.get(tenant_id) or self._read.get(DEFAULT)
        if known is None:
            return None, 0.0
        recognised = known[1].recognise(text)
        return recognised.intent, recognised.confidence
