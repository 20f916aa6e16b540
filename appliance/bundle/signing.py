"""Ed25519: who made a bundle. The private key stays with whoever makes them, the public one goes to every box.

What it refuses to be: a public-key infrastructure. One key, handed over by other means than the bundle.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from appliance.bundle import BundleError

BYTES = 64


def make_key(path: Path) -> Path:
    """A new private key at ``path`` (mode 0600), its public one beside it. Raises BundleError."""
    key, public = Ed25519PrivateKey.generate(), path.with_name(path.name + ".pub")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(private)
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except FileExistsError:
        raise BundleError(f"{path} exists already; a key is never overwritten") from None
    except OSError as e:
        raise BundleError(f"{path} cannot be written ({e.strerror}); name a file elsewhere") from None
    return public


def sign(path: Path, data: bytes) -> bytes:
    """The signature of ``data`` by the private key in ``path``. Raises BundleError."""
    try:
        if path.stat().st_mode & 0o077:
            raise BundleError(f"{path} can be read by others; run `chmod 600 {path}`")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise BundleError(f"{path} is no private key ({e}); make one with `appliance bundle key {path}`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} is a key of another kind; make one with `appliance bundle key`")
    return key.sign(data)


def check(path: Path, data: bytes, signature: bytes) -> None:
    """Raise BundleError unless ``signature`` is one of ``data`` by the key whose public half is in ``path``."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as e:
        raise BundleError(f"{path} is no public key ({e}); get the .pub file of whoever makes your bundles") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path} is a public key of another kind; bundles are signed with Ed25519")
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise BundleError("the bundle is not signed by this key, or was changed since; do not use it") from None
