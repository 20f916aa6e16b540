"""The key that permits are signed with: the gateway's, made once, in ``HOME/egress.key`` (0600).

What it is: Ed25519. Whoever checks permits needs ``HOME/egress.pub`` only, so the hosted process cannot make any.
What it refuses to be: rotated by itself, or loaded where no engine is hosted (importing the library costs 20 ms).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PREFIX = "ed25519:"


class PermitKeyError(Exception):
    """A key cannot be read or made; the text is one sentence that names the fix."""


class SigningKey:
    """The gateway's half."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data``, 64 bytes."""
        signature: bytes = self._key.sign(data)
        return signature

    def public(self) -> str:
        """The other half, as ``permit_key`` takes it."""
        raw: bytes = self._key.public_key().public_bytes_raw()
        return _PREFIX + raw.hex()


class CheckingKey:
    """The hosted process' half."""

    def __init__(self, text: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            raw = bytes.fromhex(text.strip().removeprefix(_PREFIX))
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise PermitKeyError(
                "permit_key is no public key; set it to what `appliance engine permit-key` prints on the gateway"
            ) from None

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` is one of ``data``."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def signing_key(home: Path, random: Callable[[int], bytes] = os.urandom) -> SigningKey:
    """The key of this appliance, made at its first use. Raises PermitKeyError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = home / "egress.key"
    try:
        raw = _kept(path) or _made(path, random(32))
        key = SigningKey(Ed25519PrivateKey.from_private_bytes(raw))
        public = home / "egress.pub"
        if not public.exists() or public.read_text(encoding="ascii").strip() != key.public():
            public.write_text(key.public() + "\n", encoding="ascii")
    except (OSError, ValueError) as e:
        raise PermitKeyError(f"{path} cannot be used ({e}); make it readable for the gateway, or remove it") from None
    return key


def checking_key(home: Path, permit_key: str | None) -> CheckingKey:
    """What permits are checked by: ``permit_key`` where it is set, else the key of this ``home``."""
    return CheckingKey(permit_key if permit_key is not None else signing_key(home).public())


def _kept(path: Path) -> bytes | None:
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError("others can read it; run chmod 600")
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None


def _made(path: Path, raw: bytes) -> bytes:
    """``raw`` in a file of its own; of two processes that make one at once, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with open(part, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(raw.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
    return _kept(path) or raw
