"""The keys that sign access tokens: the first one signs, all of them verify; each has one algorithm."""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PEM = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----.+?-----END \1 KEY-----", re.DOTALL)


@dataclass(frozen=True)
class Key:
    """One key: a secret for HS256, or an Ed25519 key for EdDSA, private when it may sign."""

    id: str
    algorithm: str
    signs: Any
    verifies: Any

    def jwk(self) -> dict[str, str]:
        """The public half as RFC 8037 writes it. Only of an EdDSA key."""
        raw = self.verifies.public_bytes_raw()
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.id,
            "x": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        }


class Keys:
    """The keys of an installation."""

    def __init__(self, *shared: str, ed25519: str = "") -> None:
        """Of shared secrets the first one signs; PEM blocks follow one another. Raises ValueError."""
        # An environment file with one line a setting has "\\n" where a PEM block has its line ends.
        blocks = [_pem(block[0]) for block in _PEM.finditer(ed25519.replace("\\n", "\n"))]
        if ed25519 and not blocks:
            raise ValueError("holds no PEM block of a key")
        known = [*blocks, *map(_secret, filter(None, shared))]
        self._all = {key.id: key for key in known}
        # An EdDSA key, where there is one, signs: so others can verify without a secret of ours.
        able = [key for key in known if key.signs is not None]
        if not able:
            raise ValueError("holds no key that can sign")
        self.signing = able[0]

    def get(self, id: object) -> Key | None:
        """The key with this id."""
        return self._all.get(id) if isinstance(id, str) else None

    def jwks(self) -> dict[str, Any]:
        """The public keys, RFC 7517; none where only secrets sign."""
        return {"keys": [key.jwk() for key in self._all.values() if key.algorithm == "EdDSA"]}


def _secret(secret: str) -> Key:
    raw = secret.encode()
    return Key(hashlib.sha256(b"kid" + raw).hexdigest()[:16], "HS256", raw, raw)


def _pem(block: str) -> Key:
    raw = block.encode()
    private = serialization.load_pem_private_key(raw, None) if "PRIVATE" in block else None
    public = private.public_key() if private else serialization.load_pem_public_key(raw)
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("holds a key that is not Ed25519")
    id = hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]
    return Key(id, "EdDSA", private if isinstance(private, Ed25519PrivateKey) else None, public)
