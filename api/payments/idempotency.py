"""`Idempotency-Key`: the same request again gets the first answer again, and does nothing again.

Key, payment, promises and the answer are one transaction: a process that is killed in the middle leaves none
of them. A refusal is rolled back with its key, and may be tried again.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from falcon import Request
from pydantic import BaseModel

from actors.jobs import transaction
from api.http import envelope
from api.http.body import ValidationFailed
from api.security.permissions import Caller
from db import idempotency
from db.core import times
from db.core.errors import DomainError, ErrorCode

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"

# Longer than anybody may wait: after that, its process has died over it.
_STILL_WAITING = timedelta(seconds=15)
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class IdempotencyInProgress(DomainError):
    """The first request with this Idempotency-Key has not been answered yet."""

    code = ErrorCode.IDEMPOTENCY_IN_PROGRESS
    retry_after = 1


class IdempotencyMismatch(DomainError):
    """This Idempotency-Key was used with another request."""

    code = ErrorCode.IDEMPOTENCY_MISMATCH


@dataclass(frozen=True)
class Written:
    """An answer as bytes, the id of what it is about; whether it was given before, or is still to come."""

    status: int
    body: bytes
    id: UUID
    replayed: bool = False
    provisional: bool = False
    # Whoever it is to come for is still at it.
    waited_for: bool = False


def once(
    req: Request,
    body: BaseModel | None,
    *,
    status: int,
    message: str,
    do: Callable[[], dict[str, Any]],
    heard: bool,
    waits: bool,
) -> Written:
    """Does it in a transaction and answers, or gives the answer that was given. Raises InProgress, Mismatch,
    Invalid, and what `do` raises.

    Where keys are not `heard`, it is done in any case. Who `waits` for it to be settled gets an answer that
    is to be given by `give`.
    """
    caller: Caller = req.context.caller
    key = _key(req) if heard else None
    request = _request(req, body) if key is not None else ""
    try:
        with transaction():
            kept = idempotency.claim(caller.user_id, key, request) if key is not None else None
            if kept is None:
                data = do()
                id, answer = UUID(data["id"]), envelope.success(data, message)
                if key is not None:
                    idempotency.store_response(
                        caller.user_id, key, status=status, body=answer, payment_id=id, provisional=waits
                    )
                return Written(status, answer, id, provisional=waits)
    except idempotency.KeyInUse:
        raise IdempotencyInProgress from None
    if kept.request != request:
        raise IdempotencyMismatch
    return _written(kept)


def give(req: Request, written: Written, *, status: int, body: bytes, heard: bool) -> Written:
    """Gives the answer that was to come. Of many that waited under one key, all get what the first got."""
    caller: Caller = req.context.caller
    key = _key(req) if heard else None
    kept = idempotency.finalize(caller.user_id, key, status=status, body=body) if key is not None else None
    if kept is None:
        return Written(status, body, written.id)
    return replace(_written(kept), replayed=written.replayed)


def _written(kept: idempotency.IdempotencyKey) -> Written:
    assert kept.status, "what is committed has its answer"
    assert kept.body, "and that has a body"
    assert kept.payment_id, "which is about a payment"
    return Written(
        kept.status,
        bytes(kept.body),
        kept.payment_id,
        replayed=True,
        provisional=kept.provisional,
        waited_for=kept.provisional and times.now() - kept.created_at < _STILL_WAITING,
    )


def given(req: Request) -> Written | None:
    """The answer under the key of this request, once it was given."""
    caller: Caller = req.context.caller
    key = _key(req)
    kept = idempotency.find(caller.user_id, key) if key is not None else None
    return None if kept is None or kept.provisional else _written(kept)


def known(req: Request) -> bool:
    """Whether there is an answer under the key of this request already, so that nothing will be done."""
    caller: Caller = req.context.caller
    key = _key(req)
    return key is not None and idempotency.find(caller.user_id, key) is not None


def _key(req: Request) -> str | None:
    key = req.get_header(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        message = "must be 1 to 255 printable ASCII characters"
        raise ValidationFailed({"fields": [{"field": HEADER, "message": message}]})
    return key


def _request(req: Request, body: BaseModel | None) -> str:
    # What was understood and not how it was written: 12.5 is "12.50", and a default is what it stands for.
    # The version that the caller means belongs to it. A default is left out: a field that a later release
    # adds must not make another request of one whose key is kept.
    fields = body.model_dump(exclude_defaults=True) if body else None
    understood = json.dumps(fields, sort_keys=True, default=_plain)
    version = req.get_header("If-Match") or ""
    return hashlib.sha256(f"{req.method} {req.path}\n{version}\n{understood}".encode()).hexdigest()


def _plain(value: object) -> str:
    return str(value.normalize() if isinstance(value, Decimal) else value)
