"""The stubbed PSP's ledger: another company's records, which only the stub writes."""

from decimal import Decimal
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Charge(postgres.Model):
    """What the PSP decided under one idempotency key, once and for ever."""

    idempotency_key = peewee.CharField(255, primary_key=True)
    payment_id = peewee.UUIDField()
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    outcome = peewee.CharField(50, constraints=[peewee.Check("outcome IN ('charged', 'declined')")])
    code = peewee.CharField(100, null=True)
    created_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "psp"
        table_name = "charges"


Charge.add_index(SQL("CREATE INDEX charges_payment_id ON psp.charges (payment_id)"))


def find(key: str) -> Charge | None:
    """The charge under this idempotency key."""
    return Charge.get_or_none(Charge.idempotency_key == key)


def add(
    key: str, *, payment_id: UUID, amount: Decimal, currency: str, outcome: str, code: str | None
) -> Charge:
    """Books a charge; where the key is taken, the charge that was booked first."""
    insert = Charge.insert(
        idempotency_key=key,
        payment_id=payment_id,
        amount=amount,
        currency=currency,
        outcome=outcome,
        code=code,
    )
    booked = postgres.returned(insert.on_conflict_ignore(), Charge)
    return booked[0] if booked else Charge.get_by_id(key)
