"""What any provider behind the seam has to keep. The stub is run through it; an adapter to a real one would be."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors.psp.provider import Answer, Order, Outcome, Provider
from tests import makers

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def provider() -> Provider:
    return makers.stub()


def order(**metadata: Any) -> Order:
    id = uuid4()
    return Order(str(id), id, Decimal("12.50"), "USD", metadata)


def test_an_order_is_charged(provider: Provider):
    assert provider.charge(order()) == Answer(Outcome.CHARGED)


def test_a_decline_has_a_code(provider: Provider):
    assert provider.charge(order(simulate="decline:expired_card")) == Answer(Outcome.DECLINED, "expired_card")
    answer = provider.charge(order(simulate="decline"))
    assert answer.outcome is Outcome.DECLINED
    assert answer.code


def test_an_order_given_again_is_answered_as_the_first_time(provider: Provider):
    declined = order(simulate="decline:lost_card")
    first = provider.charge(declined)
    # Even if the provider would decide otherwise by now.
    again = Order(declined.key, declined.payment_id, declined.amount, declined.currency, {})
    assert provider.charge(again) == first


def test_what_was_ordered_is_found_by_its_key_and_nothing_else_is(provider: Provider):
    made = order()
    assert provider.find(made.key) is None
    answer = provider.charge(made)
    assert provider.find(made.key) == answer
