"""Amounts and the decimals of their currencies."""

from decimal import Decimal

import pytest

from db.core import money


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [("12.5", "USD", "12.50"), ("12", "EUR", "12.00"), ("500", "JPY", "500"), ("500.00", "JPY", "500")],
)
def test_an_amount_is_shown_with_the_decimals_of_its_currency(amount, currency, text):
    assert money.text(Decimal(amount), currency) == text


@pytest.mark.parametrize(
    ("amount", "currency", "fits"),
    [
        ("1.25", "USD", True),
        ("1.255", "USD", False),
        ("5", "JPY", True),
        ("5.00", "JPY", False),
        ("5.5", "JPY", False),
    ],
)
def test_an_amount_has_at_most_the_decimals_of_its_currency(amount, currency, fits):
    assert money.fits(Decimal(amount), currency) is fits


def test_currencies_with_three_decimals_and_non_currencies_are_left_out():
    assert not {"KWD", "BHD", "CLF", "XAU", "XXX", "XTS"} & money.CURRENCIES
    assert all(len(code) == 3 and code.isupper() for code in money.CURRENCIES)
