"""The arguments of a job as the journal stores them: long ones are compressed (decision 48).

The job `records.append` of a transition is the largest row that a payment writes, and most of its text is the
same for all payments. PostgreSQL itself compresses no row below two kilobytes.
"""

import zlib
from base64 import b64decode, b64encode
from typing import Any

from pydantic_core import from_json, to_json

# Below this length, packed arguments are hardly shorter.
_MIN_BYTES = 400
# Arguments with an e-mail address are not compressed: the erasure of a closed account searches the text of
# jobs for its addresses.
_AT = b"@"
_KEY = "deflated"
_RAW = -zlib.MAX_WBITS

# The typical arguments of `records.append` for a transition of a payment.
_RECORDS = (
    '{"action":"payments.payment.%s","resource_type":"payment","resource_id":"01a2",'
    '"details":{"type":"payment","from":%s,"to":"%s","reason":null},"created_at":"2026-Z"}],'
    '"events":[{"type":"payments:payment:%s","data":{"id":"01a2","userId":"","type":"payment","status":"%s",'
    '"amount":".00","currency":"EUR","description":"","metadata":{},"requestId":null,"customerEmail":null,'
    '"failure":null,"version":%d,"createdAt":"2026-","updatedAt":"2026-"},"occurred_at":"2026-Z"'
)
# The dictionary of the compression: text that occurs in it takes hardly any space; the most frequent stands
# last. Arguments can only be unpacked with the dictionary that they were packed with: a new dictionary needs
# a new _KEY.
_DICTIONARY = (
    '"failure":{"code":"insufficient_funds","message":"The payment was declined: '
    '{"audit_entries":[{"user_id":"","ip_address":"127.0.0.1","user_agent":"Mozilla/5.0","request_id":"'
    + _RECORDS % ("fail", '"processing"', "failed", "failed", "failed", 3)
    + _RECORDS % ("create", "null", "pending", "created", "pending", 1)
    + _RECORDS % ("begin", '"pending"', "processing", "updated", "processing", 2)
    + _RECORDS % ("complete", '"processing"', "completed", "updated", "completed", 3)
).encode()


def pack(args: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments as they are to be stored."""
    text = to_json(args)
    # SQL finds the jobs of a payment by this argument.
    if "payment_id" in args or len(text) < _MIN_BYTES or _AT in text:
        return args
    deflate = zlib.compressobj(wbits=_RAW, zdict=_DICTIONARY)
    return {_KEY: b64encode(deflate.compress(text) + deflate.flush()).decode()}


def unpack(args: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that were stored."""
    packed = args.get(_KEY)
    if packed is None:
        return args
    unpacked: dict[str, Any] = from_json(
        zlib.decompressobj(_RAW, zdict=_DICTIONARY).decompress(b64decode(packed))
    )
    return unpacked
