"""Ids of new rows: UUIDs of version 7, which begin with the time, so that an index grows at its end."""

import os
import time
from datetime import datetime
from uuid import UUID

_RANDOM_BITS = 62
_NANOSECONDS = 1_000_000


def first_at(moment: datetime) -> UUID:
    """Returns the first id of this time: those of rows that are newer are greater."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)


def uuid7() -> UUID:
    """Returns a new id: 48 bits of milliseconds, 12 bits of their fraction, 62 random bits (RFC 9562)."""
    milliseconds, rest = divmod(time.time_ns(), _NANOSECONDS)
    fraction = (rest << 12) // _NANOSECONDS
    random = int.from_bytes(os.urandom(8)) >> (64 - _RANDOM_BITS)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random)
