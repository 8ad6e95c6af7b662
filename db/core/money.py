"""Money: a Decimal with an ISO 4217 code, never a float. Currencies have at most two decimals."""

from decimal import Decimal

MIN_AMOUNT, MAX_AMOUNT = Decimal("0.01"), Decimal("99999999.99")

# ISO 4217, list one (active codes), without currencies of three or four decimals (BHD, KWD, CLF, ...), which
# do not fit DECIMAL(10,2), and without metals and test codes (XAU, XTS, ...), which are no money.
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
    """Returns the number of decimals of a currency by ISO 4217: 0 or 2."""
    return 0 if currency in NO_DECIMALS else 2


def fits(amount: Decimal, currency: str | None = None) -> bool:
    """Returns whether the amount has at most as many decimals as the currency, or as any currency.

    500 fits JPY; 500.50 and 500.00 do not. Normalize the amount first if trailing zeros do not matter.
    """
    exponent = amount.as_tuple().exponent
    most = decimals(currency) if currency else MAX_DECIMALS
    return isinstance(exponent, int) and -exponent <= most


def text(amount: Decimal, currency: str) -> str:
    """Returns the amount with the currency's number of decimals: `"12.50"`, for JPY `"500"`."""
    return f"{amount:.{decimals(currency)}f}"
