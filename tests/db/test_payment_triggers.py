"""The database itself refuses illegal transitions, changed terms and changed history."""

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

LEGAL = {(type, before, to) for (type, before, _transition), to in TRANSITIONS.items()}
# A payment is never `initiated`: the table has no such row to begin with.
STATUSES = [
    (type, status)
    for type, status in product(PaymentType, PaymentStatus)
    if (type, status) != (PaymentType.PAYMENT, PaymentStatus.INITIATED)
]


INSERT = "INSERT INTO payments.payments (user_id, type, status, amount, currency) VALUES (%s, %s, %s, %s, %s)"


def payment_with(type: PaymentType, status: PaymentStatus) -> UUID:
    """Inserts a payment with this status, without the triggers; returns its id."""
    vendor = makers.user(Role.VENDOR).id
    with makers.triggers_disabled():
        [row] = postgres.rows(f"{INSERT} RETURNING id", *(vendor, type, status, "12.50", "USD"))
    return UUID(str(row["id"]))


def accepted(sql: str, *params: object) -> bool:
    """Tells whether the database accepts a statement, which is then rolled back."""
    try:
        with postgres.database.atomic() as savepoint:
            postgres.rows(sql, *params)
            savepoint.rollback()
    except peewee.IntegrityError:
        return False
    return True


def updates(id: UUID, **columns: object) -> bool:
    """Tells whether the database accepts an update of a payment."""
    settings = ", ".join(f"{name} = %s" for name in columns)
    return accepted(f"UPDATE payments.payments SET {settings} WHERE id = %s", *columns.values(), id)


@pytest.mark.parametrize(
    ("type", "before", "to"),
    [(type, before, to) for type in PaymentType for before, to in permutations(PaymentStatus, 2)],
)
def test_the_table_accepts_exactly_the_legal_transitions(type, before, to):
    if (type, before) not in STATUSES:
        with pytest.raises(peewee.IntegrityError, match="initiated_is_a_request"):
            payment_with(type, before)
        return
    assert updates(payment_with(type, before), status=to) == ((type, before, to) in LEGAL)


@pytest.mark.parametrize(("type", "status"), STATUSES)
def test_an_unchanged_status_is_no_transition(type, status):
    assert updates(payment_with(type, status), status=status, description="The same, in other words")


@pytest.mark.parametrize(("type", "status"), STATUSES)
def test_the_type_never_changes_with_or_without_the_status(type, status):
    [other] = set(PaymentType) - {type}
    id = payment_with(type, status)
    assert [to for to in PaymentStatus if updates(id, type=other, status=to)] == []


def test_the_database_has_the_transition_table_of_the_code():
    candidates = list(product(PaymentType, [None, *PaymentStatus], PaymentStatus))
    legal = {
        candidate
        for candidate in candidates
        if postgres.rows("SELECT WHERE payments.is_legal_transition(%s, %s, %s)", *candidate)
    }
    assert legal == LEGAL


@pytest.mark.parametrize(("type", "status"), list(product(PaymentType, PaymentStatus)))
def test_a_new_payment_is_pending(type, status):
    vendor = makers.user(Role.VENDOR).id
    assert accepted(INSERT, vendor, type, status, "12.50", "USD") is (status is PaymentStatus.PENDING)


@pytest.mark.parametrize(("type", "status"), STATUSES)
def test_only_the_amount_of_an_open_request_changes(type, status):
    id = payment_with(type, status)
    is_open = type is PaymentType.INITIATE and status in (PaymentStatus.PENDING, PaymentStatus.INITIATED)
    assert updates(id, amount="13.50") is is_open
    assert updates(id, currency="EUR") is is_open
    # An update with equal values is accepted.
    assert updates(id, amount="12.50", currency="USD", description="the same")


def test_a_transition_does_not_change_the_amount_of_a_request():
    id = payment_with(PaymentType.INITIATE, PaymentStatus.INITIATED)
    assert updates(id, status="processing")
    assert not updates(id, status="processing", amount="13.50")
    assert not updates(id, status="cancelled", currency="EUR")


@pytest.mark.parametrize(("type", "status"), STATUSES)
def test_payer_payee_and_request_never_change(type, status):
    id, other = payment_with(type, status), payment_with(PaymentType.INITIATE, PaymentStatus.INITIATED)
    assert not updates(id, user_id=makers.user().id)
    assert not updates(id, payee_id=makers.user(Role.VENDOR).id)
    assert not updates(id, request_id=other)


def test_an_amount_has_at_most_the_decimals_of_its_currency():
    vendor = makers.user(Role.VENDOR).id
    for currency in sorted(money.CURRENCIES):
        assert accepted(INSERT, vendor, "payment", "pending", "5.00", currency)
        with_cents = accepted(INSERT, vendor, "payment", "pending", "5.55", currency)
        assert with_cents is (money.decimals(currency) == 2), currency


def test_the_currency_of_an_open_request_must_fit_its_amount():
    assert not updates(payment_with(PaymentType.INITIATE, PaymentStatus.INITIATED), currency="JPY")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payments.payment_transactions SET reason = 'another'",
        "UPDATE payments.payment_transactions SET created_at = created_at - interval '1 second'",
        "UPDATE payments.payment_transactions SET user_id = gen_random_uuid()",
        "DELETE FROM payments.payment_transactions",
        "TRUNCATE payments.payment_transactions",
    ],
)
def test_the_history_is_append_only(statement):
    makers.payment()
    assert not accepted(statement)


@pytest.mark.parametrize("table", ["payments.payments", "auth.users"])
@pytest.mark.parametrize("statement", ["DELETE FROM", "TRUNCATE"])
def test_payments_and_users_are_never_deleted(table, statement):
    makers.payment()
    assert not accepted(f"{statement} {table}{' CASCADE' if statement == 'TRUNCATE' else ''}")
