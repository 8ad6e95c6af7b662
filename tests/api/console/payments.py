"""Payments and requests for tests of the pages that show them."""

from typing import Any

from tests.api.console.browsers import Browser
from tests.makers import Visitor, work


def pay(caller: Visitor, **more: Any) -> str:
    body = {"type": "payment", **({} if "requestId" in more else {"amount": "12.50"}), **more}
    return str(caller.post("/payments", body).json["data"]["id"])


def ask(vendor: Visitor) -> str:
    id = vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    return str(id)


def shown(browser: Browser, path: str) -> str:
    result = browser.get(path)
    assert result.status_code == 200, result.text
    return result.text
