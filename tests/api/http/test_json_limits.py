"""A body with too many values is refused before anything is built from it."""

import json
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import pytest
from falcon import Request
from hypothesis import given, settings
from hypothesis import strategies as st

from api.auth.sign_in import TokenRefresh
from api.http.body import MAX_DEPTH, MalformedJson, ValidationFailed, exceeded, read_body
from api.http.fields import BodyLimits, require_json_size
from api.middleware.body_limit import MIB
from api.payments.schemas import NewPayment
from api.profile.resources import Preferences
from db.core.errors import DomainError
from tests.makers import error, visitor


def limits(**named: Any) -> type[BodyLimits]:
    return type("Limits", (BodyLimits,), named)


LIMITS = limits(max_members=100, max_values=2000, sized_member=("metadata", 8))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=6),
)


def request_with(raw: bytes) -> Request:
    request = SimpleNamespace(
        context=SimpleNamespace(raw=raw),
        content_type="application/json",
        get_header=lambda _name: None,
    )
    return cast(Request, request)


def exceeded_by(**members) -> str | None:
    return exceeded(json.dumps(members).encode(), LIMITS)


def test_the_limits_are_exact():
    assert exceeded_by(**{f"f{at}": at for at in range(100)}) is None
    assert exceeded_by(**{f"f{at}": at for at in range(101)}) == "body"
    assert exceeded_by(a=[0] * 1998) is None
    assert exceeded_by(a=[0] * 1999) == "body"
    assert exceeded_by(a=[[]] * 1998) is None
    assert exceeded_by(a=[[]] * 1999) == "body"
    assert exceeded_by(metadata=[0] * 4000) is None
    assert exceeded_by(metadata=[0] * 4200) == "metadata"
    assert exceeded_by(metadata=[0] * 4000, a=[0] * 4000) == "body"
    assert exceeded_by(a={"metadata": [0] * 4000}) == "body"


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(st.dictionaries(st.text(max_size=4), values, max_size=6))
def test_a_body_within_the_limits_passes_whatever_its_strings_contain(value):
    def count(value) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + sum(map(count, inner))

    raw = json.dumps(value, ensure_ascii=False).encode()
    assert exceeded(raw, limits(max_members=max(len(value), 1), max_values=count(value))) is None
    if len(value) > 1:
        assert exceeded(raw, limits(max_members=len(value) - 1, max_values=count(value))) == "body"


def test_a_body_nested_too_deeply_is_refused():
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert exceeded(nested(MAX_DEPTH), LIMITS) is None
    with pytest.raises(MalformedJson):
        exceeded(nested(MAX_DEPTH + 1), LIMITS)
    with pytest.raises(MalformedJson):
        exceeded(nested(MAX_DEPTH + 1), limits(max_members=8192, max_values=8192))


@pytest.mark.parametrize("depth", [MAX_DEPTH, 1000, 8000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_preferences_nested_too_deeply_are_malformed(opening, closing, depth):
    raw = '{"a":' + opening * depth + "1" + closing * depth + "}"
    with pytest.raises(MalformedJson):
        read_body(request_with(raw.encode()), Preferences)


HUGE = [
    b"{" + b",".join(b'"%d":0' % at for at in range(100_000)) + b"}",
    b'{"a":[' + b"0," * 500_000 + b"0]}",
    b'{"metadata":[' + b"1e308," * 170_000 + b"1]}",
    b'{"metadata":{' + b",".join(b'"%d":[]' % at for at in range(80_000)) + b"}}",
    b"[" * MIB,
    b'{"a":' * 200_000,
    b'{"a' * 340_000,
    b'{"' + b'\\"' * 500_000,
    b'"' + b'\\"' * 500_000 + b"\\",
    b'{"a":[' + b":" * 500_000,
    b'{"a":[' + b"1,]" * 300_000,
    b'{"a":"' + b"x" * 1_000_000 + b'"}',
    b'{"a":"' + b"\\u0041" * 160_000 + b'"}',
    b" " * 1_000_000 + b'{"a":' + b"[]," * 200 + b"1}",
]
IDS = ["members", "numbers", "metadata", "metadata members", "arrays", "objects", "no colons", "escapes", "a lone backslash", "colons", "closers", "one text", "escaped text", "blanks"]  # fmt: skip


@pytest.mark.parametrize("raw", HUGE, ids=IDS)
@pytest.mark.parametrize("model", [TokenRefresh, NewPayment, Preferences])
def test_a_refused_body_takes_no_more_memory_than_its_size(model, raw):
    request = request_with(raw[:MIB])
    tracemalloc.start()
    try:
        with pytest.raises(DomainError):
            read_body(request, model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB


@pytest.mark.parametrize("raw", HUGE[:6], ids=IDS[:6])
def test_nothing_is_built_from_a_body_with_too_many_values(monkeypatch, raw):
    monkeypatch.setattr(json, "loads", lambda *_args, **_more: pytest.fail("it was built"))
    with pytest.raises((ValidationFailed, MalformedJson)):
        read_body(request_with(raw[:MIB]), NewPayment)


@pytest.mark.parametrize("raw", HUGE[6:11], ids=IDS[6:11])
def test_each_byte_is_read_once_also_in_invalid_json(raw):
    # Quadratic, this would take minutes.
    with pytest.raises((MalformedJson, ValidationFailed)):
        read_body(request_with(raw[:MIB]), NewPayment)


def test_numbers_with_hundreds_of_digits_cost_no_more_than_others():
    def refusal_s(number: bytes) -> float:
        raw = b'{"type": "payment", "amount": 1, "metadata": {"a": [' + b",".join([number] * 1900) + b"]}}"
        began = time.thread_time()
        with pytest.raises(ValidationFailed):
            read_body(request_with(raw), NewPayment)
        return time.thread_time() - began

    short, long = (min(refusal_s(b"0." + b"1" * digits) for _ in range(5)) for digits in (60, 500))
    assert long < 1.9 * short


@pytest.mark.parametrize("piece", [b"x", b" ", b"\\\\", b"\\\\u0000"])
def test_a_megabyte_of_text_is_checked_in_the_time_that_it_takes_to_parse(piece):
    raw = b'{"description": "' + piece * ((MIB - 20) // len(piece)) + b'"}'

    def seconds(read) -> float:
        began = time.thread_time()
        read()
        return time.thread_time() - began

    def refuse() -> None:
        with pytest.raises(ValidationFailed):
            read_body(request_with(raw), NewPayment)

    # A search of every character for NUL took thirty times as long, and kept all other clients waiting.
    parsing = min(seconds(lambda: json.loads(raw)) for _ in range(5))
    assert min(seconds(refuse) for _ in range(5)) < 15 * parsing + 0.005


def test_the_error_names_the_field_with_too_many_values(client):
    person = visitor(client)
    body = {"type": "payment", "amount": "1.00"}
    for more, field in (
        ({f"f{at}": 1 for at in range(100)}, "body"),
        ({"metadata": {"a": [0] * 5000}}, "metadata"),
    ):
        result = person.post("/payments", body | more)
        assert error(result) == (400, "VALIDATION_ERROR")
        assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [field]


def test_the_size_of_an_object_is_that_of_its_shortest_json():
    exact = {"a": "x" * 1016}
    assert len(json.dumps(exact, separators=(",", ":"))) == 1024
    assert require_json_size(exact, 1) == exact
    assert require_json_size({"a": [1.5] * 203}, 1)
    large: dict[str, Any]
    for large in ({"a": "x" * 1017}, {"a": [1e308] * 4}, {"a": [[]] * 340}, {"é" * 600: None}):
        with pytest.raises(ValueError, match="larger than 1 KiB"):
            require_json_size(large, 1)
    for unknown in ({"a": float("inf")}, {"a": "\ud800"}):
        with pytest.raises(ValueError, match="cannot represent"):
            require_json_size(unknown, 1)
