"""`Idempotency-Key`: the same request again gets the first answer again, and does nothing again.

Key, payment, promises and the answer are one transaction: a process that is killed in the middle leaves none
of them. A refusal is rolled back with its key, and may be tried again.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors.verbs import transaction
from api.gateway import envelope
from api.gateway.body import Invalid
from api.policies import Caller
from db import idempotency
from db.fault import Code, Fault

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class InProgress(Fault):
    """The first request with this Idempotency-Key has not been answered yet."""

    code = Code.IDEMPOTENCY_IN_PROGRESS
    retry_after = 1


class Mismatch(Fault):
    """This Idempotency-Key was used with another request."""

    code = Code.IDEMPOTENCY_MISMATCH


@dataclass(frozen=True)
class Written:
    """An answer as bytes; whether it was given before."""

    status: int
    body: bytes
    replayed: bool = False


def once(req: Request, *, status: int, message: str, do: Callable[[], dict[str, Any]]) -> Written:
    """Does it in a transaction and answers, or gives the answer that was given. Raises InProgress, Mismatch,
    Invalid, and what `do` raises."""
    caller: Caller = req.context.caller
    key = req.get_header(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        message = "must be 1 to 255 printable ASCII characters"
        raise Invalid({"fields": [{"field": HEADER, "message": message}]})
    try:
        with transaction():
            kept = idempotency.claim(caller.user_id, key, _request(req)) if key is not None else None
            if kept is None:
                data = do()
                body = envelope.success(data, message)
                if key is not None:
                    idempotency.keep(
                        caller.user_id, key, status=status, body=body, payment_id=UUID(data["id"])
                    )
                return Written(status, body)
    except idempotency.Busy:
        raise InProgress from None
    if kept.request != _request(req):
        raise Mismatch
    return Written(kept.status or status, bytes(kept.body or b""), replayed=True)


def _request(req: Request) -> str:
    # White space and the order of fields make no other request.
    body = json.dumps(json.loads(req.context.raw or b"null"), sort_keys=True)
    return hashlib.sha256(f"{req.method} {req.path}\n{body}".encode()).hexdigest()
