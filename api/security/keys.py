"""The keys of access tokens: one of them signs, all of them verify, each has one algorithm."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

_PEM = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----.+?-----END \1 KEY-----", re.DOTALL)
# Hexadecimal digits of a digest.
_KEY_ID_LENGTH = 16


@dataclass(frozen=True)
class Key:
    """A secret for HS256, or an Ed25519 key for EdDSA. `signing_key` is None when the key only verifies."""

    id: str
    algorithm: str
    signing_key: Any
    verification_key: Any

    def jwk(self) -> dict[str, Any]:
        """Returns the public half of an EdDSA key as a JSON Web Key (RFC 8037)."""
        from jwt.algorithms import OKPAlgorithm  # noqa: PLC0415

        key = OKPAlgorithm.to_jwk(self.verification_key, as_dict=True)
        return {**key, "alg": self.algorithm, "use": "sig", "kid": self.id}


class Keys:
    """The keys of an installation."""

    def __init__(self, *secrets: str, ed25519: str = "") -> None:
        """Reads shared secrets and PEM blocks of Ed25519 keys. Raises ValueError.

        The first Ed25519 private key signs, so that other services can verify without a shared secret;
        without one, the first secret signs.
        """
        # An environment file has one line for each setting: the line breaks of a PEM block are written as \n.
        blocks = [_pem(match[0]) for match in _PEM.finditer(ed25519.replace("\\n", "\n"))]
        if ed25519 and not blocks:
            raise ValueError("holds no PEM block of a key")
        keys = [*blocks, *map(_secret, filter(None, secrets))]
        self._by_id = {key.id: key for key in keys}
        signing = [key for key in keys if key.signing_key is not None]
        if not signing:
            raise ValueError("holds no key that can sign")
        self.signing = signing[0]

    def get(self, id: object) -> Key | None:
        """Returns the key with this id, or None. The id comes from a token and may be of any type."""
        return self._by_id.get(id) if isinstance(id, str) else None

    def jwks(self) -> dict[str, Any]:
        """Returns the public keys as a JSON Web Key Set (RFC 7517); empty where only secrets sign."""
        return {"keys": [key.jwk() for key in self._by_id.values() if key.algorithm == "EdDSA"]}


def _secret(secret: str) -> Key:
    raw = secret.encode()
    return Key(hashlib.sha256(b"kid" + raw).hexdigest()[:_KEY_ID_LENGTH], "HS256", raw, raw)


def _pem(block: str) -> Key:
    # Imported here: an installation without Ed25519 keys never loads the package (api/__main__.py).
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    raw = block.encode()
    private = serialization.load_pem_private_key(raw, None) if "PRIVATE" in block else None
    public = private.public_key() if private else serialization.load_pem_public_key(raw)
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("holds a key that is not Ed25519")
    id = hashlib.sha256(public.public_bytes_raw()).hexdigest()[:_KEY_ID_LENGTH]
    return Key(id, "EdDSA", private if isinstance(private, Ed25519PrivateKey) else None, public)
