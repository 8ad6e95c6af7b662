"""bcrypt, computed by the C library where it can: a seventh faster than the package (decision 44)."""

import ctypes
import hmac
from collections.abc import Callable
from functools import cache

import bcrypt

# libxcrypt, under the names of Debian, and of Fedora without the compatible one.
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
# Its `struct crypt_data`.
_WORKSPACE_BYTES = 32_768

Compute = Callable[[bytes, bytes], bytes]


def new_hash(password: bytes, rounds: int) -> bytes:
    """Returns a new hash of a password without NUL of at most 72 bytes."""
    return _hashpw()(password, bcrypt.gensalt(rounds))


def matches(password: bytes, hashed: bytes) -> bool:
    """Tells whether the password has this hash. Raises ValueError for a text that is no hash of bcrypt."""
    if not hashed.startswith(b"$2b$"):
        # The library would compare it as a hash of another kind.
        raise ValueError("no hash of bcrypt")
    return hmac.compare_digest(_hashpw()(password, hashed), hashed)


@cache
def _hashpw() -> Compute:
    """Returns the function to use: that of the first library that computes the same as the package."""
    return next(filter(None, map(of_library, _LIBRARIES)), bcrypt.hashpw)


def of_library(name: str) -> Compute | None:
    """Returns the function of a C library; None if there is no such library, or it does not know bcrypt."""
    try:
        crypt_rn = ctypes.CDLL(name).crypt_rn
    except (OSError, AttributeError):
        return None
    crypt_rn.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    crypt_rn.restype = ctypes.c_char_p

    def hashpw(password: bytes, salt: bytes) -> bytes:
        # Each call has a workspace of its own. ctypes releases Python's lock during the call.
        workspace = ctypes.create_string_buffer(_WORKSPACE_BYTES)
        found: bytes | None = crypt_rn(password, salt, workspace, _WORKSPACE_BYTES)
        if found is None:
            raise ValueError("not computed")
        return found

    salt = bcrypt.gensalt(4)
    try:
        same = hashpw(b"same", salt) == bcrypt.hashpw(b"same", salt)
    except ValueError:
        return None
    return hashpw if same else None
