"""Ids of new rows: UUIDs of version 7, which begin with the time, so that an index grows at its end."""

import os
import time
from datetime import datetime
from uuid import UUID

_RANDOM_BITS = 62
_NANOSECONDS_PER_MILLISECOND = 1_000_000


def first_at(moment: datetime) -> UUID:
    """Returns the smallest id of this time: the ids of all newer rows are greater."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)


def uuid7() -> UUID:
    """Returns a new id: 48 bits of milliseconds, 12 bits of their fraction, 62 random bits (RFC 9562)."""
    milliseconds, rest = divmod(time.time_ns(), _NANOSECONDS_PER_MILLISECOND)
    fraction = (rest << 12) // _NANOSECONDS_PER_MILLISECOND
    random = int.from_bytes(os.urandom(8)) >> (64 - _RANDOM_BITS)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random)
