"""The keys that sign access tokens: the first one signs, all of them verify; each has one algorithm.

`python -m api.keys add|promote|drop FILE` takes a step of a rotation of JWT_SECRET in an env file. After each
step the web processes are restarted, one after the other; no token is refused in between:

              JWT_SECRET   JWT_SECRET_OTHER
    add       old          new                 everybody knows the new one, which signs nothing yet
    promote   new          old                 it signs; wait until the last old token expired (15 minutes)
    drop      new
"""

import base64
import hashlib
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from dotenv import dotenv_values

_NAMES = ("JWT_SECRET", "JWT_SECRET_OTHER")
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
        blocks = [_pem(block[0]) for block in _PEM.finditer(ed25519)]
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


def rotate(step: str, file: Path) -> None:
    """Takes a step in an env file, in one write. Raises ValueError when its secrets are not ready for it.

    Values change places as they are written there, quotes and all.
    """
    file = file.resolve()
    lines = file.read_text().splitlines()
    values = dotenv_values(file)
    one, other = (values.get(name) or "" for name in _NAMES)
    written = {
        name: line.partition("=")[2] for line in lines for name in _NAMES if line.startswith(f"{name}=")
    }
    match step, bool(one), bool(other):
        case "add", True, False:
            after = [written[_NAMES[0]], secrets.token_urlsafe(48)]
        case "promote", True, True:
            after = [written[_NAMES[1]], written[_NAMES[0]]]
        case "drop", True, True:
            after = [written[_NAMES[0]], ""]
        case _:
            raise ValueError(f"{step} is not the next step for the JWT_SECRETs in {file}")
    kept = [line for line in lines if not line.startswith(tuple(f"{name}=" for name in _NAMES))]
    kept += [f"{name}={value}" for name, value in zip(_NAMES, after, strict=True)]
    fresh = file.with_name(f"{file.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join(kept) + "\n")
    fresh.replace(file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m api.keys add|promote|drop FILE")
    try:
        rotate(sys.argv[1], Path(sys.argv[2]))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
