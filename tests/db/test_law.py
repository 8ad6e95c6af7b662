"""The table obeys the law by itself: what no step leads to, no statement writes, whoever sends it."""

from itertools import permutations, product
from uuid import UUID

import peewee
import pytest

from actors.state_machine import TRANSITIONS
from db import postgres
from db.core import money
from db.states import PaymentStatus, PaymentType
from db.users import Role
from tests import makers

pytestmark = pytest.mark.usefixtures("database")

LED = {(type, before, to) for (type, before, _step), to in TRANSITIONS.items()}
# A payment is never `initiated`: the table has no such row to begin with.
STANDS = [
    (type, status)
    for type, status in product(PaymentType, PaymentStatus)
    if (type, status) != (PaymentType.PAYMENT, PaymentStatus.INITIATED)
]


INSERT = "INSERT INTO payments.payments (user_id, type, status, amount, currency) VALUES (%s, %s, %s, %s, %s)"


def standing(type: PaymentType, status: PaymentStatus) -> UUID:
    """A payment that stands there, however it came to."""
    vendor = makers.user(Role.VENDOR).id
    with makers.triggers_disabled():
        [row] = postgres.rows(f"{INSERT} RETURNING id", *(vendor, type, status, "12.50", "USD"))
    return UUID(str(row["id"]))


def accepted(sql: str, *params: object) -> bool:
    """Whether the database would take this statement."""
    try:
        with postgres.database.atomic() as savepoint:
            postgres.rows(sql, *params)
            savepoint.rollback()
    except peewee.IntegrityError:
        return False
    return True


def taken(id: UUID, **columns: object) -> bool:
    """Whether the table would take it."""
    settings = ", ".join(f"{name} = %s" for name in columns)
    return accepted(f"UPDATE payments.payments SET {settings} WHERE id = %s", *columns.values(), id)


@pytest.mark.parametrize(
    ("type", "before", "to"),
    [(type, before, to) for type in PaymentType for before, to in permutations(PaymentStatus, 2)],
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
    [other] = set(PaymentType) - {type}
    id = standing(type, status)
    assert [to for to in PaymentStatus if taken(id, type=other, status=to)] == []


def test_the_database_knows_the_law_with_its_beginnings():
    steps = list(product(PaymentType, [None, *PaymentStatus], PaymentStatus))
    known = {
        it for it in steps if postgres.rows("SELECT WHERE payments.is_legal_transition(%s, %s, %s)", *it)
    }
    assert known == LED


@pytest.mark.parametrize(("type", "status"), list(product(PaymentType, PaymentStatus)))
def test_nothing_comes_into_being_but_pending(type, status):
    vendor = makers.user(Role.VENDOR).id
    assert accepted(INSERT, vendor, type, status, "12.50", "USD") is (status is PaymentStatus.PENDING)


@pytest.mark.parametrize(("type", "status"), STANDS)
def test_money_is_changed_of_an_open_request_alone(type, status):
    id = standing(type, status)
    is_open = type is PaymentType.INITIATE and status in (PaymentStatus.PENDING, PaymentStatus.INITIATED)
    assert taken(id, amount="13.50") is is_open
    assert taken(id, currency="EUR") is is_open
    # What nothing changes is no change.
    assert taken(id, amount="12.50", currency="USD", description="the same")


def test_money_is_not_changed_by_the_step_that_engages_or_ends_a_request():
    id = standing(PaymentType.INITIATE, PaymentStatus.INITIATED)
    assert taken(id, status="processing")
    assert not taken(id, status="processing", amount="13.50")
    assert not taken(id, status="cancelled", currency="EUR")


@pytest.mark.parametrize(("type", "status"), STANDS)
def test_nobody_else_pays_or_is_paid_and_no_other_request(type, status):
    id, other = standing(type, status), standing(PaymentType.INITIATE, PaymentStatus.INITIATED)
    assert not taken(id, user_id=makers.user().id)
    assert not taken(id, payee_id=makers.user(Role.VENDOR).id)
    assert not taken(id, request_id=other)


def test_an_amount_has_no_more_decimals_than_its_currency_as_the_code_knows_them():
    vendor = makers.user(Role.VENDOR).id
    for currency in sorted(money.CURRENCIES):
        assert accepted(INSERT, vendor, "payment", "pending", "5.00", currency)
        with_cents = accepted(INSERT, vendor, "payment", "pending", "5.55", currency)
        assert with_cents is (money.decimals(currency) == 2), currency


def test_an_open_request_does_not_change_to_a_currency_that_its_amount_does_not_fit():
    assert not taken(standing(PaymentType.INITIATE, PaymentStatus.INITIATED), currency="JPY")


@pytest.mark.parametrize(
    "rewrites",
    [
        "UPDATE payments.payment_transactions SET reason = 'another'",
        "UPDATE payments.payment_transactions SET created_at = created_at - interval '1 second'",
        "UPDATE payments.payment_transactions SET user_id = gen_random_uuid()",
        "DELETE FROM payments.payment_transactions",
        "TRUNCATE payments.payment_transactions",
    ],
)
def test_history_is_only_ever_added_to(rewrites):
    makers.payment()
    assert not accepted(rewrites)
