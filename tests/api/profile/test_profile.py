"""The signed-in user's profile."""

from datetime import datetime

import pytest

from actors.media import Media
from db import event_log, postgres, users
from db.users import Role
from tests.api.profile.audit_trail import audited
from tests.makers import error, invalid_fields, visitor, work

CONTACT = {"phone": "+4930123456", "address": "1 Long Lane\nOxford", "bio": "Smith & Sons, a < b 🙂"}


def put(person, **changes):
    return person.send("PUT", "/profile", changes)


def account_updated_at(person) -> datetime:
    """When the account was last changed."""
    user = users.get(person.user["id"])
    assert user is not None
    return user.updated_at


def test_a_new_profile_is_that_of_the_registration(person):
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
def test_every_role_has_a_profile_of_its_own(client, role):
    one, other = visitor(client, role), visitor(client, role)
    assert put(one, bio="one").status_code == 200
    assert one.get("/profile").json["data"]["bio"] == "one"
    assert other.get("/profile").json["data"]["bio"] is None


def test_a_changed_profile_is_returned_as_sent(person):
    result = put(person, **CONTACT)
    assert result.status_code == 200
    data = result.json["data"]
    assert data == person.get("/profile").json["data"]
    assert {name: data[name] for name in CONTACT} == CONTACT
    assert data["updatedAt"] > data["createdAt"]


def test_only_sent_fields_change_and_null_empties_one(person):
    put(person, **CONTACT)
    assert put(person, bio=None).json["data"]["bio"] is None
    data = put(person, phone=None).json["data"]
    assert (data["phone"], data["address"], data["name"]) == (None, CONTACT["address"], "Some One")


def test_markup_is_stripped(person):
    data = put(person, name="<b>Ro</b>bin", address="<i>here</i>", bio="hi<script>alert(1)</script>").json[
        "data"
    ]
    assert (data["name"], data["address"], data["bio"]) == ("Robin", "here", "hi")


@pytest.mark.parametrize(
    ("changes", "invalid"),
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
def test_an_invalid_change_is_refused_as_a_whole(person, changes, invalid):
    before = person.get("/profile").json["data"]
    assert invalid_fields(person.send("PUT", "/profile", changes)) == invalid
    assert person.get("/profile").json["data"] == before
    assert audited(person) == []


@pytest.mark.parametrize(
    "body", [b'{"bio": "\\u0000"}', b'{"bio": "\\ud800"}', b'{"bio": NaN}', b"[]", b"null", b"{"]
)
def test_malformed_json_is_refused(person, body):
    headers = {"Content-Type": "application/json"}
    assert error(person.send("PUT", "/profile", body=body, headers=headers)) == (400, "MALFORMED_JSON")


def test_texts_of_maximum_length_are_accepted(person):
    assert put(person, bio="ü" * 2000, address="🙂" * 500, name="n" * 255).status_code == 200


def test_a_new_name_changes_the_account_and_emits_an_event(person):
    before = account_updated_at(person)
    put(person, name="Robin Doe")
    me = person.get("/auth/me").json["data"]
    assert me["name"] == "Robin Doe"
    assert account_updated_at(person) > before
    work()
    emitted = [event for event in event_log.after(0, 1000) if event.type == "admin:user:updated"]
    assert [event.data for event in emitted] == [me]


def test_other_fields_emit_no_event(person):
    before = account_updated_at(person)
    put(person, name="Some One", bio="hello")
    work()
    assert account_updated_at(person) == before
    assert "admin:user:updated" not in [event.type for event in event_log.after(0, 1000)]


def test_a_change_is_audited_without_its_values(person):
    put(person, phone="+4930123456", bio="secret")
    put(person, name="Robin Doe")
    assert audited(person) == [
        ("profile.updated", {"fields": ["bio", "phone"]}),
        ("profile.updated", {"fields": ["name"]}),
    ]


def test_an_unchanged_profile_is_a_304(person):
    for path in ("/profile", "/profile/preferences"):
        etag = person.get(path).headers["ETag"]
        same = person.get(path, headers={"If-None-Match": etag})
        assert (same.status_code, same.content) == (304, b"")
    put(person, bio="new")
    etag = person.get("/profile").headers["ETag"]
    put(person, bio="newer")
    assert person.get("/profile", headers={"If-None-Match": etag}).status_code == 200


def test_an_account_that_is_being_closed_cannot_change_its_profile(client, person, monkeypatch):
    # The account is closed between the authentication and the change.
    monkeypatch.setattr(users, "locked", lambda _id: users.User(id=person.user["id"], active=False))
    for send in (
        lambda: put(person, bio="still here"),
        lambda: person.send("PUT", "/profile/preferences", {"theme": "dark"}),
        lambda: person.send("DELETE", "/profile/avatar"),
    ):
        assert error(send()) == (404, "NOT_FOUND")
    assert postgres.rows("SELECT FROM profile.user_profiles WHERE user_id = %s", person.user["id"]) == []


def test_an_avatar_address_is_absolute_or_a_path(settings):
    def address(public_url):
        return Media(settings.model_copy(update={"public_url": public_url})).public_url("avatars/a.webp")

    assert address("https://api.example.com") == "https://api.example.com/media/avatars/a.webp"
    assert address("") == "/media/avatars/a.webp"
