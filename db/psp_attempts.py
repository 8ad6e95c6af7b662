"""What the PSP was asked about a payment, when, and what came of it: one row a call, written before it."""

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import page as pages
from db import postgres
from db.states import Status


class Operation(StrEnum):
    """What it can be asked: for the money, or what it knows."""

    CHARGE = "charge"
    FIND = "find"


class Result(StrEnum):
    """What can come of a call."""

    CHARGED = "charged"
    DECLINED = "declined"
    # It knows no order under this reference.
    NOT_FOUND = "not_found"
    # It said that it could not do it, or was never reached: nothing of this call is still under way.
    UNAVAILABLE = "unavailable"
    # What became of the call is not known, and may still become something.
    NO_ANSWER = "no_answer"


class PspAttempt(postgres.Model):
    """One call. Without a result it is under way, or its process died over it."""

    id = peewee.UUIDField(primary_key=True)
    payment_id = peewee.UUIDField(constraints=[SQL("REFERENCES payments.payments (id)")])
    operation = peewee.CharField(50, constraints=[peewee.Check("operation IN ('charge', 'find')")])
    reference = peewee.CharField(255)
    outcome = peewee.CharField(
        50,
        null=True,
        constraints=[
            peewee.Check("outcome IN ('charged', 'declined', 'not_found', 'unavailable', 'no_answer')")
        ],
    )
    code = peewee.CharField(100, null=True)
    created_at = DateTimeTZField(constraints=postgres.CLOCK)
    ended_at = DateTimeTZField(null=True)

    class Meta:
        schema = "payments"
        table_name = "psp_attempts"


PspAttempt.add_index(
    SQL("CREATE INDEX psp_attempts_payment_id ON payments.psp_attempts (payment_id, created_at, id)")
)


def begin(id: UUID, payment_id: UUID, operation: Operation, reference: str, *, first: bool = False) -> bool:
    """Writes down that the PSP is about to be asked; False when the payment is not `processing` any more, or
    this would not be the `first` call.

    Under the payment's lock: whoever fails a payment by hand sees this call, or this call sees that.
    """
    only = " WHERE NOT EXISTS (SELECT FROM payments.psp_attempts a WHERE a.payment_id = payment.id)"
    return bool(
        postgres.rows(
            "WITH payment AS (SELECT id FROM payments.payments WHERE id = %s AND status = %s"
            " FOR NO KEY UPDATE)"
            " INSERT INTO payments.psp_attempts (id, payment_id, operation, reference)"
            f" SELECT %s, id, %s, %s FROM payment{only if first else ''}"
            # A process died over it, and this is the next one.
            " ON CONFLICT (id) DO UPDATE SET operation = excluded.operation RETURNING id",
            payment_id,
            Status.PROCESSING,
            id,
            operation,
            reference,
        )
    )


def end(id: UUID, result: Result, code: str | None = None) -> None:
    """Writes down what came of it."""
    postgres.rows(
        "UPDATE payments.psp_attempts SET outcome = %s, code = %s, ended_at = clock_timestamp()"
        " WHERE id = %s",
        result,
        code,
        id,
    )


def result(id: UUID) -> Result | None:
    """What came of a call; None as long as it is under way, or not begun."""
    found = PspAttempt.get_or_none(PspAttempt.id == id)
    return Result(found.outcome) if found is not None and found.outcome else None


def calls(payment_id: UUID) -> int:
    """How often the PSP was asked for this money."""
    query = PspAttempt.select().where(
        PspAttempt.payment_id == payment_id, PspAttempt.operation == Operation.CHARGE
    )
    return int(query.count())


# What is known of a payment that has been in doubt for weeks fits on a page: the last questions are enough.
_QUESTIONS = 20


def of(payment_id: UUID) -> Sequence[PspAttempt]:
    """The calls for one payment, oldest first: all for the money, and the last questions."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    charges = query.where(PspAttempt.operation == Operation.CHARGE)
    questions = query.where(PspAttempt.operation == Operation.FIND).order_by(
        PspAttempt.created_at.desc(), PspAttempt.id.desc()
    )
    return sorted(
        [*charges, *questions.limit(_QUESTIONS)], key=lambda attempt: (attempt.created_at, attempt.id)
    )


def page(payment_id: UUID, *, limit: int, after: pages.Place | None) -> pages.Page[PspAttempt]:
    """The newest calls for one payment, from `after` on."""
    query = PspAttempt.select().where(PspAttempt.payment_id == payment_id)
    return pages.newest(PspAttempt, [query], limit=limit, after=after)
