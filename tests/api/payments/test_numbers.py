"""Numbers are returned unchanged or refused, never rounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api.http import body
from tests.makers import Visitor, error


def post(caller: Visitor, path: str, written: str, method: str = "POST"):
    headers = {"Content-Type": "application/json"}
    return caller.send(method, path, body=written.encode(), headers=headers)


def pay(caller: Visitor, **written: str):
    fields = {"type": '"payment"', "amount": "1", **written}
    return post(
        caller, "/payments", "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    )


@pytest.mark.parametrize(
    "amount",
    ["12.500000000000000001", "99999999.990000001", "12.5049999999999999999", "0.01000000000000000000001"],
)
def test_an_amount_with_too_many_digits_is_refused_not_rounded(customer, amount):
    result = pay(customer, amount=amount)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == ["amount"]
    # Text is refused, too.
    assert error(pay(customer, amount=f'"{amount}"')) == (400, "VALIDATION_ERROR")


def test_trailing_zeros_of_a_number_do_not_count(customer):
    assert pay(customer, amount="12.5000000000000000000000").json["data"]["amount"] == "12.50"


@pytest.mark.parametrize(
    "number", ["12345678901234567890", "-0.1", "3.141592653589793", "0.30000000000000004", "1e22", "1e-7"]
)
def test_numbers_in_metadata_are_returned_unchanged(customer, number):
    data = pay(customer, metadata=f'{{"a":[{{"b":{number}}}]}}').json["data"]
    assert data["metadata"] == {"a": [{"b": json.loads(number)}]}
    assert customer.get(f"/payments/{data['id']}").json["data"]["metadata"] == data["metadata"]


@pytest.mark.parametrize(
    "number", ["12345678901234567890.12345", "3.14159265358979323846", "1e-999", "1e99999999999999999999"]
)
def test_a_number_that_would_lose_digits_is_refused(customer, number):
    result = pay(customer, metadata=f'{{"a":[{{"b":{number}}}]}}', amount="true")
    assert error(result) == (400, "VALIDATION_ERROR")
    named = {fault["field"] for fault in result.json["error"]["details"]["fields"]}
    assert named == {"metadata", "amount"}, "all faults are named at once"
    preferences = post(customer, "/profile/preferences", f'{{"pi":{number}}}', "PUT")
    assert error(preferences) == (400, "VALIDATION_ERROR")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_serialised_float_is_accepted(number):
    read = json.loads(json.dumps(number), parse_float=body._exact_float)
    assert type(read) is float
    assert read == number
    assert TypeAdapter(float).validate_json(json.dumps(number)) == number


def test_a_byte_order_mark_is_ignored(customer):
    assert post(customer, "/payments", '\ufeff{"type":"payment","amount":1}').status_code == 201
    assert error(post(customer, "/payments", '\ufeff\ufeff{"type":"payment"}')) == (400, "MALFORMED_JSON")
