"""JSON objects that callers keep with us: held as they came, up to a size."""

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from api.http.fields import invalid


def carried(value: dict[str, Any], kib: int) -> dict[str, Any]:
    """The object, if it is at most so many KiB as JSON in UTF-8. Raises a fault of the field.

    It is measured as small as it can be written, so the caller's spacing is not counted, and only up to the
    limit: nothing that is too large is written out.
    """
    left = kib * 1024
    try:
        for size in _sizes(value, left):
            left -= size
            if left < 0:
                break
    except (ValueError, RecursionError):
        raise invalid("holds a value that JSON cannot carry") from None
    if left < 0:
        raise invalid(f"must not be larger than {kib} KiB")
    return value


def _sizes(value: Any, most: int) -> Iterator[int]:
    """The sizes of the parts of a JSON value, in bytes. Raises ValueError."""
    if isinstance(value, dict):
        # Braces, and after each member but the last a comma.
        yield 1 + max(len(value), 1)
        for name, one in value.items():
            yield _size(name, most) + 1
            yield from _sizes(one, most)
    elif isinstance(value, list):
        yield 1 + max(len(value), 1)
        for one in value:
            yield from _sizes(one, most)
    else:
        yield _size(value, most)


def _size(value: Any, most: int) -> int:
    if isinstance(value, str) and len(value) > most:
        return len(value)
    if isinstance(value, float):
        return _digits(value)
    return len(json.dumps(value, ensure_ascii=False).encode())


def _digits(value: float) -> int:
    """As the database gives it back: `1e300` comes as three hundred digits."""
    if not math.isfinite(value):
        # What is too large for a float has become infinite.
        raise ValueError("is no number")
    return len(f"{Decimal(repr(value)):f}")
