"""The stubbed PSP's ledger: the records of another company, which only the stub writes."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.prepared import Statement


class Charge(postgres.Model, table="psp.charges"):
    """The PSP's decision under one idempotency key. It never changes."""

    idempotency_key = peewee.CharField(255, primary_key=True)
    payment_id = peewee.UUIDField()
    amount = peewee.DecimalField(10, 2)
    currency = peewee.CharField(3)
    outcome = peewee.CharField(50)
    code = peewee.CharField(100, null=True)
    created_at = DateTimeTZField()


# An ordinary charge needs no other statement.
ADD_CHARGE = Statement(
    "add_psp_charge",
    """
    INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, code)
    VALUES (%(idempotency_key)s::text, %(payment_id)s::uuid, %(amount)s::numeric, %(currency)s::text,
        %(outcome)s::text, %(code)s::text)
    ON CONFLICT DO NOTHING
    RETURNING idempotency_key, payment_id, amount, currency, outcome, code, created_at
    """,
)


RECORD_CALL = """
    INSERT INTO psp.orders AS o (idempotency_key, simulate, calls) VALUES (%s, %s, 1)
    ON CONFLICT (idempotency_key) DO UPDATE SET calls = o.calls + 1 RETURNING calls
"""


def record_call(key: str, simulate: str) -> int:
    """Counts a call under this key and returns the number of calls. The first call's scenario is kept."""
    return int(postgres.value(RECORD_CALL, key, simulate))


def find_scenario(key: str) -> str | None:
    """Returns the scenario of this key; None if no call was counted under it."""
    scenario: str | None = postgres.value("SELECT simulate FROM psp.orders WHERE idempotency_key = %s", key)
    return scenario


def charges_between(
    since: datetime, until: datetime, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Charge]:
    """Returns decisions from `since` on and before `until`, in order.

    `after` is the creation time and key of the last decision that the caller has.
    """
    query = Charge.select().where(Charge.created_at >= since, Charge.created_at < until)
    if after:
        position = peewee.Tuple(Charge.created_at, Charge.idempotency_key)
        query = query.where(position > peewee.Tuple(*after))
    return list(query.order_by(Charge.created_at, Charge.idempotency_key).limit(limit))


def find(key: str) -> Charge | None:
    """Returns the decision under this idempotency key."""
    return Charge.get_or_none(Charge.idempotency_key == key)


def add(
    key: str, *, payment_id: UUID, amount: Decimal, currency: str, outcome: str, code: str | None
) -> Charge:
    """Records a decision and returns it; returns the recorded decision if the key has one."""
    decision = {"amount": amount, "currency": currency, "outcome": outcome, "code": code}
    added = postgres.first(Charge, ADD_CHARGE, idempotency_key=key, payment_id=payment_id, **decision)
    return added or Charge.get_by_id(key)
