"""Accepts changes of payments: at most once per `Idempotency-Key`, settled on request (`Prefer: wait`).

The key, the payment, its jobs and the stored response are written in one transaction: a process that is
killed leaves all of them or none. A refusal rolls its key back with everything else, so the key can be used
again.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from falcon import Request
from pydantic import BaseModel

from actors.jobs import transaction
from api.http import responses
from api.http.body import ValidationFailed
from api.http.operation import Operation, Rendered
from api.middleware.authentication import caller_of
from api.payments import prefer_wait, schemas
from db import idempotency, payments, postgres
from db.core import times
from db.core.errors import DomainError, ErrorCode
from db.idempotency import IdempotencyKey, NewKey
from db.payments import Payment

_HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}")

# How long a request waits for the response to the first one with its key, in seconds.
_FIRST_RESPONSE_WAIT_S = 3.0
# A provisional response that is older was left behind by a process that died: no request waits that long.
_PROVISIONAL_MAX_AGE = timedelta(seconds=15)


class IdempotencyInProgress(DomainError, code=ErrorCode.IDEMPOTENCY_IN_PROGRESS, retry_after=1):
    """The first request with this Idempotency-Key has not been answered yet. Try again in a second."""


class IdempotencyMismatch(DomainError, code=ErrorCode.IDEMPOTENCY_MISMATCH):
    """This Idempotency-Key was used with another request."""


def accept(req: Request, *, change: Callable[[], Payment], is_settled: Callable[[Payment], bool]) -> Rendered:
    """Runs `change` in one transaction and responds with the payment that it returns.

    With `Prefer: wait` the response waits until `is_settled` and then carries the settled payment. Raises
    what `change` and `is_settled` raise.
    """
    with transaction():
        payment = change()
        accepted = _render(req, payment)
    settled = _wait_until_settled(req, payment.id, is_settled)
    return replace(settled, headers=prefer_wait.applied(req)) if settled else accepted


def accept_once(
    req: Request,
    body: BaseModel,
    *,
    change: Callable[[NewKey | None], Payment],
    is_settled: Callable[[Payment], bool],
) -> Rendered:
    """Does what `accept` does, once per `Idempotency-Key`: a repeated request gets the stored response.

    `change` stores the key that it gets, in its transaction; without a header it gets None. If the request
    then waits for settlement, the stored response is provisional: it has not been sent to any client. Raises
    IdempotencyInProgress, IdempotencyMismatch, ValidationFailed for a malformed key, and what `accept`
    raises.
    """
    text = _key(req)
    if text is None:
        return accept(req, change=lambda: change(None), is_settled=is_settled)
    response: Rendered | None = None

    def respond(payment: Payment) -> tuple[int, bytes]:
        nonlocal response
        response = _render(req, payment)
        return response.status, response.body

    waits = prefer_wait.seconds(req) > 0
    key = NewKey(caller_of(req).user_id, text, _digest(req, body), provisional=waits, respond=respond)
    try:
        with transaction():
            payment = change(key)
    except idempotency.KeyInUse:
        raise IdempotencyInProgress from None
    except (idempotency.KeyUsed, DomainError) as refusal:
        # What the first request changed may be why the second one is refused: the key is looked at first.
        stored = idempotency.find(key.user_id, text)
        if stored is not None:
            return _replay(req, key, stored, is_settled)
        if isinstance(refusal, DomainError):
            raise
        # The key was deleted as expired since: the next attempt stores it.
        raise IdempotencyInProgress from None
    assert response, "a change stores its key, and with it the response"
    return _finalize(req, text, payment.id, response, is_settled) if waits else response


def has_stored_response(req: Request) -> bool:
    """Returns whether a response is stored under this request's key: the request then changes nothing."""
    key = _key(req)
    return key is not None and idempotency.find(caller_of(req).user_id, key) is not None


def _replay(
    req: Request, key: NewKey, stored: IdempotencyKey, is_settled: Callable[[Payment], bool]
) -> Rendered:
    """Returns the stored response of a key. Waits for its final one while the first request waits.

    Raises IdempotencyInProgress or IdempotencyMismatch.
    """
    if stored.request_hash != key.request_hash:
        raise IdempotencyMismatch
    if stored.provisional and times.now() - stored.created_at < _PROVISIONAL_MAX_AGE:
        # Waits in a slot: of fifty requests with one key only as many poll as there are slots.
        try:
            final = prefer_wait.poll(lambda: _final(key), _FIRST_RESPONSE_WAIT_S)
        except prefer_wait.TooManyWaiting:
            final = None
        if final is None:
            raise IdempotencyInProgress
        stored = final
    response = replace(_stored_response(stored), headers={"Idempotency-Replayed": "true"})
    if not stored.provisional:
        return response
    assert stored.payment_id, "a committed key names its payment"
    return _finalize(req, key.key, stored.payment_id, response, is_settled)


def _final(key: NewKey) -> IdempotencyKey | None:
    stored = idempotency.find(key.user_id, key.key)
    return None if stored is None or stored.provisional else stored


def _finalize(
    req: Request, key: str, payment_id: UUID, provisional: Rendered, is_settled: Callable[[Payment], bool]
) -> Rendered:
    """Waits until the payment is settled, then replaces the provisional response.

    Of several requests that finish under one key, the first one stores its response, and all send that one.
    """
    settled = _wait_until_settled(req, payment_id, is_settled)
    response = provisional
    if settled:
        response = replace(settled, headers={**provisional.headers, **prefer_wait.applied(req)})
    try:
        stored = idempotency.finalize(caller_of(req).user_id, key, status=response.status, body=response.body)
    except postgres.TRANSIENT_ERRORS:
        # The change is committed: the client gets a response though it cannot be stored now.
        return provisional
    final = _stored_response(stored) if stored else response
    return response if final.body == response.body else replace(final, headers=provisional.headers)


def _wait_until_settled(
    req: Request, payment_id: UUID, is_settled: Callable[[Payment], bool]
) -> Rendered | None:
    """Returns the response with the settled payment; None if the client does not wait long enough."""
    timeout_s = prefer_wait.seconds(req)
    if not timeout_s:
        return None

    def find() -> Rendered | None:
        payment = payments.get(payment_id)
        if payment is None or not is_settled(payment):
            return None
        response = _render(req, payment)
        # 202 says that the change is still to come.
        return replace(response, status=200) if response.status == 202 else response

    try:
        with prefer_wait.waiting(req):
            return prefer_wait.poll(find, timeout_s)
    except (prefer_wait.TooManyWaiting, *postgres.TRANSIENT_ERRORS):
        # The change is committed: the client gets the plain response.
        return None


def _render(req: Request, payment: Payment) -> Rendered:
    declared: Operation = req.context.operation
    data = schemas.Payment.for_caller(payment, caller_of(req))
    return Rendered(declared.status, responses.success(data, declared.message))


def _stored_response(stored: IdempotencyKey) -> Rendered:
    assert stored.status, "a committed key has its response"
    assert stored.body, "a committed key has its response"
    return Rendered(stored.status, bytes(stored.body))


def _key(req: Request) -> str | None:
    key = req.get_header(_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise ValidationFailed.of(_HEADER, "must be 1 to 255 printable ASCII characters")
    return key


def _digest(req: Request, body: BaseModel) -> str:
    """Returns the SHA-256 of what the request means.

    12.5 and "12.50" mean the same amount, and a field that is left out means its default.
    """
    # Defaults are left out: a field that a later release adds must not change the digest of a stored key.
    fields = json.dumps(body.model_dump(exclude_defaults=True), sort_keys=True, default=_plain)
    version = req.get_header("If-Match") or ""
    return hashlib.sha256(f"{req.method} {req.path}\n{version}\n{fields}".encode()).hexdigest()


def _plain(value: object) -> str:
    return str(value.normalize() if isinstance(value, Decimal) else value)
