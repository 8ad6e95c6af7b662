"""The table obeys the law by itself: what no step leads to, no statement writes, whoever sends it."""

from itertools import permutations, product
from uuid import UUID

import peewee
import pytest

from actors.lifecycle import LAW
from db import postgres
from db.auth import Role
from db.states import Status, Type
from tests import makers

pytestmark = pytest.mark.usefixtures("database")

LED = {(type, before, to) for (type, before, _step), to in LAW.items()}
# A payment is never `initiated`: the table has no such row to begin with.
STANDS = [
    (type, status)
    for type, status in product(Type, Status)
    if (type, status) != (Type.PAYMENT, Status.INITIATED)
]


def standing(type: Type, status: Status) -> UUID:
    """A payment that stands there, however it came to."""
    [row] = postgres.rows(
        "INSERT INTO payments.payments (user_id, type, status, amount) VALUES (%s, %s, %s, 12.50) RETURNING id",
        makers.user(Role.VENDOR).id,
        type,
        status,
    )
    return UUID(str(row["id"]))


def taken(id: UUID, **columns: str) -> bool:
    """Whether the table would take it."""
    settings = ", ".join(f"{name} = %s" for name in columns)
    try:
        with postgres.database.atomic() as savepoint:
            postgres.rows(f"UPDATE payments.payments SET {settings} WHERE id = %s", *columns.values(), id)
            savepoint.rollback()
    except peewee.IntegrityError:
        return False
    return True


@pytest.mark.parametrize(
    ("type", "before", "to"), [(type, before, to) for type in Type for before, to in permutations(Status, 2)]
)
def test_the_table_lets_a_payment_go_where_a_step_of_the_law_leads_and_nowhere_else(type, before, to):
    if (type, before) not in STANDS:
        with pytest.raises(peewee.IntegrityError, match="initiated_is_a_request"):
            standing(type, before)
        return
    assert taken(standing(type, before), status=to) == ((type, before, to) in LED)


@pytest.mark.parametrize(("type", "status"), STANDS)
def test_to_stay_is_no_step(type, status):
    assert taken(standing(type, status), status=status, description="The same, in other words")


@pytest.mark.parametrize(("type", "status"), STANDS)
def test_a_request_never_becomes_a_payment_nor_a_payment_a_request_whatever_else_it_becomes(type, status):
    [other] = set(Type) - {type}
    id = standing(type, status)
    assert [to for to in Status if taken(id, type=other, status=to)] == []


def test_the_database_knows_the_law_with_its_beginnings():
    steps = list(product(Type, [None, *Status], Status))
    known = {it for it in steps if postgres.rows("SELECT WHERE payments.is_lawful(%s, %s, %s)", *it)}
    assert known == LED
