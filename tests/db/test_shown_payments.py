"""A page of payments reads its rows and few others, also by a plan that is made for any caller."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from db import postgres, shown_payments
from db.shown_payments import PaymentFilter, Visibility
from tests import makers

FEW, MANY = [uuid4() for _ in range(8)], [uuid4() for _ in range(8)]
# The payments of each of the one kind of user are all older than those of the other.
INSERT = """
    INSERT INTO payments.payments
        (id, user_id, payee_id, type, status, amount, currency, metadata, version, created_at, updated_at)
    SELECT gen_random_uuid(), user_id, user_id, 'payment', 'completed', 1, 'EUR', '{}', 1, created_at, created_at
    FROM (SELECT (%s::uuid[])[1 + n %% 8] AS user_id, now() + (n - %s) * interval '1 second' AS created_at
        FROM generate_series(1, %s) AS n) AS made
"""
PAGE = 20
READ = "SELECT sum(seq_tup_read + idx_tup_fetch) AS rows FROM pg_stat_xact_user_tables WHERE schemaname = 'payments'"


@pytest.fixture
def payments(database: None) -> None:
    postgres.set_statement_timeout(60)
    # Without foreign key checks: they take long on a loaded machine.
    with makers.triggers_disabled():
        postgres.rows(INSERT, FEW, 10_000, 400)
        postgres.rows(INSERT, MANY, 6_000, 6_000)
    postgres.rows("ANALYZE payments.payments")


@pytest.mark.parametrize("party", ["user_id", "payee_id"])
def test_a_page_of_a_user_with_few_payments_reads_no_others_where_most_users_have_many(payments, party):
    def page(user_id: UUID) -> int:
        of_user: dict[str, Any] = {party: user_id}
        return len(shown_payments.page(Visibility(**of_user), PaymentFilter(), limit=PAGE, after=None).items)

    # The plan of the first execution stays, and does not depend on the user. It expects as many payments of each as
    # the average has: unless an index has those of a user in the order of a page, it looks among the newest of all.
    page(MANY[0])
    before = int(postgres.value(READ))
    assert page(FEW[0]) == PAGE
    assert int(postgres.value(READ)) - before < 3 * PAGE
