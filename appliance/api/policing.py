"""policy.toml as the gateway holds it: read when it changes, checked whole, the last good version kept.

What it is: ``Policing``, which looks at ``HOME/policy.toml``, the intent classifiers and ``policy.fitted.json`` once a
second, hands good versions to the pipeline's decider, and says what is in force and what was wrong with the rest. Every
five minutes it asks the ledger whether a rollout has to be stopped.
What it refuses to be: partial. A file with a mistake changes nothing; one that is removed is the built-in policy again.
What it costs: three stats a second. Language identification is loaded (25 MB) with the first policy, in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.api.intent_models import IntentModels, models_dir
from appliance.api.policies import Policies, Rows
from appliance.permit_keys import PermitKeyError, SigningKey, signing_key
from appliance.pipeline.deciding import Decider
from appliance.pipeline.reading import Reader
from appliance.policy import parameters
from appliance.policy.values import Policy
from appliance.settings import Settings, SettingsError

LOOK_EVERY_S = 1.0
_log = logging.getLogger("appliance.policy")
_ROLLOUT_EVERY = 300
_Stamp = tuple[int, int, int] | None
_Stamps = tuple[_Stamp, _Stamp, _Stamp]


class Policing:
    """``decider.loaded`` is its to set. ``look`` in a thread, or ``watch`` on the loop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        decider: Decider,
        clock: Callable[[], float],
        ended: Rows = lambda since_ms: (),
    ) -> None:
        self._settings = settings
        self._decider = decider
        self._ended = ended
        self._policies = Policies(settings().home, lambda: int(clock() * 1000))
        self._intents: IntentModels | None = None
        self._seen: _Stamps | None = None
        self._seen_fitted: _Stamp = None
        self.fitted_error = ""
        self._key: SigningKey | None = None

    @property
    def error(self) -> str:
        """Why the file is not in force; empty where it is."""
        return self._policies.problem

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._settings().home / "policy.toml"

    @property
    def fitted_path(self) -> Path:
        """Where `appliance policy fit` writes."""
        return self._settings().home / parameters.FILE

    async def watch(self) -> None:
        """Until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            looks += 1
            try:
                if self._stamps() != self._seen:
                    await asyncio.to_thread(self.look)
                if looks % _ROLLOUT_EVERY == 0:
                    await asyncio.to_thread(self.look_at_rollout)
            except Exception:  # the disk or the ledger may be away; this task must outlive that
                _log.exception("the policy could not be looked at; trying again")

    def look(self) -> None:
        """Take the files as they are now, if they have changed. Whatever is wrong is kept for ``status``."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        self._look_at_fitted(stamps[2])
        if self._intents is not None:
            self._intents.reload()
        try:
            self._policies.reload(self._ready)
        except (SettingsError, PermitKeyError) as e:
            _log.error("%s; what was in force stays in force", e)
            if self._policies.loaded != self._decider.loaded:  # of an earlier process
                self._ready(self._policies.loaded.stable)
        self._take()

    def _look_at_fitted(self, stamp: _Stamp) -> None:
        if stamp == self._seen_fitted:
            return
        self._seen_fitted = stamp
        try:
            found = parameters.BY_HAND if stamp is None else parameters.decode(self.fitted_path.read_bytes())
        except (ValueError, OSError) as e:
            self.fitted_error = str(e)
            _log.error("%s; the parameters in force stay in force", e)
            return
        self.fitted_error = ""
        self._decider.parameters = found
        _log.info("the judge's parameters are %s", found.version or "those set by hand")

    def look_at_rollout(self) -> None:
        """Stop a version that does worse than the one it is to replace."""
        if self._policies.look(self._ended) is not None:
            self._take()

    def _take(self) -> None:
        loaded = self._policies.loaded
        if self._decider.reader is not None:
            self._decider.reader.forget()
        if loaded != self._decider.loaded:
            self._decider.loaded = loaded
            _log.info("policy %s is in force", loaded.stable.version)

    def _ready(self, policy: Policy) -> None:
        """What a policy needs is loaded before it is in force, so that no request pays for it."""
        if self._decider.reader is None:
            from appliance.language_id import identify

            identify("")
            self._intents = IntentModels(self._settings().home)
            self._decider.reader = Reader(identify, self._intents.classify)
        if policy.hosted.enabled:
            self.signer()

    def signer(self) -> SigningKey:
        """The key that permits are signed with, made at its first use. Raises PermitKeyError."""
        if self._key is None:
            self._key = signing_key(self._settings().home)
        return self._key

    def report(self) -> dict[str, Any]:
        """What is in force, and what is wrong, for ``appliance status``."""
        loaded = self._decider.loaded
        found: dict[str, Any] = {"version": loaded.stable.version, "error": self.error}
        found["parameters"] = {"version": self._decider.parameters.version, "error": self.fitted_error}
        if loaded.trial is not None:
            found["trial"] = {
                "version": loaded.trial.version,
                "share": loaded.trial.rollout.share,
                "stopped": loaded.stopped,
            }
        return found

    def _stamps(self) -> _Stamps:
        return _stamp(self.path), _stamp(models_dir(self._settings().home)), _stamp(self.fitted_path)


def _stamp(path: Path) -> _Stamp:
    """Changes with a file; with a directory, when a name in it does, as by every file that is put in its place."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
