"""Money: a Decimal and an ISO 4217 code; never a float. Only currencies with at most two decimals."""

from decimal import Decimal

MIN_AMOUNT, MAX_AMOUNT = Decimal("0.01"), Decimal("99999999.99")

# ISO 4217, list one (active codes). Those with three or four decimals (BHD, KWD, CLF, ...) do not fit
# DECIMAL(10,2), and the metals and test codes (XAU, XTS, ...) are no money: neither is here.
NO_DECIMALS = frozenset("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split())
_TWO_DECIMALS = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD
    HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK
    MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD
    RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
    USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
    """.split()
)
MAX_DECIMALS = 2
CURRENCIES = NO_DECIMALS | _TWO_DECIMALS


def decimals(currency: str) -> int:
    """How many decimals the currency has by ISO 4217: 0 or 2."""
    return 0 if currency in NO_DECIMALS else 2


def fits(amount: Decimal, currency: str | None = None) -> bool:
    """Whether the amount has no more decimals than the currency, or than any: 500 fits JPY; 500.50 and 500.00
    do not. Normalize the amount first where its zeros do not count."""
    exponent = amount.as_tuple().exponent
    most = decimals(currency) if currency else MAX_DECIMALS
    return isinstance(exponent, int) and -exponent <= most


def text(amount: Decimal, currency: str) -> str:
    """With the currency's own number of decimals: `"12.50"`, for JPY `"500"`."""
    return f"{amount:.{decimals(currency)}f}"
