"""What somebody says about themselves."""

from datetime import datetime

import pytest

from actors.media import Media
from db import event_log, postgres, users
from db.users import Role
from tests.api.profile.asking import audited, fields
from tests.makers import error, visitor, work

SAID = {"phone": "+4930123456", "address": "1 Long Lane\nOxford", "bio": "Smith & Sons, a < b 🙂"}


def put(person, **wish):
    return person.send("PUT", "/profile", wish)


def moved(person) -> datetime:
    """When the account was changed last."""
    user = users.get(person.user["id"])
    assert user is not None
    return user.updated_at


def test_who_said_nothing_is_who_they_registered_as(person):
    result = person.get("/profile")
    assert result.status_code == 200
    assert result.json["data"] == {
        "userId": person.user["id"],
        "email": person.user["email"],
        "name": "Some One",
        "avatarUrl": None,
        "phone": None,
        "address": None,
        "bio": None,
        "createdAt": person.user["createdAt"],
        "updatedAt": person.user["updatedAt"],
    }


@pytest.mark.parametrize("role", list(Role))
def test_everybody_has_a_profile_of_their_own(client, role):
    one, other = visitor(client, role), visitor(client, role)
    assert put(one, bio="one").status_code == 200
    assert one.get("/profile").json["data"]["bio"] == "one"
    assert other.get("/profile").json["data"]["bio"] is None


def test_what_is_said_comes_back_as_it_was_said(person):
    result = put(person, **SAID)
    assert result.status_code == 200
    said = result.json["data"]
    assert said == person.get("/profile").json["data"]
    assert {name: said[name] for name in SAID} == SAID
    assert said["updatedAt"] > said["createdAt"]


def test_only_what_is_named_is_changed_and_null_takes_it_back(person):
    put(person, **SAID)
    assert put(person, bio=None).json["data"]["bio"] is None
    said = put(person, phone=None).json["data"]
    assert (said["phone"], said["address"], said["name"]) == (None, SAID["address"], "Some One")


def test_markup_is_taken_out(person):
    said = put(person, name="<b>Ro</b>bin", address="<i>here</i>", bio="hi<script>alert(1)</script>").json[
        "data"
    ]
    assert (said["name"], said["address"], said["bio"]) == ("Robin", "here", "hi")


@pytest.mark.parametrize(
    ("wish", "wrong"),
    [
        ({}, {"body"}),
        ({"phone": "030 123456"}, {"phone"}),
        ({"phone": "+0301234"}, {"phone"}),
        ({"phone": "+4930123456789012"}, {"phone"}),
        ({"phone": "+49 30 1"}, {"phone"}),
        ({"phone": "+4930123456\n"}, {"phone"}),
        ({"phone": 4930123456}, {"phone"}),
        ({"phone": ""}, {"phone"}),
        ({"bio": "x" * 2001, "address": "x" * 501, "name": "x" * 256}, {"bio", "address", "name"}),
        ({"bio": 1, "address": [], "name": True}, {"bio", "address", "name"}),
        ({"name": None}, {"name"}),
        ({"name": "  "}, {"name"}),
        ({"name": "<b></b>"}, {"name"}),
        ({"name": "Jo\nBloggs"}, {"name"}),
        ({"email": "other@example.com"}, {"email"}),
        ({"userId": "x", "avatarUrl": "https://evil.example/x.png"}, {"userId", "avatarUrl"}),
        ({"role": "ADMIN"}, {"role"}),
        ({"bio": "fine", "colour": "red"}, {"colour"}),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_is_changed(person, wish, wrong):
    before = person.get("/profile").json["data"]
    assert fields(person.send("PUT", "/profile", wish)) == wrong
    assert person.get("/profile").json["data"] == before
    assert audited(person) == []


@pytest.mark.parametrize(
    "body", [b'{"bio": "\\u0000"}', b'{"bio": "\\ud800"}', b'{"bio": NaN}', b"[]", b"null", b"{"]
)
def test_what_is_no_object_of_text_is_a_400(person, body):
    headers = {"Content-Type": "application/json"}
    assert error(person.send("PUT", "/profile", body=body, headers=headers)) == (400, "MALFORMED_JSON")


def test_the_longest_texts_are_taken(person):
    assert put(person, bio="ü" * 2000, address="🙂" * 500, name="n" * 255).status_code == 200


def test_another_name_is_the_accounts_and_is_told(person):
    before = moved(person)
    put(person, name="Robin Doe")
    me = person.get("/auth/me").json["data"]
    assert me["name"] == "Robin Doe"
    assert moved(person) > before
    work()
    told = [event for event in event_log.after(0, 1000) if event.type == "admin:user:updated"]
    assert [event.data for event in told] == [me]


def test_what_is_not_the_accounts_is_not_told(person):
    before = moved(person)
    put(person, name="Some One", bio="hello")
    work()
    assert moved(person) == before
    assert "admin:user:updated" not in [event.type for event in event_log.after(0, 1000)]


def test_every_change_is_audited_without_what_was_said(person):
    put(person, phone="+4930123456", bio="secret")
    put(person, name="Robin Doe")
    assert audited(person) == [
        ("profile.updated", {"fields": ["bio", "phone"]}),
        ("profile.updated", {"fields": ["name"]}),
    ]


def test_what_has_not_changed_is_not_sent_again(person):
    for path in ("/profile", "/profile/preferences"):
        etag = person.get(path).headers["ETag"]
        same = person.get(path, headers={"If-None-Match": etag})
        assert (same.status_code, same.content) == (304, b"")
    put(person, bio="new")
    etag = person.get("/profile").headers["ETag"]
    put(person, bio="newer")
    assert person.get("/profile", headers={"If-None-Match": etag}).status_code == 200


def test_who_is_being_closed_says_nothing_more(client, person, monkeypatch):
    # As if the account were closed between the gate and the change.
    monkeypatch.setattr(users, "locked", lambda _id: users.User(id=person.user["id"], active=False))
    for send in (
        lambda: put(person, bio="still here"),
        lambda: person.send("PUT", "/profile/preferences", {"theme": "dark"}),
        lambda: person.send("DELETE", "/profile/avatar"),
    ):
        assert error(send()) == (404, "NOT_FOUND")
    assert postgres.rows("SELECT FROM profile.user_profiles WHERE user_id = %s", person.user["id"]) == []


def test_an_address_of_a_picture_is_absolute_or_a_path(settings):
    def address(public_url):
        return Media(settings.model_copy(update={"public_url": public_url})).public_url("avatars/a.webp")

    assert address("https://api.example.com") == "https://api.example.com/media/avatars/a.webp"
    assert address("") == "/media/avatars/a.webp"
