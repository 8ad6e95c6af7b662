"""The headers of the document: those that a request may send, and those that an answer carries."""

from collections.abc import Iterable
from typing import Any

# As request headers; `components/parameters`.
SENT: dict[str, dict[str, Any]] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "The caller's own id of this request: 1 to 128 letters, digits and `._:-`.",
        "schema": {"type": "string"},
        "example": "checkout-4711",
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` that the caller has: while it still holds, the answer is a 304.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The `ETag` of what the caller means to change: another version is a 412.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N` (RFC 7240), 1 to 10 seconds: the answer waits until the payment is settled. "
        "If that takes longer, or too many wait already, it is the plain one.",
        "schema": {"type": "string"},
        "example": "wait=5",
    },
    "PreferAnother": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N` (RFC 7240), 1 to 10 seconds, beside `If-None-Match`: the answer waits for "
        "another version than that. If too many wait already, it is a 304 at once.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "1 to 255 printable characters: the same request under the same key is done once, and "
        "answered as the first time, byte for byte. Kept for a day, and until the payment is final.",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
        "example": "order-4711",
    },
}

_WHOLE = {"type": "integer", "minimum": 0}

# As answer headers; `components/headers`.
CARRIED: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The id of the request: the same in log lines, audit rows and events.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {"description": "The version of this one thing.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "Where this answer was given before.",
        "schema": {"type": "string", "const": "true"},
    },
    "Preference-Applied": {
        "description": "Where the answer waited: until the payment was settled, or for another version.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
    },
    "Content-Disposition": {"description": "The name of the file.", "schema": {"type": "string"}},
    "RateLimit-Limit": {"description": "Requests allowed in the window.", "schema": _WHOLE},
    "RateLimit-Remaining": {"description": "How many of them are left.", "schema": _WHOLE},
    "RateLimit-Reset": {"description": "Seconds until the window ends.", "schema": _WHOLE},
    "RateLimit": {
        "description": "For each limit that holds here, by its name, how many requests are left (`r`) in how "
        "many seconds (`t`); draft-ietf-httpapi-ratelimit-headers-10.",
        "schema": {"type": "string"},
        "example": '"api";r=99;t=900',
    },
    "RateLimit-Policy": {
        "description": "For each limit that holds here, by its name, how many requests are allowed (`q`) in "
        "a window of how many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"api";q=100;w=900',
    },
    "Retry-After": {"description": "Seconds until another try may be worth it.", "schema": _WHOLE},
    "WWW-Authenticate": {
        "description": "Where an access token is missing or no longer good.",
        "schema": {"type": "string", "const": "Bearer"},
    },
    "Allow": {"description": "The methods that this address knows.", "schema": {"type": "string"}},
}

LIMITS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit", "RateLimit-Policy")

_BY_STATUS = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def sent(name: str) -> dict[str, str]:
    """A reference to a request header."""
    return {"$ref": f"#/components/parameters/{name}"}


def of(
    status: int, *, limited: bool, tagged: bool = False, replayed: bool = False, more: Iterable[str] = ()
) -> dict[str, Any]:
    """The headers of an answer with this status."""
    names = ["X-Request-ID", *(LIMITS if limited else ()), *_BY_STATUS.get(status, ())]
    if tagged:
        names.append("ETag")
    if replayed:
        names.append("Idempotency-Replayed")
    names.extend(more)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
