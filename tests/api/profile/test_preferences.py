"""How somebody likes things."""

import pytest

from db import profile
from tests.api.profile.asking import audited, fields
from tests.makers import error

EVERYTHING = {
    "locale": "de-AT",
    "timezone": "Europe/Vienna",
    "theme": "dark",
    "notifications": {"paymentCompleted": False, "paymentFailed": True, "newsletter": False},
    "columns": ["amount", None, {"deep": [1, 2.5, "x", True]}],
    "model_config": {"": 1},
    "values": "🙂 Smith & Sons <b>as it came</b>",
}


def put(person, wish):
    return person.send("PUT", "/profile/preferences", wish)


def put_raw(person, body):
    headers = {"Content-Type": "application/json"}
    return person.send("PUT", "/profile/preferences", body=body, headers=headers)


def test_who_said_nothing_prefers_nothing(person):
    result = person.get("/profile/preferences")
    assert (result.status_code, result.json["data"]) == (200, {})
    person.send("PUT", "/profile", {"bio": "hello"})
    assert person.get("/profile/preferences").json["data"] == {}


def test_everything_comes_back_as_it_came(person):
    result = put(person, EVERYTHING)
    assert (result.status_code, result.json["data"]) == (200, EVERYTHING)
    assert person.get("/profile/preferences").json["data"] == EVERYTHING


def test_a_change_replaces_the_whole_and_leaves_the_profile_alone(person):
    person.send("PUT", "/profile", {"bio": "hello"})
    put(person, EVERYTHING)
    assert put(person, {"theme": "light"}).json["data"] == {"theme": "light"}
    assert put(person, {}).json["data"] == {}
    assert person.get("/profile/preferences").json["data"] == {}
    assert person.get("/profile").json["data"]["bio"] == "hello"


@pytest.mark.parametrize(
    "locale",
    [
        "de",
        "de-AT",
        "zh-Hant-TW",
        "sr-Latn-RS",
        "es-419",
        "sl-rozaj-biske",
        "en-US-u-ca-buddhist",
        "de-DE-1996-x-old",
        "yue",
    ],
)
def test_a_locale_is_a_language_tag(person, locale):
    assert put(person, {"locale": locale}).json["data"] == {"locale": locale}


@pytest.mark.parametrize(
    "timezone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "Etc/GMT+3"]
)
def test_a_timezone_has_a_name(person, timezone):
    assert put(person, {"timezone": timezone}).json["data"] == {"timezone": timezone}


@pytest.mark.parametrize(
    ("wish", "wrong"),
    [
        ({"locale": "de_AT"}, {"locale"}),
        ({"locale": "x"}, {"locale"}),
        ({"locale": "de-"}, {"locale"}),
        ({"locale": "de\n"}, {"locale"}),
        ({"locale": "deutsch, bitte"}, {"locale"}),
        ({"locale": "en" + "-abcde" * 20}, {"locale"}),
        ({"locale": None}, {"locale"}),
        ({"timezone": "Mars/Olympus"}, {"timezone"}),
        ({"timezone": "europe/berlin"}, {"timezone"}),
        ({"timezone": "../../etc/passwd"}, {"timezone"}),
        ({"timezone": "Factory"}, {"timezone"}),
        ({"timezone": 1}, {"timezone"}),
        ({"theme": "pink"}, {"theme"}),
        ({"theme": None}, {"theme"}),
        ({"notifications": {"paymentCompleted": "no", "other": 1}}, {"notifications.paymentCompleted", "notifications.other"}),
        ({"notifications": []}, {"notifications"}),
        ({"notifications": False}, {"notifications"}),
        ({"theme": "pink", "locale": "?", "timezone": "?"}, {"theme", "locale", "timezone"}),
        ({"big": "x" * 16 * 1024}, {"body"}),
        # In bytes: as characters it would fit.
        ({"big": ["ü"] * 3300, "theme": "dark"}, {"body"}),
    ],
)  # fmt: skip
def test_what_cannot_be_preferred_is_refused_and_nothing_is_changed(person, wish, wrong):
    put(person, {"theme": "dark"})
    assert fields(put(person, wish)) == wrong
    assert person.get("/profile/preferences").json["data"] == {"theme": "dark"}
    assert len(audited(person)) == 1


def test_sixteen_kibibytes_are_taken_and_a_byte_more_is_not(person):
    room = 16 * 1024 - len('{"big":""}')
    assert put(person, {"big": "x" * room}).status_code == 200
    assert fields(put(person, {"big": "x" * (room + 1)})) == {"body"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": "\\u0000"}', "MALFORMED_JSON"),
        (b'{"\\u0000": 1}', "MALFORMED_JSON"),
        (b'{"a": NaN}', "MALFORMED_JSON"),
        (b'{"a": 1e999}', "VALIDATION_ERROR"),
        (b'{"a": "\\ud800"}', "MALFORMED_JSON"),
        (b'{"a": 1, "a": 2}', "MALFORMED_JSON"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "MALFORMED_JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "MALFORMED_JSON"),
        (b"[1]", "MALFORMED_JSON"),
        (b'"dark"', "MALFORMED_JSON"),
        (b"null", "MALFORMED_JSON"),
        (b"", "MALFORMED_JSON"),
    ],
)
def test_what_json_cannot_carry_is_a_400(person, body, code):
    assert error(put_raw(person, body)) == (400, code)


@pytest.mark.parametrize("number", ["1e300", "-0.5", "1e-300", "12345678901234567890", "0.1"])
def test_numbers_keep_their_value(person, number):
    result = put_raw(person, f'{{"a": {number}}}'.encode())
    assert result.status_code == 200
    assert float(result.json["data"]["a"]) == float(number)


def test_they_decide_which_mails_are_sent(person):
    id = person.user["id"]
    assert profile.wants_notification(id, "paymentCompleted")
    put(person, {"notifications": {"paymentCompleted": False}})
    assert not profile.wants_notification(id, "paymentCompleted")
    assert profile.wants_notification(id, "paymentFailed")
    put(person, {})
    assert profile.wants_notification(id, "paymentCompleted")


def test_a_change_is_audited_without_what_it_says(person):
    put(person, {"theme": "dark", "secret": "x"})
    assert audited(person) == [("profile.preferences.updated", {"keys": 2})]
