"""Money in its currency's own decimals."""

from decimal import Decimal

import pytest

from db.core import money


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [("12.5", "USD", "12.50"), ("12", "EUR", "12.00"), ("500", "JPY", "500"), ("500.00", "JPY", "500")],
)
def test_money_is_shown_with_its_currencys_own_decimals(amount, currency, text):
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
def test_an_amount_has_no_more_decimals_than_its_currency(amount, currency, fits):
    assert money.fits(Decimal(amount), currency) is fits


def test_a_currency_with_three_decimals_or_none_at_all_is_not_taken():
    assert not {"KWD", "BHD", "CLF", "XAU", "XXX", "XTS"} & money.CURRENCIES
    assert all(len(code) == 3 and code.isupper() for code in money.CURRENCIES)
