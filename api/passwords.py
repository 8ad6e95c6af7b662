"""Passwords: bcrypt over a keyed digest, so that none is cut and a stolen table alone is worth little."""

import base64
import hashlib
import hmac

import bcrypt
from zxcvbn.frequency_lists import FREQUENCY_LISTS

# The most used ones of public leaks, as the zxcvbn project collected them; in lower case.
_COMMON = frozenset(FREQUENCY_LISTS["passwords"])


def weak(password: str, *, email: str, name: str) -> str | None:
    """Why a password is no good for this person, beyond its length; None when it is."""
    plain = password.strip().casefold()
    if plain in _COMMON:
        return "is among the most common passwords"
    if plain in {email.casefold(), email.partition("@")[0].casefold(), name.strip().casefold()}:
        return "must not be the e-mail address or the name"
    return None


class Passwords:
    """Hashes and verifies with this installation's pepper and cost."""

    def __init__(self, *, pepper: str, rounds: int) -> None:
        self._pepper = pepper.encode()
        self._rounds = rounds
        # What an unknown e-mail is compared with: it must cost what a known one does.
        self._nobody = self.hash("nobody")

    def hash(self, password: str) -> str:
        """A new bcrypt hash."""
        return bcrypt.hashpw(self._digest(password), bcrypt.gensalt(self._rounds)).decode()

    def match(self, password: str, hashed: str | None) -> bool:
        """Whether it is the one; False after the same time when there is no hash."""
        same = bcrypt.checkpw(self._digest(password), (hashed or self._nobody).encode())
        return same and hashed is not None

    def stale(self, hashed: str) -> bool:
        """Whether the hash was made at another cost than today's."""
        return not hashed.startswith(f"$2b${self._rounds:02}$")

    def pseudonym(self, address: str) -> str:
        """What is kept of an address that nobody has: 64 hexadecimal digits, keyed with the pepper."""
        named = b"address\0" + address.strip().casefold().encode()
        return hmac.new(self._pepper, named, hashlib.sha256).hexdigest()

    def _digest(self, password: str) -> bytes:
        # bcrypt sees 72 bytes at most and stops at a NUL: 64 characters of base64 have neither problem.
        keyed = hmac.digest(self._pepper, password.encode(), hashlib.sha384)
        return base64.b64encode(keyed)
