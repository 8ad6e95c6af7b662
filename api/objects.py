"""JSON objects that callers keep with us: held as they came, up to a size."""

import json
import math
from decimal import Decimal
from typing import Any

from api.shapes import wrong


def carried(value: dict[str, Any], kib: int) -> dict[str, Any]:
    """The object, if it is at most so many KiB as JSON in UTF-8. Raises a fault of the field."""
    try:
        # As small as it can be written: how the caller spaced it is not counted.
        written = json.dumps(_written_out(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(written.encode())
    except (ValueError, RecursionError):
        raise wrong("holds a value that JSON cannot carry") from None
    if size > kib * 1024:
        raise wrong(f"must not be larger than {kib} KiB")
    return value


def _written_out(value: Any) -> Any:
    """As the database gives it back: `1e300` comes as three hundred digits."""
    if isinstance(value, dict):
        return {name: _written_out(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_written_out(one) for one in value]
    # What is too large for a float has become infinite, which json.dumps refuses.
    written_out = isinstance(value, float) and math.isfinite(value)
    return f"{Decimal(repr(value)):f}" if written_out else value
