"""The stubbed PSP's ledger: another company's records, which only the stub writes."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Charge(postgres.Model):
    """What the PSP decided under one idempotency key, once and for ever."""

    idempotency_key = peewee.CharField(255, primary_key=True)
    payment_id = peewee.UUIDField()
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    outcome = peewee.CharField(50)
    code = peewee.CharField(100, null=True)
    created_at = DateTimeTZField()

    class Meta:
        schema = "psp"
        table_name = "charges"


class PspOrder(postgres.Model):
    """What the stub was asked to play under a key, the first time, and how often it was asked."""

    idempotency_key = peewee.CharField(255, primary_key=True)
    simulate = peewee.CharField(255)
    calls = peewee.IntegerField()
    created_at = DateTimeTZField()

    class Meta:
        schema = "psp"
        table_name = "orders"


def record_call(key: str, simulate: str) -> int:
    """Counts one more call under this key, with what it plays, which the first call decides; how many."""
    insert = PspOrder.insert(idempotency_key=key, simulate=simulate, calls=1).on_conflict(
        conflict_target=[PspOrder.idempotency_key], update={PspOrder.calls: PspOrder.calls + 1}
    )
    return int(postgres.execute_returning(insert, PspOrder)[0].calls)


def find_scenario(key: str) -> str | None:
    """What is played under this key."""
    order = PspOrder.get_or_none(PspOrder.idempotency_key == key)
    return order.simulate if order else None


def charges_between(
    since: datetime, until: datetime, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Charge]:
    """What was decided from `since` on and before `until`, in its order, behind the charge of `after`."""
    query = Charge.select().where(Charge.created_at >= since, Charge.created_at < until)
    if after:
        place = peewee.Tuple(Charge.created_at, Charge.idempotency_key)
        query = query.where(place > peewee.Tuple(*after))
    return list(query.order_by(Charge.created_at, Charge.idempotency_key).limit(limit))


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
    booked = postgres.execute_returning(insert.on_conflict_ignore(), Charge)
    return booked[0] if booked else Charge.get_by_id(key)
