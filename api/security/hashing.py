"""Computes bcrypt: in the C library where it knows bcrypt, a seventh faster than the package (decision 44).

This file is also the program that `api/security/hashing_processes.py` starts, so it imports little.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import bcrypt

_NICENESS = 10

# The file names of libxcrypt: on Debian, and on Fedora without its package for compatibility.
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
# The size of libxcrypt's `struct crypt_data`.
_WORKSPACE_BYTES = 32_768

HashPassword = Callable[[bytes, bytes], bytes]


@cache
def fastest_bcrypt() -> HashPassword:
    """Returns the function that computes bcrypt: from the first library that has it, or the package."""
    return next(filter(None, map(bcrypt_of, _LIBRARIES)), bcrypt.hashpw)


def bcrypt_of(library: str) -> HashPassword | None:
    """Returns the function of a C library that computes bcrypt.

    None if there is no such library, or it does not compute the same hash as the package.
    """
    try:
        crypt_rn = ctypes.CDLL(library).crypt_rn
    except (OSError, AttributeError):
        return None
    crypt_rn.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    crypt_rn.restype = ctypes.c_char_p

    def compute(password: bytes, salt: bytes) -> bytes:
        # Each call has a workspace of its own. ctypes releases Python's lock during the call.
        workspace = ctypes.create_string_buffer(_WORKSPACE_BYTES)
        found: bytes | None = crypt_rn(password, salt, workspace, _WORKSPACE_BYTES)
        if found is None:
            raise ValueError("not computed")
        return found

    salt = bcrypt.gensalt(4)
    try:
        same = compute(b"same", salt) == bcrypt.hashpw(b"same", salt)
    except ValueError:
        return None
    return compute if same else None


def main() -> None:
    """Computes with a low priority what standard input asks for, until the web process has ended.

    A request is a line: password and salt, in hexadecimal digits so that neither can end the line. The answer
    is a line with the hash, which is empty where none can be computed.
    """
    os.nice(_NICENESS)
    compute = fastest_bcrypt()
    # The web process may end before it has the answer.
    with suppress(ConnectionError):
        for request in sys.stdin.buffer:
            password, salt = map(bytes.fromhex, request.decode().split(" "))
            try:
                answer = compute(password, salt)
            except ValueError:
                answer = b""
            os.write(sys.stdout.fileno(), answer + b"\n")


if __name__ == "__main__":
    main()
