"""The policies in force in one gateway: policy.toml as it was last accepted, on disk and in memory.

What it is: reads HOME/policy.toml; what was accepted is kept in HOME/policy/, so that a file with a mistake, or a
restart with one, leaves the last good version in force. Stops a rollout that does worse than what it is to replace.
What it refuses to be: a watcher of files (``policing`` is) or a decider. A file with a mistake changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.policy import rollout
from appliance.policy.load import PolicyError, load
from appliance.policy.rollout import Loaded
from appliance.policy.values import Policy
from appliance.settings import SettingsError

_log = logging.getLogger("appliance.policy")
Rows = Callable[[int], Iterable[tuple[str, str, bool, int]]]
"""What has ended since a moment: ``ledger.stores.ended``."""


class _State(Struct, omit_defaults=True):
    """HOME/policy/state.json."""

    trial: str = ""
    since_ms: int = 0
    stopped: str = ""


class Policies:
    """What is in force. ``now_ms`` gives Unix milliseconds; ``problem`` is why the file is not."""

    def __init__(self, home: Path, now_ms: Callable[[], int]) -> None:
        """What an earlier process accepted; nothing where none did. ``reload`` reads the file."""
        self._file = home / "policy.toml"
        self._kept = home / "policy"
        self._now_ms = now_ms
        self._texts: dict[str, str] = {}
        self.loaded = self._before()
        self.problem = ""

    def reload(self, ready: Callable[[Policy], None] = lambda policy: None) -> bool:
        """Take on the file as it is now; whether anything changed.

        Raises SettingsError, or what ``ready`` raises, which prepares for a policy that was checked; then nothing has
        changed.
        """
        try:
            new, text = self._read()
            if new is not None:
                ready(new)
        except Exception as e:
            self.problem = str(e)
            raise
        old, self.problem = self.loaded, ""
        if new is None:
            self.loaded = Loaded()
        else:
            self._texts[new.version] = text
            self.loaded = rollout.accepted(old, new, self._now_ms())
        if self.loaded != old or (new is not None and not self._kept.is_dir()):
            self._keep()
        return self.loaded != old

    def look(self, rows: Rows) -> str | None:
        """Stop the trial if its conversations say so; why."""
        loaded = self.loaded
        if loaded.trial is None or loaded.stopped:
            return None
        ended = (rollout.Ended(*row) for row in rows(loaded.since_ms))
        why = rollout.verdict(*rollout.counted(loaded.trial, ended), loaded.trial.rollout)
        if why is not None and self.loaded is loaded:
            self.loaded = rollout.stopped(loaded, why)
            self._keep()
            _log.error("policy %s is stopped: %s; %s decides", loaded.trial.version, why, loaded.stable.version)
        return why

    # files

    def _read(self) -> tuple[Policy | None, str]:
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None, ""
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{self._file} cannot be read: {e}") from None
        try:
            return load(text, str(self._file)), text
        except PolicyError as e:
            raise SettingsError(str(e)) from None

    def _before(self) -> Loaded:
        """What an earlier process accepted; nothing where that cannot be read."""
        stable, trial = self._kept_policy("stable"), self._kept_policy("trial")
        if stable is None and trial is None:
            return Loaded()
        try:
            state = msgspec.json.decode((self._kept / "state.json").read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            state = _State()
        loaded = Loaded() if stable is None else Loaded(stable)
        if trial is None or trial.version != state.trial:
            return loaded
        return Loaded(loaded.stable, trial, state.since_ms, state.stopped)

    def _kept_policy(self, name: str) -> Policy | None:
        path = self._kept / f"{name}.toml"
        try:
            text = path.read_text(encoding="utf-8")
            policy = load(text, str(path))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, PolicyError) as e:
            _log.warning("the policy kept in %s cannot be used any more: %s", path, e)
            return None
        self._texts[policy.version] = text
        return policy

    def _keep(self) -> None:
        """Write what is in force. A disk that cannot be written costs the memory of it, not the service."""
        loaded = self.loaded
        trial = loaded.trial
        state = _State(trial.version if trial is not None else "", loaded.since_ms, loaded.stopped)
        try:
            self._kept.mkdir(mode=0o700, exist_ok=True)
            for name, policy in (("stable", loaded.stable), ("trial", trial)):
                text = self._texts.get(policy.version) if policy is not None else None
                if text is None:
                    (self._kept / f"{name}.toml").unlink(missing_ok=True)
                else:
                    _write(self._kept / f"{name}.toml", text.encode("utf-8", "surrogatepass"))
            _write(self._kept / "state.json", msgspec.json.encode(state) + b"\n")
        except OSError as e:
            _log.error("the accepted policy cannot be kept in %s (%s); a restart will not know it", self._kept, e)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
