"""The signed-in user's preferences."""

import pytest

from db import users
from tests import makers
from tests.api.profile.audit_trail import audited
from tests.makers import error, invalid_fields

EVERYTHING = {
    "locale": "de-AT",
    "timezone": "Europe/Vienna",
    "theme": "dark",
    "notifications": {"paymentCompleted": False, "paymentFailed": True, "newsletter": False},
    "columns": ["amount", None, {"deep": [1, 2.5, "x", True]}],
    "model_config": {"": 1},
    "values": "🙂 Smith & Sons <b>as sent</b>",
}


def put(person, preferences):
    return person.send("PUT", "/profile/preferences", preferences)


def put_raw(person, body):
    headers = {"Content-Type": "application/json"}
    return person.send("PUT", "/profile/preferences", body=body, headers=headers)


def test_preferences_are_empty_at_first(person):
    result = person.get("/profile/preferences")
    assert (result.status_code, result.json["data"]) == (200, {})
    person.send("PUT", "/profile", {"bio": "hello"})
    assert person.get("/profile/preferences").json["data"] == {}


def test_preferences_are_returned_as_sent(person):
    result = put(person, EVERYTHING)
    assert (result.status_code, result.json["data"]) == (200, EVERYTHING)
    assert person.get("/profile/preferences").json["data"] == EVERYTHING


def test_a_change_replaces_the_whole_object_only(person):
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
def test_a_timezone_is_an_iana_name(person, timezone):
    assert put(person, {"timezone": timezone}).json["data"] == {"timezone": timezone}


@pytest.mark.parametrize(
    ("preferences", "invalid"),
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
        # Too large in bytes, not in characters.
        ({"big": ["ü"] * 3300, "theme": "dark"}, {"body"}),
    ],
)  # fmt: skip
def test_invalid_preferences_are_refused_as_a_whole(person, preferences, invalid):
    put(person, {"theme": "dark"})
    assert invalid_fields(put(person, preferences)) == invalid
    assert person.get("/profile/preferences").json["data"] == {"theme": "dark"}
    assert len(audited(person)) == 1


def test_sixteen_kibibytes_are_the_limit(person):
    available = 16 * 1024 - len('{"big":""}')
    assert put(person, {"big": "x" * available}).status_code == 200
    assert invalid_fields(put(person, {"big": "x" * (available + 1)})) == {"body"}


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
def test_malformed_json_is_refused(person, body, code):
    assert error(put_raw(person, body)) == (400, code)


@pytest.mark.parametrize("number", ["1e300", "-0.5", "1e-300", "12345678901234567890", "0.1"])
def test_numbers_keep_their_value(person, number):
    result = put_raw(person, f'{{"a": {number}}}'.encode())
    assert result.status_code == 200
    assert float(result.json["data"]["a"]) == float(number)


def test_preferences_decide_which_mails_are_sent(person):
    payer = users.User.get_by_id(person.user["id"])

    def mails_of_payments() -> list[str]:
        makers.mailbox.clear()
        for simulate in ("approve", "decline"):
            makers.payment(payer, simulate=simulate)
        makers.work()
        return sorted(mail["Subject"].rpartition(" ")[2] for mail in makers.mailbox)

    makers.work()
    assert mails_of_payments() == ["completed", "failed"]
    put(person, {"notifications": {"paymentCompleted": False}})
    assert mails_of_payments() == ["failed"]
    put(person, {})
    assert mails_of_payments() == ["completed", "failed"]


def test_a_change_is_audited_without_its_values(person):
    put(person, {"theme": "dark", "secret": "x"})
    assert audited(person) == [("profile.preferences.updated", {"keys": 2})]
